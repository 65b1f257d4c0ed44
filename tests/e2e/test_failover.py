"""VPS-01 dies and comes back, with a device that posts all the time: nothing is lost."""

from __future__ import annotations

import json
import re
import time
import uuid
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from sandbox import world as fixed
from tests.e2e.posting import doubled, in_sync, missing, posting, promotions, roles
from tests.e2e.sandbox_world import SandboxWorld, eventually
from tests.e2e.test_pair import enrol

# Another one each time, so that the tests can be run again on the same pair.
DEVICE = f"pi-failover-{uuid.uuid4().hex[:6]}"


@pytest.fixture(scope="module")
def token(pair: SandboxWorld) -> str:
    if not pair.output("arbiterUrl"):
        pytest.fail("the sandbox has no arbiter: overlord:arbiter in Pulumi.sandbox.yaml")
    return enrol(pair, DEVICE)


def report_at(pair: SandboxWorld, node: str, token: str, event: str) -> tuple[int, str]:
    """Post a status to the nginx of one node; the status, and which node says it answered."""
    name = urlsplit(fixed.PUBLIC_URL).hostname
    body = {
        "device_id": DEVICE,
        "event_id": event,
        "event_time": datetime.now(UTC).isoformat(),
        "status": "ok",
    }
    shown = pair.on_node(
        node, "curl", "-sk", "--resolve", f"{name}:443:127.0.0.1", "-o", "/dev/null",
        "-w", "%{http_code} %header{x-overlord-node}", "-H", f"Authorization: Bearer {token}",
        "-H", "Content-Type: application/json", "-d", json.dumps(body), f"https://{name}/api/status",
    ).text.split()  # fmt: skip
    return int(shown[0]), shown[1]


def test_a_write_that_reaches_the_standby_is_passed_on_to_the_primary(
    pair: SandboxWorld, token: str
) -> None:
    eventually("a pair in sync", lambda: in_sync(pair, "vps-01", "vps-02"), 90)
    event = str(uuid.uuid4())
    assert report_at(pair, "vps-02", token, event) == (200, "vps-02")
    found = pair.query("vps-01", f"select count(*) from status_history where event_id = '{event}'")
    assert found == "1"
    metrics = pair.on_node("vps-02", "curl", "-s", "http://127.0.0.1:8000/metrics").text
    assert re.search(r"^overlord_api_passed_on_total [1-9]", metrics, re.M)


def test_when_the_primary_loses_its_power_the_standby_takes_over_and_nothing_is_lost(
    pair: SandboxWorld, token: str
) -> None:
    eventually("a pair in sync", lambda: in_sync(pair, "vps-01", "vps-02"), 90)
    with posting(pair, DEVICE, token) as device:
        time.sleep(5)
        server = pair.hetzner.servers.get_by_name("vps-01")
        assert server is not None
        server.power_off()
        eventually("vps-02 primary", lambda: roles(pair, "vps-02").get("state") == "primary", 60)
        eventually(
            "posts accepted again",
            lambda: device.latest > max(promotions(pair, "vps-02")) + 1,
            200,
        )
        promoted = max(promotions(pair, "vps-02"))
        time.sleep(3)
    before = max(when for when in device.accepted.values() if when < promoted)
    after = min(when for when in device.accepted.values() if when > promoted)
    print(
        f"\npower off: {after - before:.1f} s without an accepted post, of which "
        f"{promoted - before:.1f} s until the promotion, "
        f"{after - promoted:.1f} s until the public name led there and a device tried",
        flush=True,
    )
    assert promoted - before < 30
    assert missing(pair, "vps-02", device) == set()
    assert doubled(pair, "vps-02", device) == 0


def test_the_old_primary_comes_back_as_the_standby_by_itself(pair: SandboxWorld) -> None:
    server = pair.hetzner.servers.get_by_name("vps-01")
    assert server is not None
    began = time.monotonic()
    server.power_on()
    eventually("vps-01 runs", lambda: pair.servers()["vps-01"]["status"] == "running", 60)
    eventually("vps-01 standby, in sync", lambda: in_sync(pair, "vps-02", "vps-01"), 180)
    print(f"\nback as the standby, in sync: {time.monotonic() - began:.1f} s", flush=True)
    assert pair.query("vps-01", "select pg_is_in_recovery()") == "t"
    assert pair.fetch("/leader").code == 200


def test_a_switchover_back_stops_writes_for_seconds_and_loses_nothing(
    pair: SandboxWorld, token: str
) -> None:
    pair.on_node("vps-02", "overlordctl", "switchover", "--dry-run")
    refused = pair.on_node("vps-01", "overlordctl", "switchover", "--dry-run", check=False)
    assert refused.code == 1
    assert "run it on the primary" in refused.text
    with posting(pair, DEVICE, token) as device:
        time.sleep(3)
        began = time.time()
        said = pair.on_node("vps-02", "overlordctl", "switchover", timeout=120).text
        promoted = max(promotions(pair, "vps-01"))
        # Before the load balancer has seen it: the old primary passes them on.
        eventually("posts accepted again", lambda: device.latest > promoted + 1, 30)
        gap = device.gap(began)
        time.sleep(2)
    print(
        f"\nswitchover: {gap:.1f} s without an accepted post, "
        f"promoted {promoted - began:.1f} s after the command; {said.strip()}",
        flush=True,
    )
    assert missing(pair, "vps-01", device) == set()
    eventually("a pair in sync", lambda: in_sync(pair, "vps-01", "vps-02"), 90)
