"""What surrounds every request: its id, its log line, its metrics, the limit of its body."""

from __future__ import annotations

import logging
import re
import time
import uuid
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.api.metrics import Metrics
from dashboard.api.problems import ProblemError, internal_error

_log = logging.getLogger("overlord.api")

_REQUEST_ID = re.compile(rb"^[A-Za-z0-9-]{8,64}$")
# Asked every few seconds by machines; their success is not worth a line.
_QUIET_ROUTES = {"/api/health", "/metrics"}


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


class BodyLimit:
    """Refuses a body above the limit, by its announced length or as it arrives."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._max_bytes:
            await self._too_large().response()(scope, receive, send)
            return
        received = 0
        refused = False

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._max_bytes:
                    raise self._too_large()
            return message

        async def limited_send(message: Message) -> None:
            nonlocal refused
            if received <= self._max_bytes:
                await send(message)
            elif not refused:
                # In place of the answer that the application makes of a body cut short.
                refused = True
                await self._too_large().response()(scope, receive, send)

        await self._app(scope, limited_receive, limited_send)

    def _too_large(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body is larger than {self._max_bytes} bytes; send less at a time.",
            reason="too_large",
        )
