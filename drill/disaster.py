"""The disaster: both servers are deleted at the vendor, and `pulumi up` brings them back."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from drill.floors import bare_boot, move_bytes
from tests.e2e.sandbox_world import Run, SandboxWorld, eventually

NODES = ("vps-01", "vps-02")
ROW_BYTES = 1024
LEADER_SECONDS = 60
SETTLE_SECONDS = 900
METRICS_SECONDS = 120
"""Prometheus looks for blocks that were put back once a minute."""
QUERY_SECONDS = 600
FILL = """
    DROP TABLE IF EXISTS drill_ballast;
    CREATE TABLE drill_ballast AS SELECT g AS id, (
        SELECT string_agg(md5(random()::text || g || n), '') FROM generate_series(1, {parts}) n
    ) AS payload FROM generate_series(1, {rows}) g;
    ALTER TABLE drill_ballast ADD PRIMARY KEY (id)
"""
STORED = "SELECT event_id FROM status_history WHERE device_id LIKE 'drill-%'"


@dataclass(frozen=True)
class Step:
    """One step of the way back.

    Args:
        name: what happened.
        seconds: how long it took.
        since: seconds from the destruction to its end.
    """

    name: str
    seconds: float
    since: float


@dataclass(frozen=True)
class Outcome:
    """What the disaster cost.

    Args:
        recovery_seconds: from the destruction to the first status acknowledged again.
        lost_seconds: how much older than the destruction the restored database is.
        bytes: size of the database.
        steps: the way back.
        floors: what the same machine needs for the least of it, seconds by name.
    """

    recovery_seconds: float
    lost_seconds: float
    bytes: int
    steps: list[Step] = field(default_factory=list)
    floors: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


class Device:
    """A device that posts a status a second and remembers what was acknowledged, and when."""

    def __init__(self, pair: SandboxWorld, name: str, enrol_token: str) -> None:
        self._pair, self.name = pair, name
        answer = pair.fetch(
            "/api/devices",
            method="POST",
            token=enrol_token,
            body={"device_id": name, "name": name},
        )
        assert answer.code == 201, answer.text
        self._token = str(json.loads(answer.text)["token"])
        self.acknowledged: list[tuple[str, float]] = []

    def post(self) -> Run:
        """Post one status."""
        event = str(uuid.uuid4())
        answer = self._pair.fetch(
            "/api/status",
            method="POST",
            token=self._token,
            body={
                "device_id": self.name,
                "event_id": event,
                "event_time": datetime.now(UTC).isoformat(),
                "status": "ok",
            },
        )
        if answer.code in (200, 201):
            self.acknowledged.append((event, time.time()))
        return answer


@contextmanager
def posting(devices: list[Device]) -> Iterator[None]:
    """All devices post, each about once a second, for as long as the block."""
    stop = threading.Event()

    def work(device: Device) -> None:
        while not stop.wait(1.0):
            device.post()

    threads = [threading.Thread(target=work, args=(one,), daemon=True) for one in devices]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def leader(pair: SandboxWorld) -> str:
    """The node that takes writes, whichever it is."""

    def leading() -> str:
        return next((node for node in NODES if pair.status_of(node)["leader"]), "")

    return str(eventually("a node that takes writes", leading, LEADER_SECONDS))


def fill(pair: SandboxWorld, node: str, megabytes: int) -> tuple[str, int]:
    """Put data that does not compress well into the database of the node that leads; returns its
    digest and the size."""
    ballast = FILL.format(rows=megabytes * 1000**2 // ROW_BYTES, parts=ROW_BYTES // 32)
    pair.query(node, ballast, timeout=QUERY_SECONDS)
    return digest(pair, node), int(pair.query(node, "SELECT pg_database_size('overlord')"))


def digest(pair: SandboxWorld, node: str) -> str:
    """Changes with any row of the data."""
    return pair.query(
        node,
        "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(payload, id)::numeric), 0) "
        "FROM drill_ballast",
        timeout=QUERY_SECONDS,
    )


def has_metrics(pair: SandboxWorld, moment: float) -> bool:
    """Whether the node that was made anew knows what ran at a moment before it was made."""
    return bool(pair.ask_prometheus(NODES[0], f"up @ {moment:.0f}"))


def destroy(pair: SandboxWorld, account: bool) -> float:
    """Delete both servers at the vendor, as a fire would, or all that there is, as the end of the
    account would; returns when, in seconds of the epoch."""
    servers = [pair.hetzner.servers.get_by_name(node) for node in NODES]
    for server in servers:
        assert server is not None
        server.change_protection(delete=False, rebuild=False).wait_until_finished()
    moment = time.time()
    for deletion in [server.delete() for server in servers if server is not None]:
        deletion.wait_until_finished()
    if account:
        for address in pair.hetzner.primary_ips.get_all():
            address.change_protection(delete=False).wait_until_finished()
            address.delete()
        for firewall in pair.hetzner.firewalls.get_all():
            firewall.delete()
        for key in pair.hetzner.ssh_keys.get_all():
            key.delete()
    return moment


def rehearse(
    pair: SandboxWorld,
    *,
    megabytes: int,
    devices: int,
    say: Callable[[str], object],
    account: bool = False,
) -> Outcome:
    """The whole of it. Raises AssertionError when data is not as it was.

    Args:
        pair: the sandbox, whole.
        megabytes: of data in the database.
        devices: that post meanwhile.
        say: told of each step.
        account: whether the addresses, the firewall and the key at the vendor are lost too.
    """
    token = str(pair.output("adminSecrets")["api_enrol_token"])
    run = uuid.uuid4().hex[:8]
    fleet = [Device(pair, f"drill-{run}-{number}", token) for number in range(devices)]
    say(f"filling the database with {megabytes} MB")
    leads = leader(pair)
    before, size = fill(pair, leads, megabytes)
    say("making a full backup")
    backup = pair.on_node(leads, "overlordctl", "backup", "now", "--full", timeout=3600)
    snapshot = time.time() - backup.seconds
    with posting(fleet):
        # Two minutes of log beyond the backup, so that the archive has to be replayed.
        eventually("statuses", lambda: all(len(one.acknowledged) > 70 for one in fleet), 600)
        say("destroying both servers" + (" and all else at the vendor" if account else ""))
        burned = destroy(pair, account)
    up = threading.Thread(target=lambda: results.append(pair.up()), daemon=True)
    results: list[Run] = []
    say("pulumi up")
    up.start()
    probe = fleet[0]
    eventually("an acknowledged status", lambda: probe.post().code in (200, 201), SETTLE_SECONDS)
    first = time.time()
    say(f"first acknowledged status after {first - burned:.0f} s")
    assert digest(pair, NODES[0]) == before, "the data is not what it was"
    verified = time.time()
    lost = lost_seconds(pair, fleet, burned)
    up.join(SETTLE_SECONDS)
    assert results, "pulumi up did not end"
    results[0].must()
    ended = time.time()
    eventually("metrics from before", lambda: has_metrics(pair, snapshot), METRICS_SECONDS)
    measured = time.time()
    steps = [
        Step(f"{node}: {step['name']}", step["seconds"], step["started"] + step["seconds"] - burned)
        for node in NODES[:1]
        for step in pair.status_of(node)["boot"]["steps"]
        if step["seconds"] >= 0.5
    ]
    steps += [
        Step("first acknowledged status", first - burned, first - burned),
        Step("all data verified", verified - first, verified - burned),
        Step("pulumi up has ended, the standby copies", ended - burned, ended - burned),
        Step("metrics from before are there", measured - ended, measured - burned),
    ]
    say("measuring the floors")
    floors = {"a bare server boots": bare_boot(pair), **move_bytes(pair)}
    floors["the backup before it took"] = backup.seconds
    return Outcome(first - burned, lost, size, steps, floors)


def lost_seconds(pair: SandboxWorld, fleet: list[Device], burned: float) -> float:
    """How far back the restored database is: the age at the destruction of the oldest status that
    had been acknowledged before it and is not there."""
    stored = set(pair.query(NODES[0], STORED, timeout=QUERY_SECONDS).split())
    missing = [
        when
        for device in fleet
        for event, when in device.acknowledged
        if when <= burned and event not in stored
    ]
    return burned - min(missing) if missing else 0.0
