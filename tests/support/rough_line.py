"""A line between a device and the API that fails in every way a line can, at moments by seed."""

from __future__ import annotations

import collections
import contextlib
import http.client
import random
import socket
import struct
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.ports import free_port

FAULTS = (
    "cut before the request",
    "reset before the request",
    "request cut short",
    "answer lost after the commit",
    "answer cut short after the commit",
    "reset after the commit",
    "429",
    "503",
    "401",
    "413",
    "413 of a proxy",
    "502 of a proxy",
    "a captive portal's page",
)
_ANSWERS: Mapping[str, tuple[int, bytes, str]] = {
    "429": (429, b'{"reason": "replay_flood", "detail": "Later."}', "application/problem+json"),
    "503": (503, b'{"reason": "not_leader", "detail": "Later."}', "application/problem+json"),
    "401": (401, b'{"reason": "wrong_token", "detail": "No."}', "application/problem+json"),
    "413": (413, b'{"reason": "too_large", "detail": "Less."}', "application/problem+json"),
    "413 of a proxy": (413, b"<html>Request Entity Too Large</html>", "text/html"),
    "502 of a proxy": (502, b"<html>Bad Gateway</html>", "text/html"),
    "a captive portal's page": (200, b"<html>Welcome</html>", "text/html"),
}


class RoughLine:
    """A relay of HTTP to one API.

    Args:
        upstream: base URL of the API.
        seed: decides which request meets which fault.
    """

    def __init__(self, upstream: str, seed: int) -> None:
        self._upstream = urllib.parse.urlsplit(upstream)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._to_come: list[str] = []
        self._server: ThreadingHTTPServer | None = None
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.chance = 0.0
        self.met: collections.Counter[str] = collections.Counter()

    def connect(self) -> None:
        """Listen."""
        if self._server is None:
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def cut(self) -> None:
        """Refuse every connection."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _fault(self, single: bool) -> str | None:
        with self._lock:
            fault = None
            if self._random.random() < self.chance:
                # Each in its turn, in an order by chance, so that few requests meet them all.
                self._to_come = self._to_come or self._random.sample(FAULTS, len(FAULTS))
                # The API's own 413 to a single status would be its last word on it.
                fault = next((one for one in self._to_come if not (single and one == "413")), None)
            if fault is not None:
                self._to_come.remove(fault)
            self.met[fault or "none"] += 1
        return fault

    def _handler(line) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.close_connection = True
                size = int(self.headers["Content-Length"])
                fault = line._fault(single="Content-Encoding" not in self.headers)
                if fault in ("cut before the request", "reset before the request"):
                    return self._end(reset=fault.startswith("reset"))
                body = self.rfile.read(size)
                if fault == "request cut short":
                    return line._send_part(dict(self.headers), body)
                if (answer := _ANSWERS.get(fault or "")) is not None:
                    return self._answer(*answer)
                status, headers, content = line._ask(self.path, dict(self.headers), body)
                if fault in ("answer lost after the commit", "reset after the commit"):
                    return self._end(reset=fault.startswith("reset"))
                head = [f"HTTP/1.1 {status} Status"]
                head += [f"{name}: {value}" for name, value in headers.items()]
                whole = "\r\n".join([*head, "", ""]).encode() + content
                if fault == "answer cut short after the commit":
                    whole = whole[: len(whole) - max(1, len(content) // 2)]
                with contextlib.suppress(OSError):
                    self.wfile.write(whole)
                return None

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if status in (429, 503):
                    self.send_header("Retry-After", "0")
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def _end(self, *, reset: bool) -> None:
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _ask(
        self, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """The API's answer."""
        connection = http.client.HTTPConnection(
            self._upstream.hostname or "", self._upstream.port, timeout=30
        )
        try:
            connection.request("POST", path, body, headers)
            reply = connection.getresponse()
            content = reply.read()
            kept = {"date", "content-type", "retry-after"}
            passed = {name: value for name, value in reply.getheaders() if name.lower() in kept}
            return reply.status, {**passed, "Content-Length": str(len(content))}, content
        finally:
            connection.close()

    def _send_part(self, headers: dict[str, str], body: bytes) -> None:
        """Half of a request, and then nothing: the API must take none of it."""
        address = (self._upstream.hostname or "", self._upstream.port or 80)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(["POST /api/status HTTP/1.1", *lines, "", ""]).encode()
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(head + body[: len(body) // 2])


@contextmanager
def rough_line(upstream: str, seed: int) -> Iterator[RoughLine]:
    """A line that listens, and ends with the block."""
    line = RoughLine(upstream, seed)
    line.connect()
    try:
        yield line
    finally:
        line.cut()
