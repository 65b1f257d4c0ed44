"""What surrounds every request: its id, its log line, its metrics, its body."""

from __future__ import annotations

import logging
import re
import time
import uuid
import zlib
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.api.metrics import Metrics
from dashboard.api.problems import ProblemError, internal_error

_log = logging.getLogger("overlord.api")

_REQUEST_ID = re.compile(rb"^[A-Za-z0-9-]{8,64}$")
# Asked every few seconds by machines; their success is not worth a line.
_QUIET_ROUTES = {"/api/health", "/metrics", "/sd/devices"}
# Open for as long as a page is; their length is no measure of anything.
_LONG_ROUTES = {"/api/stream"}


class RequestContext:
    """Gives each request an id, a log line and its metrics, and catches what nobody else did."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.match(given) else uuid.uuid4().hex
        scope["overlord.request_id"] = request_id
        status = 0
        started = time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            _log.exception("request failed", extra={"request_id": request_id})
            if status:  # too late for another answer; the server cuts the connection
                raise
            await internal_error(request_id).response()(scope, receive, send_with_id)
        finally:
            self._record(scope, request_id, status, time.monotonic() - started)

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        # The route's pattern and not its path: a path has no end of values.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.requests.labels(method, route, str(status)).inc()
        if route not in _LONG_ROUTES:
            self._metrics.request_seconds.labels(route).observe(seconds)
        if route in _QUIET_ROUTES and status < HTTPStatus.BAD_REQUEST:
            return
        client = scope.get("client")
        _log.info(
            "request",
            extra={
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": status,
                "seconds": round(seconds, 4),
                "client": client[0] if client else None,
            },
        )


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class RequestBody:
    """Unpacks a compressed body and refuses one above the limits.

    The length counts as announced and as it arrives, packed and unpacked, so neither a lie about
    the length nor a few kilobytes that unpack to gigabytes fill the memory.

    Args:
        max_bytes: largest body as it is sent.
        max_unpacked_bytes: largest body once unpacked.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_unpacked_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_unpacked_bytes = max_unpacked_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        announced = headers.get(b"content-length", b"0")
        refusal: ProblemError | None = None
        if not announced.isdigit() or int(announced) > self._max_bytes:
            refusal = self._too_large(self._max_bytes)
        elif encoding not in {b"identity", b"gzip"}:
            refusal = ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "Only gzip is understood as Content-Encoding.",
                reason="encoding",
            )
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return

        received = unpacked = 0
        inflate = zlib.decompressobj(wbits=31) if encoding == b"gzip" else None

        async def checked_receive() -> Message:
            nonlocal received, unpacked, refusal
            message = await receive()
            if message["type"] != "http.request":
                return message
            body = message.get("body", b"")
            received += len(body)
            if received > self._max_bytes:
                refusal = self._too_large(self._max_bytes)
                raise refusal
            if inflate is None:
                return message
            try:
                body = inflate.decompress(body, self._max_unpacked_bytes + 1 - unpacked)
            except zlib.error:
                refusal = _not_gzip()
                raise refusal from None
            unpacked += len(body)
            if unpacked > self._max_unpacked_bytes:
                refusal = self._too_large(self._max_unpacked_bytes)
                raise refusal
            if not message.get("more_body", False) and not inflate.eof:
                refusal = _not_gzip()
                raise refusal
            return {**message, "body": body}

        answered = False

        async def checked_send(message: Message) -> None:
            nonlocal answered
            if refusal is None:
                await send(message)
            elif not answered:
                # In place of the answer that the application makes of a body cut short.
                answered = True
                await refusal.response()(scope, receive, send)

        await self._app(scope, checked_receive, checked_send)

    def _too_large(self, limit: int) -> ProblemError:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body is larger than {limit} bytes; send less at a time.",
            reason="too_large",
        )


def _not_gzip() -> ProblemError:
    return ProblemError(
        HTTPStatus.BAD_REQUEST, "The body is not valid gzip, or is cut short.", reason="encoding"
    )
