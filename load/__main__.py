"""`make load`: a whole fleet against the pair, and what every container of both nodes used for it.

500 devices by default, each with an address of its own: both nodes scrape node exporter and Netdata
of each every 15 seconds, each posts a status a minute through the public name, and log lines of all
go to both nodes over the tailnet. After the run everything is counted: statuses, scrapes, lines.

Uses the sandbox that is up, or brings one up, and leaves it up; the devices are retired.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from device.simulator.fleet import Plan
from device.simulator.stats import percentile
from load.fleet_host import fleet_host
from load.run import SCRAPED_SECONDS, Load, play_load, retire
from load.usage import Disk, Use
from sandbox import world as fixed
from tests.e2e.sandbox_world import SandboxWorld, command

RESULT = Path("test-artefacts/load.json")
KEPT_DAYS = 90
DAY_MINUTES = 1440


def container_table(uses: list[Use]) -> Table:
    """What each container used beside what it may use."""
    table = _table(
        "containers, each beside its own limit",
        ("node", "service"), ("memory MiB", "limit", "CPU mean", "busiest minute", "limit"),
    )  # fmt: skip
    for use in uses:
        table.add_row(
            use.node, use.service, f"{use.memory / 2**20:.0f}", f"{use.memory_limit / 2**20:.0f}",
            f"{use.cpu:.3f}", f"{use.cpu_peak:.3f}", f"{use.cpu_limit:.2f}",
            style=None if use.within else "red",
        )  # fmt: skip
    return table


def disk_table(disks: list[Disk]) -> Table:
    """What each service keeps on disk beside the room that it has."""
    table = _table(
        "data, beside its room on a node for such a fleet",
        ("node", "service"), ("MB", "grew MB", "room GB"),
    )  # fmt: skip
    for disk in disks:
        table.add_row(
            disk.node, disk.service, f"{disk.used / 1e6:.1f}", f"{disk.grew / 1e6:.1f}",
            f"{disk.limit / 1e9:.0f}", style=None if disk.within else "red",
        )  # fmt: skip
    return table


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for word in left:
        table.add_column(word)
    for word in right:
        table.add_column(word, justify="right")
    return table


def show(load: Load, console: Console) -> None:
    """Print what came in and what it took."""
    live = [value * 1000 for value in load.stats.latencies.get("live", [])]
    console.print(
        f"statuses: {load.verdict.acknowledged} acknowledged, {len(load.verdict.lost)} lost, "
        f"{len(load.verdict.doubled)} doubled; "
        f"p50 {percentile(live, 50):.0f} ms, p99 {percentile(live, 99):.0f} ms"
    )
    for one in load.counted:
        console.print(
            f"{one.node}: {one.targets} targets of devices, {one.down} failed a scrape; "
            f"{one.series} series, {one.samples:.0f} samples/s; "
            f"{one.pushed} log lines taken, {one.lines} held, {one.refused} pushes refused; "
            f"{one.missed} rounds of rules missed"
        )
    kept = load.status_bytes * load.devices * DAY_MINUTES * KEPT_DAYS
    console.print(
        f"a kept status: {load.status_bytes:.0f} bytes, "
        f"so {kept / 1e9:.1f} GB of this fleet in {KEPT_DAYS} days"
    )
    console.print(container_table(load.uses))
    console.print(disk_table(load.disks))
    for line in load.wrong:
        console.print(f"NOT GOOD: {line}", style="red")


def as_json(load: Load) -> str:
    """For a file."""
    return json.dumps(
        {
            "devices": load.devices,
            "acknowledged": load.verdict.acknowledged,
            "counts": dict(load.stats.counts),
            "post_seconds": {
                f"p{share}": percentile(load.stats.latencies.get("live", []), share)
                for share in (50, 95, 99)
            },
            "nodes": [asdict(one) for one in load.counted],
            "containers": [asdict(one) for one in load.uses],
            "disks": [asdict(one) for one in load.disks],
            "wrong": load.wrong,
        },
        indent=1,
    )


@click.command()
@click.option("--devices", default=500, show_default=True, type=click.IntRange(1, 500))
@click.option("--minutes", default=10.0, show_default=True, help="that are measured")
def main(devices: int, minutes: float) -> None:
    """Play the fleet. Exit code 1 when anything was dropped or a limit was reached."""
    command(["make", "--no-print-directory", "up", "ARGS="], timeout=2400).must()
    world, window = SandboxWorld(), round(minutes * 60)
    plan = Plan(
        base_url=fixed.PUBLIC_URL.rstrip("/"),
        devices=devices,
        # They stop when the window has passed.
        duration_s=window + 2 * SCRAPED_SECONDS,
        prefix=f"load-{int(time.time()) % 100_000:05}",
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        fleet_host(world, plan, Path(folder)) as (host, placed),
    ):
        try:
            load = play_load(world, host, placed, window, click.echo)
        finally:
            retire(world, placed.names())
    show(load, Console(width=160))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(as_json(load) + "\n")
    sys.exit(1 if load.wrong else 0)


if __name__ == "__main__":
    main()
