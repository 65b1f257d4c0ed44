"""VPS-01 dies and comes back, with a device that posts all the time: nothing is lost.

The device does as the reference agent does: it sends a status again, with the same event id, until
it is accepted. What it was told is accepted must be in the database of whoever is primary.
"""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from sandbox import world as fixed
from tests.e2e.sandbox_world import SandboxWorld, eventually
from tests.e2e.test_pair import enrol, query

# Another one each time, so that the tests can be run again on the same pair.
DEVICE = f"pi-failover-{uuid.uuid4().hex[:6]}"
EVERY_SECONDS = 0.2


@dataclass
class Device:
    """Posts statuses one after the other until stopped.

    Args:
        token: its own.
        ca: certificate that signs the public name's.
    """

    token: str
    ca: str
    accepted: dict[str, float] = field(default_factory=dict)
    """Event id to the time of acceptance, seconds since the epoch."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """One status at a time, each until it is accepted."""
        tls = ssl.create_default_context(cafile=self.ca)
        while not self._stop.is_set():
            event, when = str(uuid.uuid4()), datetime.now(UTC).isoformat()
            body = {"device_id": DEVICE, "event_id": event, "event_time": when, "status": "ok"}
            while not self._stop.is_set():
                if self._post(tls, body):
                    self.accepted[event] = time.time()
                    break
                self._stop.wait(EVERY_SECONDS)
            self._stop.wait(EVERY_SECONDS)

    def _post(self, tls: ssl.SSLContext, body: dict[str, str]) -> bool:
        """One try, at the edge's address: Python resolves no names below localhost."""
        name = urlsplit(fixed.PUBLIC_URL)
        connection = http.client.HTTPConnection(str(name.hostname), timeout=5)
        try:
            plain = socket.create_connection(("127.0.0.1", name.port or 443), timeout=5)
            connection.sock = tls.wrap_socket(plain, server_hostname=name.hostname)
            headers = {
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "Host": name.netloc,
            }
            connection.request("POST", "/api/status", json.dumps(body), headers)
            return connection.getresponse().status in (200, 201)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @property
    def latest(self) -> float:
        """When a status was last accepted."""
        return max(list(self.accepted.values()))

    def gap(self, since: float) -> float:
        """Longest time without an accepted status that ended after a moment."""
        times = sorted(self.accepted.values())
        pairs = itertools.pairwise(times)
        return max((later - earlier for earlier, later in pairs if later > since), default=0.0)

    def stop(self) -> None:
        """End after the post under way."""
        self._stop.set()


@pytest.fixture(scope="module")
def token(pair: SandboxWorld) -> str:
    if not pair.output("arbiterUrl"):
        pytest.fail("the sandbox has no arbiter: overlord:arbiter in Pulumi.sandbox.yaml")
    return enrol(pair, DEVICE)


@contextmanager
def posting(pair: SandboxWorld, token: str) -> Iterator[Device]:
    device = Device(token, str(pair.world.ca / "ca.pem"))
    thread = threading.Thread(target=device.run, daemon=True)
    thread.start()
    try:
        eventually("a first accepted status", lambda: device.accepted, 30)
        yield device
    finally:
        device.stop()
        thread.join(timeout=15)


def roles(pair: SandboxWorld, node: str) -> dict[str, object]:
    run = pair.on_node(node, "overlordctl", "role", "--json", check=False)
    return dict(json.loads(run.text)) if run.code == 0 else {}


def in_sync(pair: SandboxWorld, primary: str, standby: str) -> bool:
    """Whether the pair is whole, with the roles asked for."""
    one, other = roles(pair, primary), roles(pair, standby)
    return (one.get("state"), one.get("recorded"), other.get("state")) == (
        "primary",
        "sync",
        "standby",
    )


def missing(pair: SandboxWorld, node: str, device: Device) -> set[str]:
    """Accepted statuses that a node's database does not have."""
    found = query(
        pair, node, f"select event_id from status_history where device_id = '{DEVICE}'"
    ).split()
    return set(device.accepted) - set(found)


def promoted_at(pair: SandboxWorld, node: str) -> float:
    events = roles(pair, node)["events"]
    assert isinstance(events, list)
    return max(float(event["time"]) for event in events if event["what"] == "promoted")


def test_when_the_primary_loses_its_power_the_standby_takes_over_and_nothing_is_lost(
    pair: SandboxWorld, token: str
) -> None:
    eventually("a pair in sync", lambda: in_sync(pair, "vps-01", "vps-02"), 90)
    with posting(pair, token) as device:
        time.sleep(5)
        server = pair.hetzner.servers.get_by_name("vps-01")
        assert server is not None
        server.power_off()
        eventually("vps-02 primary", lambda: roles(pair, "vps-02").get("state") == "primary", 60)
        eventually(
            "posts accepted again",
            lambda: device.latest > promoted_at(pair, "vps-02") + 1,
            200,
        )
        promoted = promoted_at(pair, "vps-02")
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
    doubled = query(
        pair, "vps-02",
        "select count(*) - count(distinct event_id) from status_history "
        f"where device_id = '{DEVICE}'",
    )  # fmt: skip
    assert doubled == "0"


def test_the_old_primary_comes_back_as_the_standby_by_itself(pair: SandboxWorld) -> None:
    server = pair.hetzner.servers.get_by_name("vps-01")
    assert server is not None
    began = time.monotonic()
    server.power_on()
    eventually("vps-01 standby, in sync", lambda: in_sync(pair, "vps-02", "vps-01"), 180)
    print(f"\nback as the standby, in sync: {time.monotonic() - began:.1f} s", flush=True)
    assert query(pair, "vps-01", "select pg_is_in_recovery()") == "t"
    assert pair.fetch("/leader").code == 200


def test_a_switchover_back_stops_writes_for_seconds_and_loses_nothing(
    pair: SandboxWorld, token: str
) -> None:
    pair.on_node("vps-02", "overlordctl", "switchover", "--dry-run")
    refused = pair.on_node("vps-01", "overlordctl", "switchover", "--dry-run", check=False)
    assert refused.code == 1
    assert "run it on the primary" in refused.text
    with posting(pair, token) as device:
        time.sleep(3)
        began = time.time()
        said = pair.on_node("vps-02", "overlordctl", "switchover", timeout=120).text
        promoted = promoted_at(pair, "vps-01")
        eventually("posts accepted again", lambda: device.latest > promoted + 1, 200)
        gap = device.gap(began)
        time.sleep(2)
    print(
        f"\nswitchover: {gap:.1f} s without an accepted post, "
        f"promoted {promoted - began:.1f} s after the command; {said.strip()}",
        flush=True,
    )
    assert missing(pair, "vps-01", device) == set()
    eventually("a pair in sync", lambda: in_sync(pair, "vps-01", "vps-02"), 90)
