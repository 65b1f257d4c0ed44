"""A device that posts all the time, and what may be asked of the pair meanwhile.

It does as the reference agent does: it sends a status again, with the same event id, until it is
accepted. What it was told is accepted must be in the database of whoever is primary, once.
"""

from __future__ import annotations

import http.client
import itertools
import json
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.e2e.sandbox_world import SandboxWorld, eventually, public_connection

EVERY_SECONDS = 0.2


@dataclass
class Device:
    """Posts statuses one after the other until stopped.

    Args:
        name: its id.
        token: its own.
        ca: certificate that signs the public name's.
    """

    name: str
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
            body = {"device_id": self.name, "event_id": event, "event_time": when, "status": "ok"}
            while not self._stop.is_set():
                if self._post(tls, body):
                    self.accepted[event] = time.time()
                    break
                self._stop.wait(EVERY_SECONDS)
            self._stop.wait(EVERY_SECONDS)

    def _post(self, tls: ssl.SSLContext, body: dict[str, str]) -> bool:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            with public_connection(tls, 5) as connection:
                connection.request("POST", "/api/status", json.dumps(body), headers)
                return connection.getresponse().status in (200, 201)
        except (OSError, http.client.HTTPException):
            return False

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


@contextmanager
def posting(pair: SandboxWorld, name: str, token: str) -> Iterator[Device]:
    """Post with an enrolled device, from the first accepted status on."""
    device = Device(name, token, str(pair.world.ca / "ca.pem"))
    thread = threading.Thread(target=device.run, daemon=True)
    thread.start()
    try:
        eventually("a first accepted status", lambda: device.accepted, 30)
        yield device
    finally:
        device.stop()
        thread.join(timeout=15)


def roles(pair: SandboxWorld, node: str) -> dict[str, Any]:
    """A node's `overlordctl role`; nothing while its agent does not answer."""
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
    found = pair.query(
        node, f"select event_id from status_history where device_id = '{device.name}'"
    ).split()
    return set(device.accepted) - set(found)


def doubled(pair: SandboxWorld, node: str, device: Device) -> int:
    """Statuses that a node's database has more than once."""
    return int(
        pair.query(
            node,
            "select count(*) - count(distinct event_id) from status_history "
            f"where device_id = '{device.name}'",
        )
    )  # fmt: skip


def promotions(pair: SandboxWorld, node: str) -> list[float]:
    """When a node was promoted, as far as it remembers; seconds since the epoch."""
    events = roles(pair, node)["events"]
    return [float(event["time"]) for event in events if event["what"] == "promoted"]
