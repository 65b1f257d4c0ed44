"""The emulated Cloudflare API: authentication, identifiers, and all routes."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from sandbox.cloud.cloudflare import errors
from sandbox.cloud.cloudflare.balancing import Balancing, Health
from sandbox.cloud.cloudflare.certificates import OriginCa
from sandbox.cloud.cloudflare.domain import CloudflareState
from sandbox.cloud.cloudflare.records import Records
from sandbox.cloud.cloudflare.rulesets import Rulesets
from sandbox.cloud.cloudflare.workers import Deploy, Remove, Workers
from sandbox.cloud.cloudflare.zones import Zones
from sandbox.cloud.tokens import Tokens

PREFIX = "/client/v4"
OPEN = ("/ips",)
"""Paths that need no token."""

Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Request, Exception], Awaitable[Response]]


def build(
    state: CloudflareState,
    tokens: Tokens,
    ca_dir: Path,
    edge_networks: tuple[str, ...],
    health: Health,
    deploy: Deploy,
    remove: Remove,
) -> ASGIApp:
    """Put the API together."""
    routes = [
        *Zones(state, edge_networks).routes(),
        *Records(state).routes(),
        *Balancing(state, health).routes(),
        *Rulesets(state).routes(),
        *OriginCa(state, ca_dir).routes(),
        *Workers(state, deploy, remove).routes(),
    ]
    handlers: dict[int | type[Exception], Handler] = {
        errors.CloudflareError: _refused,
        HTTPException: _no_route,
        Exception: _failed,
    }
    guarded = [_guarded(route, state, tokens) for route in routes]
    return Starlette(routes=[Mount(PREFIX, routes=guarded)], exception_handlers=handlers)


def _guarded(route: Route, state: CloudflareState, tokens: Tokens) -> Route:
    """Check the token and the identifiers in the path before an endpoint runs."""
    endpoint: Endpoint = route.endpoint

    async def guard(request: Request) -> Response:
        if route.path not in OPEN:
            _authenticate(request, tokens)
        for name, owned in (("zone", state.zone_id), ("account", state.account_id)):
            given = request.path_params.get(name, owned)
            if given != owned:
                if len(given) != len(owned):
                    raise errors.no_route(request.url.path.removeprefix(PREFIX))
                raise errors.authentication()
        return await endpoint(request)

    return Route(route.path, guard, methods=list(route.methods or ["GET"]))


def _authenticate(request: Request, tokens: Tokens) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        raise errors.headers()
    if tokens.cloudflare_dns and hmac.compare_digest(
        token.encode(), tokens.cloudflare_dns.encode()
    ):
        if "/dns_records" not in request.url.path:
            raise errors.authentication()
        return
    if not hmac.compare_digest(token.encode(), tokens.cloudflare.encode()):
        if request.url.path == f"{PREFIX}/user/tokens/verify":
            raise errors.CloudflareError(401, 1000, "Invalid API Token")
        raise errors.authentication()


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.CloudflareError)
    return error.response()


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return errors.CloudflareError(405, 10405, "Method not allowed").response()
    return errors.no_route(request.url.path.removeprefix(PREFIX)).response()


async def _failed(_: Request, error: Exception) -> Response:
    message = f"Internal server error: {type(error).__name__}: {error}"
    return errors.CloudflareError(500, 1000, message).response()
