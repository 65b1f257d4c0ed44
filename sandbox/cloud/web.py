"""What every emulated API shares: the request log and saving state before an answer leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("sandbox.cloud.requests")

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class LoggedApp:
    """Logs method, path, status and milliseconds. Never a query, header or body: no secrets."""

    def __init__(self, app: ASGIApp, vendor: str) -> None:
        self._app, self._vendor = app, vendor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        started = time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            log.info(
                "%s %s %s %d %.1fms",
                self._vendor,
                scope["method"],
                scope["path"],
                status,
                milliseconds,
            )


class SavingApp:
    """Saves the state after a write and before its answer is sent."""

    def __init__(self, app: ASGIApp, save: Callable[[], None]) -> None:
        self._app, self._save = app, save

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return

        async def save_first(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._save()
            await send(message)

        await self._app(scope, receive, save_first)
