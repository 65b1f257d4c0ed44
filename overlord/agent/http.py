"""The agent's HTTP service: on loopback, where nginx shows /health and /leader to the edge, and on
the tailnet address for the peer and Prometheus."""

import json
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from overlord.agent import state as views
from overlord.agent.metrics import render
from overlord.agent.state import State
from overlord.roles.manager import RoleManager

ADDRESS = ("127.0.0.1", 9600)
MAX_BODY = 10_000

_ROUTES: dict[str, Callable[[State], tuple[int, dict[str, Any]]]] = {
    "/health": views.health,
    "/leader": views.leader,
    "/peer": views.peer,
    "/status": views.status,
}


def _ask(manager: RoleManager, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Answer the peer. Raises ValueError for an unknown path."""
    if path == "/pledge":
        seconds = manager.pledge(int(body["epoch"]))
        return {"pledged": seconds is not None, "seconds": seconds}
    if path == "/nudge":
        manager.nudge()
        return {"ok": True}
    if path == "/takeover":
        return {"ok": manager.take_over(int(body["epoch"]))}
    raise ValueError(path)


class Service(ThreadingHTTPServer):
    """Answers from the last round of the loop."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        state: State,
        address: tuple[str, int] = ADDRESS,
        manager: RoleManager | None = None,
    ) -> None:
        self.state = state
        self.manager = manager
        super().__init__(address, Handler)


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of a few paths."""

    server: Service
    timeout = 10  # a client that says nothing does not keep its thread
    server_version = "overlord-agent"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a request."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            body = render(self.server.state)
            self._answer(200, "text/plain; version=0.0.4; charset=utf-8", body)
        elif path in _ROUTES:
            code, data = _ROUTES[path](self.server.state)
            self._answer(code, "application/json", json.dumps(data).encode())
        else:
            self._answer(404, "application/json", b'{"error": "no such path"}')

    do_HEAD = do_GET  # noqa: N815 (name fixed by http.server)

    def do_POST(self) -> None:
        """What the peer asks, over the tailnet and from another machine."""
        manager = self.server.manager
        if manager is None or self.client_address[0] == self.server.server_address[0]:
            self._answer(404, "application/json", b'{"error": "no such path"}')
            return
        try:
            length = min(int(self.headers.get("Content-Length", 0)), MAX_BODY)
            body = json.loads(self.rfile.read(length) or b"{}")
            answer = _ask(manager, self.path, body)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._answer(400, "application/json", b'{"error": "not understood"}')
            return
        self._answer(200, "application/json", json.dumps(answer).encode())

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        with suppress(ConnectionError):  # who asked has not waited for the answer
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: health checks come every few seconds."""
