"""Where messages to people end up: a chat's webhook, a dead man's switch. Not a vendor's API.

Whatever is posted, to whatever path, is taken and kept until the sandbox ends; the last ones only.

GET /           the messages as a page of text, newest first
GET /messages   as JSON: [{"path", "time", "body"}], oldest first; `?path=/slack` for those below it
"""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

KEPT = 2000
MAX_BYTES = 256 * 1024


@dataclass(frozen=True)
class Message:
    """A message that arrived."""

    path: str
    time: float
    """Seconds since the epoch."""
    body: Any
    """JSON where it was JSON, else text."""


class Inbox:
    """The messages, in memory."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque(maxlen=KEPT)

    def build(self) -> ASGIApp:
        """Put the routes together."""
        return Starlette(
            routes=[
                Route("/", self._page, methods=["GET"]),
                Route("/messages", self._list, methods=["GET"]),
                Route("/{path:path}", self._take, methods=["POST"]),
            ]
        )

    async def _take(self, request: Request) -> Response:
        text = (await request.body())[:MAX_BYTES].decode(errors="replace")
        try:
            body = json.loads(text)
        except ValueError:
            body = text
        self._messages.append(Message(request.url.path, time.time(), body))
        return PlainTextResponse("ok")

    async def _list(self, request: Request) -> Response:
        path = request.query_params.get("path", "/")
        found = [asdict(one) for one in self._messages if one.path.startswith(path)]
        return JSONResponse(found)

    async def _page(self, _request: Request) -> Response:
        lines = []
        for one in reversed(self._messages):
            when = datetime.fromtimestamp(one.time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            lines.append(f"{when}  {one.path}\n{json.dumps(one.body, indent=1)}\n")
        return PlainTextResponse("\n".join(lines) or "nothing yet\n")
