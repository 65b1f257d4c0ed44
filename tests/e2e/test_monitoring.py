"""What the person on call relies on: dashboards with data, alerts and heartbeats that arrive."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from sandbox.world import INBOX_PORT, LOOPBACK
from tests.e2e.sandbox_world import SandboxWorld, eventually
from tests.support.dashboards import Asked, queries

NODES = ("vps-01", "vps-02")
DEVICE = "pi-watched"
MINUTES = 60.0


def inbox(path: str) -> list[dict[str, Any]]:
    """Messages that arrived below a path."""
    url = f"http://{LOOPBACK}:{INBOX_PORT}/messages"
    found: list[dict[str, Any]] = requests.get(url, params={"path": path}, timeout=10).json()
    return found


def chat(since: float) -> list[str]:
    """Titles of the chat's messages that came after a time."""
    return [
        attachment["title"]
        for one in inbox("/slack")
        if one["time"] >= since
        for attachment in one["body"]["attachments"]
    ]


@pytest.fixture(scope="module")
def watched_device(pair: SandboxWorld) -> Iterator[str]:
    """A device that reports, logs, and whose metrics are those of the standby's node exporter."""
    secrets = pair.output("adminSecrets")
    address = pair.on_node("vps-02", "tailscale", "ip", "-4").text.strip()
    answer = pair.fetch(
        "/api/devices",
        method="POST",
        token=secrets["api_enrol_token"],
        body={"device_id": DEVICE, "name": DEVICE, "address": address},
    )
    assert answer.code == 201, answer.text
    report(pair, json.loads(answer.text)["token"])
    yield DEVICE
    gone = pair.fetch(
        f"/api/devices/{DEVICE}/retire", method="POST", token=secrets["api_operator_token"]
    )
    assert gone.code == 200, gone.text


def report(pair: SandboxWorld, token: str) -> None:
    """One status over the public name, and one log line over the mesh."""
    body = {
        "device_id": DEVICE,
        "event_id": str(uuid.uuid4()),
        "event_time": datetime.now(UTC).isoformat(),
        "status": "ok",
    }
    answer = pair.fetch("/api/status", method="POST", token=token, body=body)
    assert answer.code in (200, 201), answer.text
    gate = pair.on_node("vps-01", "tailscale", "ip", "-4").text.strip()
    stream = {"device": DEVICE, "job": "journal", "level": "warning"}
    line = {"streams": [{"stream": stream, "values": [[str(time.time_ns()), "lamp is warm"]]}]}
    pair.on_node(
        "vps-02", "curl", "-sf", "-H", "Content-Type: application/json",
        "--data", json.dumps(line), f"http://{gate}:3100/loki/api/v1/push",
    )  # fmt: skip


def answers(pair: SandboxWorld, node: str, asked: list[Asked]) -> dict[str, tuple[str, int]]:
    """Status and number of series of each query, by its text; one command for all of them."""
    paths = {
        "prometheus": "http://127.0.0.1:9090/api/v1/query",
        "loki": "http://127.0.0.1:3100/loki/api/v1/query_range",
    }
    lines = []
    for one in asked:
        lines += [
            f"url = {json.dumps(paths[one.panel.source])}",
            "get",
            f"data-urlencode = {json.dumps('query=' + one.expr)}",
            'write-out = "\\n"',
            "next",
        ]
    script = "\n".join(lines[:-1])
    pair.on_node(node, "sh", "-c", f"cat > /tmp/queries <<'END'\n{script}\nEND")
    text = pair.on_node(node, "curl", "-sS", "--config", "/tmp/queries", timeout=300).text
    found = {}
    for one, line in zip(asked, filter(str.strip, text.splitlines()), strict=True):
        try:
            answer = json.loads(line)
        except ValueError:
            answer = {"status": f"no JSON: {line[:200]}"}
        status = answer["status"] + (f": {answer['error']}" if "error" in answer else "")
        found[one.expr] = (status, len((answer.get("data") or {}).get("result") or []))
    return found


def test_every_panel_of_every_dashboard_answers_and_those_that_must_have_data_do(
    pair: SandboxWorld, watched_device: str
) -> None:
    asked = list(queries({"node": ".+", "device": watched_device}))

    def empty() -> list[str]:
        found = answers(pair, "vps-01", asked)
        refused = {one.name: found[one.expr][0] for one in asked if found[one.expr][0] != "success"}
        assert not refused, refused
        return [one.name for one in asked if not one.panel.quiet and not found[one.expr][1]]

    deadline = time.monotonic() + 5 * MINUTES
    while (missing := empty()) and time.monotonic() < deadline:
        time.sleep(5)
    assert not missing, f"no data: {missing}"
    print(f"\n{len(asked)} queries of the dashboards answer", flush=True)


def test_both_dead_mans_switches_tick_by_themselves(pair: SandboxWorld) -> None:
    for node in NODES:
        began = time.time()

        def ticked(node: str = node, began: float = began) -> bool:
            return any(one["time"] > began for one in inbox(f"/heartbeat/{node}"))

        eventually(f"a heartbeat of {node}", ticked, 3 * MINUTES, pause=2)
        for one in inbox(f"/heartbeat/{node}"):
            assert {alert["labels"]["node"] for alert in one["body"]["alerts"]} == {node}


@pytest.mark.parametrize("node", NODES)
def test_a_test_alert_goes_out_by_the_channel_and_says_so(pair: SandboxWorld, node: str) -> None:
    began = time.time()
    run = pair.on_node(node, "overlordctl", "alert", "test", check=False)
    assert run.code == 0, run.text
    assert "slack: sent" in run.text
    assert f"P2 Rehearsal from {node}" in chat(began)


def test_a_killed_service_is_back_by_itself(pair: SandboxWorld) -> None:
    container = pair.on_node("vps-02", "docker", "ps", "-qf", "name=overlord-api-1").text.strip()
    shown = "{{.State.Pid}} {{.State.Status}}"

    def state() -> list[str]:
        return pair.on_node("vps-02", "docker", "inspect", "-f", shown, container).text.split()

    before = state()[0]
    began = time.monotonic()
    pair.on_node("vps-02", "kill", "-9", before)

    def back() -> bool:
        pid, status = state()
        return status == "running" and pid not in (before, "0")

    eventually("the API again", back, 60)
    print(f"\nkilled service back after {time.monotonic() - began:.1f} s", flush=True)


def test_the_alert_of_a_service_that_stays_down_arrives_within_three_minutes(
    pair: SandboxWorld,
) -> None:
    began = time.time()
    pair.on_node("vps-02", "docker", "stop", "overlord-api-1")
    title = "P2 api on vps-02 is down or not healthy"
    try:
        eventually("the alert", lambda: title in chat(began), 3 * MINUTES, pause=1)
        print(f"\nalert after {time.time() - began:.0f} s", flush=True)
    finally:
        pair.on_node("vps-02", "docker", "start", "overlord-api-1")
