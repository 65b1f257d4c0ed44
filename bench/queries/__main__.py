"""How long the queries of the dashboards, of the rules and of the page take, on a fleet's data.

Real, each in a process of its own on this machine: Prometheus with the rules of a node, Loki with
a node's configuration, Alertmanager, PostgreSQL, the API. Loaded:

- Prometheus: all series of 500 devices and of the pair's services, six hours at a sample each 15 s;
  what the promises are measured by, 30 days. While it is asked, it takes a sample of every series
  each 15 s and evaluates the rules; the past of what they record was loaded too.
- Loki: six hours of the devices' and the services' lines.
- PostgreSQL: seven days of 500 devices, a status a minute.

Then each query is sent as Grafana, the rule manager or the page send it, one after the other, and
all of them again and again. Floors, in the same rounds: `vector(1)` and `SELECT 1`.

Run with `make bench-queries`. The exit code is 1 when a query's 95th percentile is over a second.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.queries.asked import (
    Asker,
    Query,
    distinct,
    drifted,
    of_dashboards,
    of_page,
    of_rules,
    of_variables,
    without_data,
)
from bench.queries.load import (
    going_on,
    load,
    load_logs,
    running_alertmanager,
    running_prometheus,
    start_rules,
)
from bench.queries.remote_write import Writer
from bench.server import process
from bench.stand import ApiStand, running_api
from bench.timing import Timing
from stack.dashboards.model import Panel
from tests.config.test_log_queries import running_loki
from tests.support.ports import free_port

PROMISED_SECONDS = 1.0
LIKE_SECONDS = 120.0


@contextmanager
def select_one(stand: ApiStand, folder: Path) -> Iterator[str]:
    """The least that an endpoint with a database can be, on the same database."""
    port = free_port()
    env = {"BENCH_DSN": stand.dsn, "BENCH_PORT": str(port)}
    with process("bench.select_one", port, env, folder / "select_one.log"):
        yield f"http://127.0.0.1:{port}"


def require_likeness(prometheus: Asker, panels: list[tuple[Query, Panel]]) -> None:
    """The queries are as dear as real ones: what they look at is there.

    The rules' metrics are loaded, what was loaded as recorded has the labels with which the rules
    record it, and every panel that must have data has some.

    Raises:
        click.ClickException: with that of which it is not so after two minutes.
    """
    deadline = time.monotonic() + LIKE_SECONDS
    while True:
        faults = {
            "not loaded": sorted(without_data(prometheus)),
            "recorded with other labels": sorted(drifted(prometheus)),
            "no data for": [
                query.name
                for query, panel in panels
                if not panel.quiet and not query.ask()["data"]["result"]
            ],
        }
        if not any(faults.values()):
            return
        if time.monotonic() > deadline:
            raise click.ClickException(f"bench/queries/series.py is behind: {faults}")
        time.sleep(2)


def measured(asked: list[Query], rounds: int) -> dict[str, Timing]:
    """Each of them so many times, in rounds: none is asked twice in a row."""
    timings = {_key(one): Timing(one.name) for one in asked}
    for _ in range(rounds):
        for one in asked:
            timings[_key(one)].run(one.ask)
    return timings


def measure(
    console: Console, folder: Path, *, devices: int, hours: float, days: float, rounds: int
) -> bool:
    """Load, ask, print; whether every query kept the promise."""
    with ExitStack() as stack:
        digits = len(str(devices))
        ids = [f"pi-{number:0{digits}}" for number in range(1, devices + 1)]
        console.print("Prometheus …")
        prometheus = Asker(stack.enter_context(running_prometheus(folder)))
        loaded = load(prometheus.url, ids, hours, console.print)
        start_rules(prometheus.url, folder)
        stack.enter_context(going_on(Writer(prometheus.url, loaded.origin), loaded))

        console.print("Loki …")
        loki = Asker(stack.enter_context(running_loki(folder / "loki.log")))
        console.print(f"{load_logs(loki.url, ids, hours):,} lines")

        console.print("PostgreSQL …")
        alertmanager = stack.enter_context(running_alertmanager(folder, 50))
        stand = stack.enter_context(running_api(loki_url=loki.url, alertmanager_url=alertmanager))
        started = time.monotonic()
        rows = stand.fill(devices, days)
        console.print(f"{rows:,} rows of history in {time.monotonic() - started:.0f} s")
        api = Asker(stand.url, {"Authorization": f"Bearer {stand.token}"})
        bare = Asker(stack.enter_context(select_one(stand, folder)))

        device = ids[len(ids) // 2]
        panels = list(of_dashboards(prometheus, loki, device))
        head = prometheus.get("/api/v1/status/tsdb")["data"]["headStats"]
        console.print(f"{head['numSeries']:,} series in Prometheus' head")
        require_likeness(prometheus, panels)
        floors = [
            Query("floor", "Prometheus: vector(1)",
                  lambda: prometheus.get("/api/v1/query", query="vector(1)"), ""),
            Query("floor", "Loki: vector(1)",
                  lambda: loki.get("/loki/api/v1/query", query="vector(1)"), ""),
            Query("floor", "API: SELECT 1", lambda: bare.post("/"), ""),
        ]  # fmt: skip
        asked = distinct(
            [
                *floors, *(query for query, _ in panels), *of_variables(prometheus),
                *of_rules(prometheus), *of_page(api, device),
            ]
        )  # fmt: skip
        console.print(f"{len(asked)} queries, {rounds} times each …")
        timings = measured(asked, rounds)
    return report(console, asked, timings)


def report(console: Console, asked: list[Query], timings: dict[str, Timing]) -> bool:
    """Print the figures, the slowest first; whether every query kept the promise."""
    floors = {one.name: timings[_key(one)].p50 for one in asked if one.kind == "floor"}
    table = Table(title="Milliseconds, and the median's ratio to the floor of the same run")
    for column in ("", "query", "p50", "p95", "max", "ratio"):
        table.add_column(column, justify="left" if column in ("", "query") else "right")
    ordered = sorted(asked, key=lambda one: timings[_key(one)].p95, reverse=True)
    for one in ordered:
        timing = timings[_key(one)]
        ratio = timing.p50 / floors[one.floor] if one.floor else 1.0
        table.add_row(
            one.kind, one.name, *(f"{value * 1000:.1f}" for value in
            (timing.p50, timing.p95, timing.longest)), f"{ratio:.1f}",
        )  # fmt: skip
    console.print(table)
    kept = True
    for kind in ("dashboard", "rule", "page"):
        slowest = next(one for one in ordered if one.kind == kind)
        count = sum(one.kind == kind for one in asked)
        p95 = timings[_key(slowest)].p95
        kept = kept and p95 <= PROMISED_SECONDS
        console.print(
            f"{kind}: {count} queries, the slowest is {slowest.name}, p95 {p95 * 1000:.0f} ms"
        )
    console.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return kept


def _key(query: Query) -> str:
    return f"{query.kind}: {query.name}"


@click.command()
@click.option("--devices", default=500, show_default=True)
@click.option("--hours", default=6.0, show_default=True, help="of all series and log lines")
@click.option("--days", default=7.0, show_default=True, help="of history in PostgreSQL")
@click.option("--rounds", default=20, show_default=True, help="how often each query is sent")
def main(devices: int, hours: float, days: float, rounds: int) -> None:
    """Measure every query against floors of the same run."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name:
        kept = measure(console, Path(name), devices=devices, hours=hours, days=days, rounds=rounds)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
