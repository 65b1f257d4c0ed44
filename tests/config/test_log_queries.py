"""A real Loki with the rendered configuration answers what the dashboards ask of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from tests.config.conftest import written
from tests.support.dashboards import Asked, queries
from tests.support.ports import free_port
from tests.support.programs import command
from tests.support.receivers import wait_for
from tests.support.stack import VPS_01

# Streams as the devices and the nodes send them.
STREAMS = (
    {"device": "pi", "job": "journal", "unit": "lamp.service", "level": "warning"},
    {"device": "pi", "job": "journal", "unit": "lamp.service", "level": "err"},
    {"node": "vps-01", "job": "container", "service": "api"},
    {"node": "vps-01", "job": "journal", "unit": "ssh.service", "level": "error"},
)


@contextmanager
def running_loki(log: Path, *options: str, data: Path | None = None) -> Iterator[str]:
    """Loki with a node's configuration, its files and ports moved; its address.

    Args:
        log: file for what it says.
        options: of its command line.
        data: its folder; by default one that goes with it.
    """
    with ExitStack() as stack:
        node = stack.enter_context(written(VPS_01))
        http, grpc = free_port(), free_port()
        config = node.folder / "loki/loki.yaml"
        text = config.read_text().replace("/loki", str(data or node.folder / "data"))
        # On loopback alone: a port that is free there may be in use at another address.
        for protocol, listened, port in (("http", 3100, http), ("grpc", 9096, grpc)):
            text = text.replace(
                f"{protocol}_listen_port: {listened}",
                f"{protocol}_listen_address: 127.0.0.1\n  {protocol}_listen_port: {port}",
            )
        config.write_text(text)
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            command("loki", f"-config.file={config}", *options),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        stack.callback(process.wait, timeout=30)
        stack.callback(process.terminate)
        url = f"http://127.0.0.1:{http}"
        wait_for("Loki ready", lambda: _ready(url), 60)
        yield url


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/ready", timeout=2).ok
    except requests.RequestException:
        return False


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_loki(tmp_path_factory.mktemp("loki") / "log") as url:
        lines = [
            {"stream": stream, "values": [[str(time.time_ns()), "something"]]} for stream in STREAMS
        ]
        pushed = requests.post(f"{url}/loki/api/v1/push", json={"streams": lines}, timeout=10)
        assert pushed.status_code == 204, pushed.text
        yield url


@pytest.mark.parametrize(
    "asked",
    [one for one in queries({"node": ".+", "device": "pi"}) if one.panel.source == "loki"],
    ids=lambda one: str(one.name),
)
def test_each_panel_of_logs_finds_what_was_logged(loki: str, asked: Asked) -> None:
    def found() -> bool:
        answer = requests.get(
            f"{loki}/loki/api/v1/query_range", params={"query": asked.expr}, timeout=10
        )
        assert answer.ok, answer.text
        return bool(answer.json()["data"]["result"])

    wait_for(asked.expr, found, 20)
