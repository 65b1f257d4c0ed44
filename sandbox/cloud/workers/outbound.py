"""What a Worker can reach: the vendor's API, and hosts of the zone as the edge reaches origins.

Everything else has no record here, so that a Worker under test never calls anybody outside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import aiohttp
from aiohttp import web
from yarl import URL

from sandbox.cloud.cloudflare.domain import CloudflareState
from sandbox.cloud.cloudflare.zones import setting
from sandbox.cloud.edge.health import HealthChecks
from sandbox.cloud.edge.origin import EdgeError, OriginClient, origin_error
from sandbox.cloud.edge.routing import NO_RECORD, Target, records_for, route
from sandbox.cloud.workers.config import SCHEME_HEADER

log = logging.getLogger("sandbox.cloud.requests")

VENDOR_API = "api.cloudflare.com"
ANSWER_SECONDS = 30.0
_NOT_PASSED_ON = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        SCHEME_HEADER.lower(),
    }
)


class Outbound:
    """A proxy for the requests that Workers make."""

    def __init__(
        self,
        state: CloudflareState,
        health: HealthChecks,
        client: OriginClient,
        api: Callable[[], str],
    ) -> None:
        self._state, self._health, self._client = state, health, client
        self._api = api
        """Base URL of the emulated API, once it listens."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request; its Host header says where it goes."""
        scheme = request.headers.get(SCHEME_HEADER, "https")
        url = URL(f"{scheme}://{request.headers['Host']}{request.raw_path}", encoded=True)
        body = await request.read()
        response = await self._serve(request, url, body)
        log.info("outbound %s %s%s %d", request.method, url.host, url.path, response.status)
        return response

    async def _serve(self, request: web.BaseRequest, url: URL, body: bytes) -> web.Response:
        headers = {n: v for n, v in request.headers.items() if n.lower() not in _NOT_PASSED_ON}
        try:
            if str(url.origin()) == self._api() or url.host == VENDOR_API:
                # Not from the edge's address: the API listens on loopback.
                async with aiohttp.request(
                    request.method,
                    _moved(url, self._api()),
                    headers=headers,
                    data=body or None,
                    timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
                ) as answer:
                    return await _copy(answer)
            target = self._origin(url.host or "")
            if target is None:
                return _page(EdgeError(NO_RECORD.status, NO_RECORD.reason))
            async with self._client.session.request(
                request.method,
                _moved(url, self._client.url(url.scheme, target.address, target.port)),
                headers={**headers, "Host": url.host or ""},
                data=body or None,
                ssl=self._client.context(setting(self._state, "ssl")),
                server_hostname=url.host if url.scheme == "https" else None,
                allow_redirects=False,
            ) as answer:
                return await _copy(answer)
        except (aiohttp.ClientError, OSError) as error:
            return _page(origin_error(error))

    def _origin(self, host: str) -> Target | None:
        found = route(self._state, self._health.healthy, host)
        if isinstance(found, Target):
            return found
        # A name without the edge in front leads straight to its address.
        plain = [r for r in records_for(self._state, host) if r.type == "A" and not r.proxied]
        return Target(plain[0].content) if plain else None


def _moved(url: URL, base: str) -> URL:
    return URL(f"{base}{url.raw_path_qs}", encoded=True)


async def _copy(answer: aiohttp.ClientResponse) -> web.Response:
    kind = answer.headers.get("Content-Type", "application/octet-stream")
    return web.Response(
        status=answer.status, body=await answer.read(), headers={"Content-Type": kind}
    )


def _page(error: EdgeError) -> web.Response:
    return web.Response(status=error.status, text=f"{error.title}\n")
