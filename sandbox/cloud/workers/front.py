"""The door to Workers for machines that cannot resolve the zone's names.

At the vendor a Worker answers on names alone. Here a request that carries no such name, since its
host is an address, goes to the Worker that has a name; there must be one.
"""

from __future__ import annotations

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox.cloud.cloudflare.domain import CloudflareState
from sandbox.cloud.workers.runtime import WorkerAnswer, WorkerRuntime

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


class WorkersFront:
    """Passes requests to Workers."""

    def __init__(self, state: CloudflareState, runtime: WorkerRuntime) -> None:
        self._state, self._runtime = state, runtime

    def build(self) -> ASGIApp:
        """Put it together."""
        return Starlette(routes=[Route("/{path:path}", self.serve, methods=METHODS)])

    async def serve(self, request: Request) -> Response:
        """Serve one request."""
        name = self._runtime.at(request.url.hostname or "") or self._only()
        if name is None:
            return PlainTextResponse("error code: 1042: no Worker answers here\n", 404)
        query = request.scope["query_string"].decode()
        path = request.scope["raw_path"].decode() + (f"?{query}" if query else "")
        headers = {n: v for n, v in request.headers.items() if n.lower() not in HOP_BY_HOP}
        headers["cf-connecting-ip"] = request.client.host if request.client else ""
        try:
            answer = await self._runtime.ask(
                name, request.method, path, headers, await request.body()
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            return PlainTextResponse(f"error code: 1101: {type(error).__name__}\n", 500)
        return _response(answer)

    def _only(self) -> str | None:
        named = {domain.service for domain in self._state.worker_domains.values()}
        return named.pop() if len(named) == 1 else None


def _response(answer: WorkerAnswer) -> Response:
    response = Response(answer.body, answer.status)
    kept = [(n, v) for n, v in answer.headers if n.lower() not in {*HOP_BY_HOP, "content-length"}]
    for name, value in kept:
        response.headers.append(name, value)
    return response
