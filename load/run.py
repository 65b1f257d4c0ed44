"""One run: the fleet is scraped, posts and logs for a while; then everything is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from components.sizing import SIZES, Size
from device.simulator.fleet import Plan, play
from device.simulator.recorder import read_record
from device.simulator.stats import Stats
from device.simulator.verify import Verdict, compare_api
from load.fleet_host import NAME, NODES, FleetHost, mesh_address, reachable
from load.usage import Disk, Use, containers, disk_bytes, number
from tests.e2e.sandbox_world import SandboxWorld, eventually

LINES_A_SECOND = 0.1
"""Of each device: about a megabyte a day."""
TOGETHER = 50
"""Devices that share a push: all come from one address, whose pushes the way in limits."""
SCRAPED_SECONDS = 240
"""Until every device was found by service discovery and scraped by both nodes."""
LINES_SECONDS = 60
"""Until the last batches of log lines are in."""
EXPORTERS = "exporters"


@dataclass(frozen=True)
class Counted:
    """What came in on one node.

    Args:
        targets: of devices, and `down` those that failed a scrape in the window.
        series: in memory.
        samples: scraped a second, of the whole node.
        pushed: log lines that it took from the devices, and `lines` those that its Loki holds.
        refused: pushes of lines that it did not take.
        missed: rounds of rules that were skipped because one took too long.
    """

    node: str
    targets: int
    down: int
    series: int
    samples: float
    pushed: int
    refused: int
    lines: int
    missed: int


@dataclass(frozen=True)
class Load:
    """What a run gave.

    Args:
        devices: how many.
        stats: of the posts.
        verdict: statuses acknowledged against statuses stored.
        counted: by node.
        uses: each container of both nodes.
        disks: data of both nodes.
        status_bytes: of a kept status on disk, its indexes included.
    """

    devices: int
    stats: Stats
    verdict: Verdict
    counted: list[Counted]
    uses: list[Use]
    disks: list[Disk]
    status_bytes: float

    @property
    def wrong(self) -> list[str]:
        """Whatever was dropped or went over a limit, in words."""
        found = []
        if not self.verdict.good:
            found.append(f"statuses:\n{self.verdict.report()}")
        for word in ("left undelivered", "refused"):
            if self.stats.counts[word]:
                found.append(f"statuses {word}: {self.stats.counts[word]}")
        for one in self.counted:
            if one.targets != 2 * self.devices or one.down:
                found.append(f"{one.node}: {one.targets} targets, {one.down} failed a scrape")
            if one.lines != one.pushed:
                found.append(f"{one.node}: took {one.pushed} lines and holds {one.lines}")
            if one.refused:
                found.append(f"{one.node}: {one.refused} pushes of log lines refused")
            if one.missed:
                found.append(f"{one.node}: {one.missed} rounds of rules were missed")
        over: list[Use | Disk] = [*self.uses, *self.disks]
        return found + [
            f"{one.node}: {one.service} over its limit" for one in over if not one.within
        ]


def size_for(devices: int) -> Size:
    """The row of the sizing table for so many devices."""
    return next(size for fleet, size in sorted(SIZES.items()) if devices <= fleet)


def play_load(
    world: SandboxWorld, host: FleetHost, plan: Plan, window: int, say: Callable[[str], None]
) -> Load:
    """Play the fleet on its host until it is scraped and `window` seconds have passed; count."""
    host.start(
        EXPORTERS, NAME, EXPORTERS, "--devices", str(plan.devices), "--prefix", plan.prefix,
        "--first-address", plan.first_address, "--duration", str(plan.duration_s + 600),
    )  # fmt: skip
    for node in NODES:
        reached = partial(reachable, world, node, plan.first_address, 9100)
        eventually(f"the first device from {node}", reached, 60)
    room = size_for(plan.devices).service_disk_gb
    stats, before = asyncio.run(_play(world, host, plan, window, list(room), say))
    logs = {node: host.finish(f"logs-{node}", LINES_SECONDS) for node in NODES}
    verdict = asyncio.run(
        compare_api(
            read_record(host.folder / "record.jsonl"), plan.base_url,
            world.output("adminSecrets")["api_operator_token"], ca_file=_authority(world),
        )
    )  # fmt: skip
    after = {node: disk_bytes(world, node, room) for node in NODES}
    return Load(
        devices=plan.devices,
        stats=stats,
        verdict=verdict,
        counted=[_count(world, node, plan.prefix, window, logs[node]) for node in NODES],
        uses=[use for node in NODES for use in containers(world, node, window)],
        disks=[
            Disk(node, name, used, used - before[node][name], room[name] * 1000**3)
            for node, bytes_of in after.items()
            for name, used in bytes_of.items()
        ],
        status_bytes=_status_bytes(world),
    )


def retire(world: SandboxWorld, names: list[str]) -> None:
    """Take the devices out of the fleet again, those that were enrolled."""
    token = world.output("adminSecrets")["api_operator_token"]
    for name in names:
        answer = world.fetch(f"/api/devices/{name}/retire", method="POST", token=token)
        assert answer.code in (200, 404), answer.text


def _authority(world: SandboxWorld) -> Path:
    return world.world.ca / "ca.pem"


async def _play(
    world: SandboxWorld,
    host: FleetHost,
    plan: Plan,
    window: int,
    services: list[str],
    say: Callable[[str], None],
) -> tuple[Stats, dict[str, dict[str, int]]]:
    """Rates of the posts, and the bytes on disk by node and service when the window began."""
    stop = asyncio.Event()
    token = world.output("adminSecrets")["api_enrol_token"]
    devices = asyncio.create_task(
        play(plan, token, host.folder, ca_file=_authority(world), say=say, stop=stop)
    )
    try:
        scraped = asyncio.create_task(asyncio.to_thread(_await_scrapes, world, plan))
        await asyncio.wait({devices, scraped}, return_when=asyncio.FIRST_COMPLETED)
        if devices.done():
            await devices  # raises what went wrong
        await scraped
        before = {node: disk_bytes(world, node, services) for node in NODES}
        for node, other in (NODES, NODES[::-1]):
            host.start(
                f"logs-{node}", other, "logs",
                "--url", f"http://{mesh_address(world, node)}:3100",
                "--devices", str(plan.devices), "--prefix", plan.prefix,
                "--rate", str(LINES_A_SECOND), "--duration", str(window),
                "--together", str(TOGETHER),
            )  # fmt: skip
        say(f"both nodes scrape all devices; measuring for {window} s")
        await asyncio.wait({devices}, timeout=window)
    finally:
        stop.set()
        stats = await devices
    return stats, before


def _await_scrapes(world: SandboxWorld, plan: Plan) -> None:
    query = f"sum(up{{{_targets(plan.prefix)}}})"
    for node in NODES:
        eventually(
            f"scrapes of 2 ports of {plan.devices} devices by {node}",
            lambda node=node: number(world, node, query) == 2 * plan.devices,  # type: ignore[misc]
            SCRAPED_SECONDS,
            pause=3,
        )


def _targets(prefix: str) -> str:
    return f'job=~"device.*",device=~"{prefix}-.+"'


def _count(world: SandboxWorld, node: str, prefix: str, seconds: int, logs: str) -> Counted:
    """Ask a node's Prometheus and Loki what came in over the last seconds.

    Args:
        logs: what the simulator said of its log lines.
    """
    window = f"[{seconds}s]"
    ask = partial(number, world, node)
    devices = _targets(prefix)
    return Counted(
        node=node,
        targets=int(ask(f"count(up{{{devices}}})")),
        down=int(ask(f"count(min_over_time(up{{{devices}}}{window}) == 0)")),
        series=int(ask("prometheus_tsdb_head_series")),
        samples=ask(f"sum(rate(prometheus_tsdb_head_samples_appended_total{window}))"),
        pushed=_said(logs, "lines pushed"),
        refused=_said(logs, "pushes refused"),
        lines=_lines_held(world, node, prefix),
        missed=int(ask(f"sum(increase(prometheus_rule_group_iterations_missed_total{window}))")),
    )


def _lines_held(world: SandboxWorld, node: str, prefix: str) -> int:
    query = f'sum(count_over_time({{device=~"{prefix}-.+"}}[2h]))'
    text = world.on_node(
        node, "curl", "-sG", "http://127.0.0.1:3100/loki/api/v1/query",
        "--data-urlencode", f"query={query}",
    ).text  # fmt: skip
    found = json.loads(text)["data"]["result"]
    return int(found[0]["value"][1]) if found else 0


def _said(output: str, count: str) -> int:
    """A count in the simulator's report; 0 where it is not told."""
    for line in output.splitlines():
        if line.startswith(count):
            return int(line.removeprefix(count).split()[0])
    return 0


def _status_bytes(world: SandboxWorld) -> float:
    # Of today's partition, since an empty one takes room too.
    sql = (
        "select pg_total_relation_size(tableoid)::float / count(*) from status_history"
        " group by tableoid order by count(*) desc limit 1"
    )
    return float(world.query(NODES[0], sql))
