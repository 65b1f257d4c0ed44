"""Small HTTPS servers on loopback that play a node behind the edge."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sandbox.cloud.certificates import issue, server_context


@dataclass
class OriginServer:
    """What an origin answers, and what it saw."""

    name: str
    address: str
    port: int = 0
    leader: bool = True
    sources: list[str] = field(default_factory=list)
    connections: set[tuple[str, int]] = field(default_factory=set)


@contextmanager
def origin(
    name: str,
    address: str = "127.0.0.1",
    port: int = 0,
    ca_dir: Path | None = None,
    names: tuple[str, ...] = ("*.overlord.localhost",),
) -> Iterator[OriginServer]:
    """Serve until the block ends: over TLS with a certificate of the CA, or plainly without one."""
    facts = OriginServer(name, address)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body go out apart; nginx does not wait either

        def do_GET(self) -> None:
            facts.sources.append(self.client_address[0])
            facts.connections.add(self.client_address[:2])
            if self.path == "/leader":
                self._answer(200 if facts.leader else 503, name.encode())
            elif self.path == "/headers":
                self._answer(200, json.dumps(dict(self.headers.items())).encode())
            elif self.path == "/cut":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"only this")
                self.close_connection = True
            else:
                self._answer(200, name.encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(201, str(len(body)).encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((address, port), Handler)
    if ca_dir is not None:
        context: ssl.SSLContext = server_context(*issue(ca_dir, list(names)))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    facts.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield facts
    finally:
        server.shutdown()
        server.server_close()
