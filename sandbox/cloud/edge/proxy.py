"""The edge: a streaming reverse proxy for the zone's proxied names.

HTTP/1.1 and WebSockets; the vendor's HTTP/2 and HTTP/3 towards visitors are not emulated, nor are
caching and the rules of rulesets.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import ssl
import time

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from sandbox.cloud.cloudflare.domain import CloudflareState
from sandbox.cloud.cloudflare.zones import setting
from sandbox.cloud.edge.health import HealthChecks
from sandbox.cloud.edge.origin import EdgeError, OriginClient, origin_error
from sandbox.cloud.edge.routing import Target, Unroutable, route
from sandbox.cloud.workers.runtime import WorkerRuntime

log = logging.getLogger("sandbox.cloud.requests")

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_WEBSOCKET = frozenset(
    {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "host"}
)
# Today's OpenSSL builds refuse 1.0 and 1.1, so a zone that would allow them gets 1.2 here.
_TLS = {
    "1.0": ssl.TLSVersion.TLSv1_2,
    "1.1": ssl.TLSVersion.TLSv1_2,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
CHUNK = 256 * 1024
SETTINGS_SECONDS = 0.2


class Edge:
    """Serves visitors on its listeners."""

    def __init__(
        self,
        state: CloudflareState,
        health: HealthChecks,
        client: OriginClient,
        tls: ssl.SSLContext,
        https_port: int,
        workers: WorkerRuntime,
    ) -> None:
        self._state, self._health, self._client = state, health, client
        self._tls, self._https_port = tls, https_port
        self._workers = workers

    async def follow_settings(self) -> None:
        """Keep the TLS context at the zone's minimum version until cancelled."""
        while True:
            wanted = _TLS[setting(self._state, "min_tls_version")]
            if self._tls.minimum_version != wanted:
                self._tls.minimum_version = wanted
            await asyncio.sleep(SETTINGS_SECONDS)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request of a visitor, and log it."""
        started = time.perf_counter()
        ray = f"{secrets.token_hex(8)}-SBX"
        response = await self._serve(request, ray)
        milliseconds = (time.perf_counter() - started) * 1000
        log.info(
            "edge %s %s%s %d %.1fms",
            request.method,
            request.host,
            request.path,
            response.status,
            milliseconds,
        )
        return response

    async def _serve(self, request: web.BaseRequest, ray: str) -> web.StreamResponse:
        host = request.host.partition(":")[0].lower()
        if request.scheme == "http" and setting(self._state, "always_use_https") == "on":
            port = "" if self._https_port == 443 else f":{self._https_port}"
            location = f"https://{host}{port}{request.raw_path}"
            return web.Response(status=301, headers={"Location": location, "CF-Ray": ray})
        if worker := self._workers.at(host):
            return await self._ask_worker(request, worker, host, ray)
        target = route(self._state, self._health.healthy, host)
        if isinstance(target, Unroutable):
            error = EdgeError(target.status, f"{target.reason} (error {target.code})")
            return _page(error, host, ray)
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._websocket(request, target, host, ray)
            return await self._forward(request, target, host, ray)
        except (aiohttp.ClientError, OSError) as error:
            return _page(origin_error(error), host, ray)

    async def _ask_worker(
        self, request: web.BaseRequest, worker: str, host: str, ray: str
    ) -> web.StreamResponse:
        headers = _request_headers(request, Target(""), request.host, ray)
        try:
            answer = await self._workers.ask(
                worker, request.method, request.raw_path, headers, await request.read()
            )
        except (aiohttp.ClientError, TimeoutError):
            return _page(EdgeError(500, "Worker threw exception (error 1101)"), host, ray)
        response = web.Response(status=answer.status, body=answer.body)
        for name, value in answer.headers:
            if name.lower() not in {*_HOP_BY_HOP, "content-length", "content-type"}:
                response.headers.add(name, value)
            elif name.lower() == "content-type":
                response.headers["Content-Type"] = value
        _mark(response, ray)
        return response

    def _scheme(self, request: web.BaseRequest) -> str:
        mode = setting(self._state, "ssl")
        # "full" follows the visitor's scheme; "flexible" and "off" never use TLS to the origin.
        return "https" if request.scheme == "https" and mode in ("full", "strict") else "http"

    async def _forward(
        self, request: web.BaseRequest, target: Target, host: str, ray: str
    ) -> web.StreamResponse:
        scheme, mode = self._scheme(request), setting(self._state, "ssl")
        headers = _request_headers(request, target, host, ray)
        url = self._client.url(scheme, target.address, target.port)
        async with self._client.session.request(
            request.method,
            URL(url + request.raw_path, encoded=True),
            headers=headers,
            data=request.content if request.can_read_body else None,
            ssl=self._client.context(mode),
            server_hostname=headers["Host"].partition(":")[0] if scheme == "https" else None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    response.headers.add(name, value)
            _mark(response, ray)
            await response.prepare(request)
            if request.method != "HEAD":
                try:
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                except (aiohttp.ClientError, TimeoutError):
                    # The head is out, so only a cut connection can tell the visitor.
                    if request.transport is not None:
                        request.transport.abort()
                    return response
            await response.write_eof()
            return response

    async def _websocket(
        self, request: web.BaseRequest, target: Target, host: str, ray: str
    ) -> web.StreamResponse:
        scheme, mode = self._scheme(request), setting(self._state, "ssl")
        headers = _request_headers(request, target, host, ray)
        protocols = request.headers.get("Sec-WebSocket-Protocol", "")
        offered = tuple(p.strip() for p in protocols.split(",") if p.strip())
        async with self._client.session.ws_connect(
            self._client.url(scheme, target.address, target.port) + request.raw_path,
            headers={n: v for n, v in headers.items() if n.lower() not in _WEBSOCKET}
            | {"Host": headers["Host"]},
            ssl=self._client.context(mode),
            server_hostname=headers["Host"].partition(":")[0] if scheme == "https" else None,
            protocols=offered,
            max_msg_size=0,
        ) as origin:
            chosen = (origin.protocol,) if origin.protocol else ()
            visitor = web.WebSocketResponse(protocols=chosen, max_msg_size=0)
            await visitor.prepare(request)
            relays = [
                asyncio.create_task(_relay(visitor, origin)),
                asyncio.create_task(_relay(origin, visitor)),
            ]
            await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
            for relay in relays:
                relay.cancel()
            await visitor.close()
            return visitor


WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _relay(source: WebSocket, sink: WebSocket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)


def _request_headers(
    request: web.BaseRequest, target: Target, host: str, ray: str
) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.items():
        # What only the edge may say is never taken from a visitor.
        if name.lower() not in _HOP_BY_HOP and not name.lower().startswith("cf-"):
            headers.add(name, value)
    visitor = request.remote or ""
    forwarded = [*request.headers.getall("X-Forwarded-For", []), visitor]
    headers["Host"] = target.host or host
    headers["CF-Connecting-IP"] = visitor
    headers["X-Forwarded-For"] = ", ".join(forwarded)
    headers["X-Forwarded-Proto"] = request.scheme
    headers["CF-Visitor"] = json.dumps({"scheme": request.scheme}, separators=(",", ":"))
    headers["CF-Ray"] = ray
    headers["CF-IPCountry"] = "XX"
    headers["CDN-Loop"] = "cloudflare"
    return headers


def _mark(response: web.StreamResponse, ray: str) -> None:
    response.headers["Server"] = "cloudflare"
    response.headers["CF-Ray"] = ray
    response.headers["CF-Cache-Status"] = "DYNAMIC"


def _page(error: EdgeError, host: str, ray: str) -> web.Response:
    title = f"{host} | {error.status}: {error.title}"
    body = (
        f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n"
        f"<body><h1>Error {error.status}</h1><p>{error.title}</p>"
        f"<p>Ray ID: {ray}</p></body></html>\n"
    )
    response = web.Response(text=body, status=error.status, content_type="text/html")
    response.headers["Server"] = "cloudflare"
    response.headers["CF-Ray"] = ray
    return response
