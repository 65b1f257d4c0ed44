"""How long the fleet page takes to be there, with 500 and with 10,000 devices, in a real Chromium.

Real, on this machine: the built page, served by nginx with a node's configuration (TLS, HTTP/2,
gzip, policy), the API, PostgreSQL with a status of every device. Cold: each load is a browser
profile that has seen nothing. The floor, in turn with it, is a page of one word from the same
nginx.

Run with `make bench-page`; screenshots are left in dashboard/web/test-artefacts. The exit code is 1
when a status takes longer than a second to the page, or the page of 500 devices over two seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import requests
from rich.console import Console
from rich.table import Table

from bench.stand import ApiStand, running_api
from sandbox.world import REPOSITORY
from tests.config.conftest import written
from tests.config.test_nginx import Ports, localised
from tests.support.programs import command, docker_daemon, native, running
from tests.support.receivers import wait_for
from tests.support.stack import context

WEB = REPOSITORY / "dashboard" / "web"
NAME = "overlord.localhost"  # which a browser takes for this machine
STATUS_SECONDS = 1.0
PAGE_SECONDS = 2.0
_TYPES = """\
types {
    text/html html;
    text/css css;
    application/javascript js;
    image/svg+xml svg;
}
"""
_BARE = "<!doctype html><html lang=en><title>Bare</title><p>Bare</p>\n"


def build() -> None:
    """The page, from the versions in its lock file."""
    for line in (["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
        done = subprocess.run([*line, "--silent"], cwd=WEB, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"{' '.join(line)}\n{done.stdout}{done.stderr}")


@contextmanager
def served(stand: ApiStand, fleet_size: int) -> Iterator[str]:
    """nginx with the page, in front of the API; its URL."""
    with ExitStack() as stack:
        if not native("nginx"):
            stack.enter_context(docker_daemon())
        node = stack.enter_context(written(context(public_name=NAME, fleet_size=fleet_size)))
        ports = Ports(api=stand.port)
        config = localised(node, ports)
        page = node.folder / "page"
        shutil.rmtree(page)
        shutil.copytree(WEB / "dist", page)
        (page / "bare.html").write_text(_BARE)
        for path in (page, *page.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        types = node.folder / "mime.types"
        if types.exists():  # this machine has no list of its own
            types.write_text(_TYPES)
        line = command("nginx", "-c", config, "-g", "daemon off;", folder=node.folder)
        stack.enter_context(running(line, node.folder / "nginx.log"))
        wait_for("nginx", lambda: _answers(ports.own), 30)
        yield f"https://{NAME}:{ports.https}"


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=2).ok
    except requests.RequestException:
        return False


def look(stand: ApiStand, folder: Path, devices: int) -> dict[str, Any]:
    """What Chromium measured of a fleet of that size."""
    stand.fill(devices - 1)
    device, token = stand.enrol("watched")
    result = folder / f"{devices}.json"
    with served(stand, devices) as url:
        stand.refresh()
        env = {
            **os.environ,
            "OVERLORD_URL": url,
            "OVERLORD_OPERATOR_TOKEN": stand.token,
            "OVERLORD_DEVICE": device,
            "OVERLORD_DEVICE_TOKEN": token,
            "OVERLORD_DEVICES": str(devices),
            "OVERLORD_BENCH_RESULT": str(result),
        }
        done = subprocess.run(
            ["npm", "run", "--silent", "bench"],
            cwd=WEB,
            env=env,
            capture_output=True,
            text=True,
            timeout=400,
        )
    if done.returncode:
        raise click.ClickException(f"{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _median(loads: list[dict[str, float]], key: str) -> float:
    return statistics.median(load[key] for load in loads)


def measure(console: Console, sizes: tuple[int, ...]) -> bool:
    """Measure and print; whether the promises were kept."""
    build()
    table = Table(title="The fleet page in Chromium, cold: medians of the loads")
    for column in ("", *(f"{size:,} devices" for size in sizes)):
        table.add_column(column, justify="right" if column else "left")
    with tempfile.TemporaryDirectory() as name, running_api() as stand:
        found = [look(stand, Path(name), size) for size in sizes]
    rows: list[tuple[str, list[str]]] = []
    for label, what, key, unit in (
        ("page of one word, first contentful paint", "floor", "firstPaint", "ms"),
        ("first contentful paint", "loads", "firstPaint", "ms"),
        ("whole fleet drawn", "loads", "fleetDrawn", "ms"),
        ("over the wire", "loads", "bytes", "KiB"),
        ("tasks over 50 ms", "loads", "longTasks", ""),
        ("longest of them", "loads", "longest", "ms"),
    ):
        scale = 1024 if unit == "KiB" else 1
        values = [_median(one[what], key) / scale for one in found]
        rows.append((label, [f"{value:.0f} {unit}".strip() for value in values]))
    for label, pick in (
        ("a status from post to page, median", statistics.median),
        ("longest", max),
    ):
        rows.append((label, [f"{pick(one['posts']):.0f} ms" for one in found]))
    ratios = [
        _median(one["loads"], "fleetDrawn") / _median(one["floor"], "firstPaint") for one in found
    ]
    rows.insert(3, ("  as a ratio to the page of one word", [f"{one:.1f}" for one in ratios]))
    for label, texts in rows:
        table.add_row(label, *texts)
    console.print(table)
    console.print(
        f"{len(found[0]['loads'])} loads, {len(found[0]['posts'])} posts a size. "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}."
    )
    quick = all(max(one["posts"]) <= STATUS_SECONDS * 1000 for one in found)
    return quick and _median(found[0]["loads"], "fleetDrawn") <= PAGE_SECONDS * 1000


@click.command()
@click.option("--devices", "sizes", multiple=True, default=(500, 10_000), show_default=True)
def main(sizes: tuple[int, ...]) -> None:
    """Measure the fleet page at each size."""
    started = time.monotonic()
    console = Console(width=None if sys.stdout.isatty() else 110)
    kept = measure(console, sizes)
    console.print(f"{time.monotonic() - started:.0f} s")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
