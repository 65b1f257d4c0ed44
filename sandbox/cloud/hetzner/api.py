"""The emulated Hetzner Cloud API: authentication, rate limit, actions, and all routes."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.cloud.hetzner import errors, lists
from sandbox.cloud.hetzner.firewalls import Firewalls
from sandbox.cloud.hetzner.offers import Offers
from sandbox.cloud.hetzner.primary_ips import PrimaryIps
from sandbox.cloud.hetzner.project import Project
from sandbox.cloud.hetzner.servers import Servers
from sandbox.cloud.hetzner.ssh_keys import SshKeys
from sandbox.cloud.tokens import Tokens
from sandbox.cloud.web import READING

REQUESTS_AN_HOUR = 3600
"""https://docs.hetzner.cloud/reference/cloud#rate-limiting: refills by one request a second."""


class Actions:
    """The routes that tell how an action goes, over all objects and under each."""

    def __init__(self, project: Project) -> None:
        self._actions = project.state.actions

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        routes = [Route("/actions", self.index), Route("/actions/{action:int}", self.get)]
        for kind in ("servers", "primary_ips", "firewalls"):
            routes += [
                Route(f"/{kind}/actions", self.index),
                Route(f"/{kind}/actions/{{action:int}}", self.get),
                Route(f"/{kind}/{{id:int}}/actions", self.index),
                Route(f"/{kind}/{{id:int}}/actions/{{action:int}}", self.get),
            ]
        return routes

    async def index(self, request: Request) -> Response:
        """List, of one object where the path names it, or by the query's ids."""
        rows = list(self._actions.values())
        if wanted := request.query_params.getlist("id"):
            rows = [action for action in rows if str(action.id) in wanted]
        if (owner := request.path_params.get("id")) is not None:
            rows = [action for action in rows if any(r.id == owner for r in action.resources)]
        return lists.answer(request, "actions", (action.model_dump() for action in rows))

    async def get(self, request: Request) -> Response:
        """Get one."""
        identifier = request.path_params["action"]
        if identifier not in self._actions:
            raise errors.not_found("action", identifier)
        return JSONResponse({"action": self._actions[identifier].model_dump()})


class RateLimit:
    """Counts requests as the vendor does, and says so in headers."""

    def __init__(self, app: ASGIApp, limit: int = REQUESTS_AN_HOUR) -> None:
        self._app, self._limit = app, limit
        self._left, self._at = float(limit), time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        now = time.monotonic()
        self._left = min(self._limit, self._left + (now - self._at) * self._limit / 3600)
        self._at = now
        allowed = self._left >= 1
        if allowed:
            self._left -= 1
        seconds_to_full = (self._limit - self._left) * 3600 / self._limit
        headers = [
            (b"ratelimit-limit", str(self._limit).encode()),
            (b"ratelimit-remaining", str(int(self._left)).encode()),
            (b"ratelimit-reset", str(int(time.time() + seconds_to_full)).encode()),
        ]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        if allowed:
            await self._app(scope, receive, with_headers)
        else:
            await errors.rate_limited().response()(scope, receive, with_headers)


class Authenticated:
    """Checks the bearer token."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            await refusal.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> errors.HetznerError | None:
        scheme, _, token = Request(scope).headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            return errors.unauthorized()
        if hmac.compare_digest(token, self._tokens.hcloud):
            return None
        if self._tokens.hcloud_read and hmac.compare_digest(token, self._tokens.hcloud_read):
            return None if scope["method"] in READING else errors.token_readonly()
        return errors.unauthorized()


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.HetznerError)
    return error.response()


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "server_error")
    return errors.HetznerError(error.status_code, code, error.detail.lower()).response()


async def _failed(_: Request, error: Exception) -> Response:
    return errors.HetznerError(500, "server_error", f"{type(error).__name__}: {error}").response()


Handler = Callable[[Request, Exception], Awaitable[Response]]


def build(project: Project, tokens: Tokens, limit: int = REQUESTS_AN_HOUR) -> ASGIApp:
    """Put the API together."""
    offers, ips = Offers(project), PrimaryIps(project)
    routes = [
        *Actions(project).routes(),
        *Servers(project, ips, offers).routes(),
        *ips.routes(),
        *Firewalls(project).routes(),
        *SshKeys(project).routes(),
        *offers.routes(),
    ]
    handlers: dict[int | type[Exception], Handler] = {
        errors.HetznerError: _refused,
        HTTPException: _no_route,
        Exception: _failed,
    }
    app = Starlette(
        routes=[Mount("/v1", routes=routes)],
        exception_handlers=handlers,
    )
    return RateLimit(Authenticated(app, tokens), limit)
