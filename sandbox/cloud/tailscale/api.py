"""The emulated Tailscale API: keys, the policy, devices."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from sandbox.cloud.tailnet import Tailnet, TailnetError, TailnetNode
from sandbox.cloud.tailscale import policy
from sandbox.cloud.tailscale.domain import (
    DEFAULT_POLICY,
    LONGEST_KEY,
    CreateKey,
    JsonObject,
    Key,
    TailscaleState,
    now,
    stamp,
)
from sandbox.cloud.tailscale.errors import TailscaleError
from sandbox.cloud.tokens import Tokens

_DESCRIPTION = re.compile(r"[A-Za-z0-9 -]{0,50}")
HUJSON = "application/hujson"
Result = TypeVar("Result")
Handler = Callable[[Request, Exception], Awaitable[Response]]


class TailscaleApi:
    """The routes under /api/v2."""

    def __init__(self, state: TailscaleState, tailnet: Tailnet, tokens: Tokens) -> None:
        self._state, self._tailnet, self._token = state, tailnet, tokens.tailscale

    def build(self) -> ASGIApp:
        """Put the API together."""
        keys, acl = "/tailnet/{tailnet}/keys", "/tailnet/{tailnet}/acl"
        table = [
            (keys, "GET", self.keys),
            (keys, "POST", self.create_key),
            (f"{keys}/{{id}}", "GET", self.key),
            (f"{keys}/{{id}}", "DELETE", self.delete_key),
            (acl, "GET", self.policy),
            (acl, "POST", self.set_policy),
            (f"{acl}/validate", "POST", self.validate),
            ("/tailnet/{tailnet}/devices", "GET", self.devices),
            ("/device/{id}", "GET", self.device),
            ("/device/{id}", "DELETE", self.delete_device),
        ]
        routes = [
            Route(path, self._guarded(call), methods=[method]) for path, method, call in table
        ]
        handlers: dict[int | type[Exception], Handler] = {
            TailscaleError: _refused,
            TailnetError: _unreachable,
            HTTPException: _no_route,
        }
        return Starlette(routes=[Mount("/api/v2", routes=routes)], exception_handlers=handlers)

    # Keys

    async def keys(self, request: Request) -> Response:
        """List."""
        rows = [{"id": k.id, "description": k.description} for k in self._state.keys.values()]
        return JSONResponse({"keys": rows})

    async def create_key(self, request: Request) -> Response:
        """Create; the only answer that holds the secret."""
        try:
            wanted = CreateKey.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise TailscaleError(400, f"{where}: {first['msg']}") from None
        create = wanted.capabilities.devices.create
        seconds = wanted.expiry_seconds or LONGEST_KEY
        if not 1 <= seconds <= LONGEST_KEY:
            raise TailscaleError(400, f"expirySeconds must be between 1 and {LONGEST_KEY}")
        if not _DESCRIPTION.fullmatch(wanted.description):
            raise TailscaleError(
                400, "description may have 50 letters, digits, spaces and hyphens at most"
            )
        if not create.tags:
            raise TailscaleError(400, "this sandbox's tailnet has no people: a key needs tags")
        policy.check_tags(create.tags, policy.check(self._state.policy))
        identifier, secret = await self._ask(
            lambda: self._tailnet.create_preauth_key(
                create.tags, create.reusable, create.ephemeral, seconds
            )
        )
        created = now()
        key = Key(
            id=identifier,
            description=wanted.description,
            created=created,
            expires=created + timedelta(seconds=seconds),
            capabilities=wanted.capabilities,
        )
        self._state.keys[key.id] = key
        return JSONResponse({**_key_body(key), "key": secret})

    async def key(self, request: Request) -> Response:
        """Get one, without the secret."""
        return JSONResponse(_key_body(self._find_key(request)))

    async def delete_key(self, request: Request) -> Response:
        """Revoke and forget."""
        key = self._find_key(request)
        await self._ask(lambda: self._tailnet.expire_key(key.id))
        self._state.keys.pop(key.id, None)
        return JSONResponse(None)

    # Policy

    async def policy(self, request: Request) -> Response:
        """Get the policy, as posted or as plain JSON."""
        return self._policy_answer(request)

    async def set_policy(self, request: Request) -> Response:
        """Replace the policy, if it is still the one that If-Match names."""
        text = (await request.body()).decode()
        expected = request.headers.get("if-match")
        untouched = expected == '"ts-default"' and self._state.policy == DEFAULT_POLICY
        if expected is not None and expected != self._state.etag and not untouched:
            raise TailscaleError(412, "precondition failed, invalid old hash")
        rendered = policy.for_headscale(policy.check(text))
        try:
            await self._ask(lambda: self._tailnet.set_policy(rendered))
        except TailnetError as error:
            raise TailscaleError(400, f"policy refused: {error}") from None
        self._state.policy = text
        return self._policy_answer(request)

    async def validate(self, request: Request) -> Response:
        """Check a policy without setting it. As at the vendor, a finding is no error status."""
        try:
            policy.check((await request.body()).decode())
        except TailscaleError as error:
            return JSONResponse({"message": error.message, "data": []})
        return JSONResponse({})

    def _policy_answer(self, request: Request) -> Response:
        headers = {"ETag": self._state.etag}
        if HUJSON in request.headers.get("accept", ""):
            return Response(self._state.policy, media_type=HUJSON, headers=headers)
        return JSONResponse(policy.check(self._state.policy), headers=headers)

    # Devices

    async def devices(self, request: Request) -> Response:
        """List the machines that joined."""
        nodes = await self._ask(self._tailnet.nodes)
        return JSONResponse({"devices": [_device_body(node) for node in nodes]})

    async def device(self, request: Request) -> Response:
        """Get one."""
        return JSONResponse(_device_body(await self._find_node(request)))

    async def delete_device(self, request: Request) -> Response:
        """Remove a machine from the tailnet."""
        node = await self._find_node(request)
        await self._ask(lambda: self._tailnet.delete_node(node.id))
        return JSONResponse(None)

    # Shared

    async def _ask(self, call: Callable[[], Result]) -> Result:
        return await asyncio.to_thread(call)

    def _find_key(self, request: Request) -> Key:
        key = self._state.keys.get(request.path_params["id"])
        if key is None:
            raise TailscaleError(404, "not found")
        return key

    async def _find_node(self, request: Request) -> TailnetNode:
        for node in await self._ask(self._tailnet.nodes):
            if node.id == request.path_params["id"]:
                return node
        raise TailscaleError(404, "no such device")

    def _guarded(
        self, call: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guard(request: Request) -> Response:
            if not hmac.compare_digest(_token(request).encode(), self._token.encode()):
                raise TailscaleError(401, "API token invalid")
            return await call(request)

        return guard


def _token(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme == "Basic":  # the token as the user's name, no password
        try:
            return base64.b64decode(value).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return value if scheme == "Bearer" else ""


def _key_body(key: Key) -> JsonObject:
    body = {
        "id": key.id,
        "keyType": "auth",
        "description": key.description,
        "created": stamp(key.created),
        "expires": stamp(key.expires),
        "expirySeconds": int((key.expires - key.created).total_seconds()),
        "capabilities": key.capabilities.model_dump(),
    }
    if key.expires <= now():
        body["invalid"] = True
    return body


def _device_body(node: TailnetNode) -> JsonObject:
    return {
        "id": node.id,
        "nodeId": node.id,
        "name": node.name,
        "hostname": node.name,
        "addresses": list(node.addresses),
        "tags": list(node.tags),
        "user": node.user,
        "created": node.created,
        "lastSeen": node.last_seen,
        "authorized": True,
        "connectedToControl": node.online,
    }


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, TailscaleError)
    return error.response()


async def _unreachable(_: Request, error: Exception) -> Response:
    return TailscaleError(500, f"internal server error: {error}").response()


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return TailscaleError(error.status_code, error.detail.lower()).response()
