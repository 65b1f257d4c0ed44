"""A node agent for tests: answers /leader as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeAgent:
    """What the agent answers.

    Args:
        url: its base URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.leader = True
        self.epoch: int | None = None


@contextmanager
def running_agent(port: int = 0) -> Iterator[FakeAgent]:
    """An agent on loopback that ends with the block, on any free port if none is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"leader": agent.leader, "epoch": agent.epoch}).encode()
            self.send_response(200 if agent.leader else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the tests' output is for the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    agent = FakeAgent(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    try:
        yield agent
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
