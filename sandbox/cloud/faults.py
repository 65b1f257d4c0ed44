"""Faults that a test or an operator puts into the emulated vendors.

A fault matches requests by vendor, method and path, acts `count` times, and is then gone. Two
kinds do not act on requests but on what the vendor has left: `sold_out` (a server type in a
location) and `quota` (the most objects of a kind).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("sandbox.cloud.requests")

Vendor = Literal["hetzner", "cloudflare", "tailscale", "s3", "workers"]


class SoldOut(BaseModel):
    """A server type that cannot be had in a location."""

    model_config = ConfigDict(extra="forbid")
    type: str
    location: str


class Quota(BaseModel):
    """The most objects of a kind (servers, primary_ips, firewalls, ssh_keys) that may exist."""

    model_config = ConfigDict(extra="forbid")
    resource: str
    limit: int = Field(ge=0)


class Fault(BaseModel):
    """One fault, as posted to the control API."""

    model_config = ConfigDict(extra="forbid")
    id: int = 0
    vendor: Vendor
    method: str | None = None
    path_regex: str = ""
    status: int | None = Field(default=None, ge=400, le=599)
    body: Any = None
    headers: dict[str, str] = {}
    delay: float = Field(default=0.0, ge=0)
    """Seconds to wait first."""
    drop: bool = False
    """Cut the connection without an answer."""
    after: bool = False
    """Let the vendor do the work, then fail: the answer is lost, the effect is not."""
    sold_out: SoldOut | None = None
    quota: Quota | None = None
    count: int | None = Field(default=1, ge=1)
    """How many requests it acts on; null for all. Of no meaning for sold_out and quota."""

    @model_validator(mode="after")
    def _acts(self) -> Fault:
        re.compile(self.path_regex)
        if self.status is None and not (self.delay or self.drop or self.sold_out or self.quota):
            raise ValueError("a fault needs one of status, delay, drop, sold_out, quota")
        return self

    @property
    def acts_on_requests(self) -> bool:
        """Whether requests trigger it."""
        return self.sold_out is None and self.quota is None


class Faults:
    """The faults in force."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self.active: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force; return it with its id."""
        fault = fault.model_copy(update={"id": next(self._ids)})
        self.active.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> int:
        """Lift one fault, or all; return how many were lifted."""
        kept = [f for f in self.active if fault_id is not None and f.id != fault_id]
        lifted = len(self.active) - len(kept)
        self.active = kept
        return lifted

    def take(self, vendor: Vendor, method: str, path: str) -> Fault | None:
        """Find the fault for a request and count it."""
        for fault in self.active:
            if not fault.acts_on_requests or fault.vendor != vendor:
                continue
            if fault.method is not None and fault.method.upper() != method:
                continue
            if not re.search(fault.path_regex, path):
                continue
            if fault.count is not None:
                fault.count -= 1
                if fault.count == 0:
                    self.active.remove(fault)
            return fault
        return None

    def sold_out(self, server_type: str, location: str) -> bool:
        """Tell whether a server type cannot be had in a location."""
        wanted = SoldOut(type=server_type, location=location)
        return any(fault.sold_out == wanted for fault in self.active)

    def quota(self, resource: str) -> int | None:
        """Return the limit set for a kind of object, None when there is none."""
        limits = [f.quota.limit for f in self.active if f.quota and f.quota.resource == resource]
        return min(limits, default=None)


class FaultyApp:
    """Puts the faults of one vendor in front of its application. Must be the outermost layer."""

    def __init__(self, app: ASGIApp, faults: Faults, vendor: Vendor) -> None:
        self._app, self._faults, self._vendor = app, faults, vendor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        fault = None
        if scope["type"] == "http":
            fault = self._faults.take(self._vendor, scope["method"], scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
            return
        log.info("%s %s %s fault %d", self._vendor, scope["method"], scope["path"], fault.id)
        await asyncio.sleep(fault.delay)
        if fault.after:
            await self._app(scope, receive, _swallow)
        if fault.drop:
            await _cut(receive, send)
        elif fault.status is not None:
            await _answer(fault)(scope, receive, send)
        elif not fault.after:
            await self._app(scope, receive, send)


async def _swallow(message: Message) -> None:
    pass


async def _cut(receive: Receive, send: Send) -> None:
    # ASGI cannot express a cut connection; uvicorn's send is a method of the object that owns
    # the transport.
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("drop works behind uvicorn only")
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


def _answer(fault: Fault) -> Response:
    status = fault.status or 500
    if isinstance(fault.body, str):
        return Response(fault.body, status, headers=fault.headers)
    return JSONResponse(fault.body, status, headers=fault.headers)
