"""The gate before Loki, asked over the wire: devices hand in lines and read none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.config.conftest import RenderedNode, written
from tests.support.ports import free_port
from tests.support.programs import check, command, running
from tests.support.stack import VPS_01

PUSH = "/loki/api/v1/push"


def localised(rendered: RenderedNode, port: int, loki: int) -> str:
    """Path of the same configuration with this machine's ports and paths."""
    config = (rendered.folder / "log-gate/nginx.conf").read_text()
    for old, new in (
        ("listen 3100;", f"listen 127.0.0.1:{port};"),
        ("set $loki loki:3100;", f"set $loki 127.0.0.1:{loki};"),
        ("_path /tmp/", f"_path {rendered.folder}/"),
        ("pid /tmp/", f"pid {rendered.folder}/"),
    ):
        assert old in config, old
        config = config.replace(old, new)
    path = rendered.folder / "gate.conf"
    path.write_text(config)
    return str(path)


@pytest.fixture(scope="module")
def gate() -> Iterator[httpx.Client]:
    """A client of the gate; the Loki behind it takes everything."""

    class Loki(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    port, behind = free_port(), free_port()
    server = ThreadingHTTPServer(("127.0.0.1", behind), Loki)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    with written(VPS_01) as node:
        config = localised(node, port, behind)
        check("nginx", "-t", "-c", config, folder=node.folder)
        log = node.folder / "gate.log"
        line = command("nginx", "-c", config, "-g", "daemon off;", folder=node.folder)
        with (
            running(line, log) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        ):
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert client.get("/ready").status_code == 204
                    break
                except httpx.HTTPError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
            yield client
    server.shutdown()
    server.server_close()


def test_lines_are_taken(gate: httpx.Client) -> None:
    assert gate.post(PUSH, content=b"{}").status_code == 204


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_nothing_but_a_post_is_let_through(gate: httpx.Client, method: str) -> None:
    assert gate.request(method, PUSH).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/loki/api/v1/query_range?query={device=%22pi%22}",
        "/loki/api/v1/labels",
        "/loki/api/v1/tail",
        "/loki/api/v1/delete",
        "/loki/api/v1/push/../labels",
        "/config",
        "/metrics",
        "/flush",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nobody_reads_or_deletes_through_the_gate(
    gate: httpx.Client, method: str, path: str
) -> None:
    assert gate.request(method, path).status_code == 404


def test_a_body_above_a_megabyte_is_refused(gate: httpx.Client) -> None:
    assert gate.post(PUSH, content=b"x" * (1024 * 1024 + 1)).status_code == 413


def test_a_device_that_floods_is_told_to_wait(gate: httpx.Client) -> None:
    statuses = [gate.post(PUSH, content=b"{}").status_code for _ in range(120)]
    assert statuses.count(204) >= 20
    assert 429 in statuses
