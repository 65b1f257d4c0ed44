"""How fast the API takes statuses, beside what PostgreSQL itself can take in the same run.

One PostgreSQL with durable commits, one API process, one client, all on this machine:

- batches of 500 over HTTP against COPY of the same rows into the same table, 500 a commit;
- single posts of 500 devices against an endpoint that asks the database for `SELECT 1`;
- the replay of some days of the whole fleet while live posts go on.

Run with `make bench-ingest`. The ratios hold on other machines; the seconds do not.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import click
import psycopg
from rich.console import Console
from rich.table import Table

from dashboard.migrate import MigrationSettings, migrate
from tests.support.agent import running_agent
from tests.support.postgres import running_postgres

BATCH = 500
PERIOD_SECONDS = 60
DURABLE = "fsync = on\nsynchronous_commit = on\nshared_buffers = 512MB\nmax_wal_size = 2GB\n"
START_SECONDS = 30.0
API_PORT, BARE_PORT = 8890, 8891

_COLUMNS = (
    "device_id, event_id, event_time, observed_at, received_at, status, message, uptime_seconds, "
    "config_version, agent_version, kernel, boot_id, clock_skew_seconds, metrics"
)
_METRICS = {
    "cpu_percent": 12.5,
    "memory_percent": 43.1,
    "disk_percent": 61.0,
    "temperature_celsius": 48.7,
    "load_1m": 0.42,
    "network_rx_bytes": 123456.0,
}


@dataclass(frozen=True)
class Device:
    """An enrolled device and what it sends with."""

    device_id: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Stand:
    """The API on its database.

    Args:
        http: a client of the API.
        dsn: the database, as the superuser.
        devices: the enrolled fleet.
    """

    http: aiohttp.ClientSession
    dsn: str
    devices: list[Device]


def report(device_id: str, when: datetime) -> dict[str, Any]:
    """A status as the reference agent sends it."""
    return {
        "device_id": device_id,
        "event_id": str(uuid.uuid4()),
        "event_time": when.isoformat(),
        "sent_at": datetime.now(UTC).isoformat(),
        "status": "ok",
        "message": "",
        "uptime_seconds": 86400,
        "config_version": "3f2c1d0a9b8e",
        "agent_version": "0.1.0",
        "kernel": "6.12.20+rpt-rpi-v8",
        "boot_id": str(uuid.UUID(int=7)),
        "metrics": _METRICS,
    }


def batches(devices: list[Device], start: datetime, rows: int) -> list[tuple[Device, bytes]]:
    """Packed batches, as many as hold the rows: one status a minute and device from a start on."""
    made = []
    for number in range(rows // BATCH):
        device = devices[number % len(devices)]
        first = start + timedelta(seconds=number // len(devices) * BATCH * PERIOD_SECONDS)
        times = (first + timedelta(seconds=i * PERIOD_SECONDS) for i in range(BATCH))
        body = json.dumps({"reports": [report(device.device_id, when) for when in times]})
        made.append((device, gzip.compress(body.encode(), compresslevel=1)))
    return made


def copy_floor(dsn: str, table: str, start: datetime, rows: int) -> float:
    """Rows a second that COPY brings into a table, in commits of one batch."""
    now = datetime.now(UTC)
    metrics = json.dumps(_METRICS)
    chunks = []
    for number in range(rows // BATCH):
        lines = (
            f"copy-{number % 500:05}\t{uuid.uuid4()}\t{when}\t{when}\t{now}\tok\t\t86400\t"
            f"3f2c1d0a9b8e\t0.1.0\t6.12.20+rpt-rpi-v8\t{uuid.UUID(int=7)}\t0.1\t{metrics}\n"
            for when in (
                start + timedelta(seconds=(number // 500 * BATCH + i) * PERIOD_SECONDS)
                for i in range(BATCH)
            )
        )
        chunks.append("".join(lines).encode())
    with psycopg.connect(dsn, autocommit=True) as connection:
        started = time.perf_counter()
        for chunk in chunks:
            with connection.cursor().copy(f"COPY {table} ({_COLUMNS}) FROM STDIN") as copy:
                copy.write(chunk)
        return rows / (time.perf_counter() - started)


async def many(jobs: Iterator[Callable[[], Awaitable[None]]], at_once: int) -> float:
    """Run jobs, so many at once; the seconds it took."""

    async def worker() -> None:
        for job in jobs:
            await job()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return time.perf_counter() - started


async def send_batch(stand: Stand, device: Device, body: bytes) -> None:
    """Deliver one batch, again after a 429 as a device does."""
    headers = {
        **device.headers,
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
    }
    while True:
        async with stand.http.post("/api/status", data=body, headers=headers) as answer:
            if answer.status == 429:
                await asyncio.sleep(float(answer.headers["Retry-After"]))
                continue
            text = await answer.text()
        if answer.status != 200 or '"refused"' in text:
            raise click.ClickException(f"a batch was not taken: {answer.status} {text[:300]}")
        return


async def batched(stand: Stand, start: datetime, rows: int, at_once: int = 4) -> float:
    """Rows a second in batches of live-age reports."""
    work = batches(stand.devices, start, rows)
    jobs = (partial(send_batch, stand, device, body) for device, body in work)
    return len(work) * BATCH / await many(jobs, at_once)


async def timed_posts(
    count: int, at_once: int, post: Callable[[int], Awaitable[None]]
) -> tuple[float, list[float]]:
    """Posts a second, and the seconds of each."""
    taken: list[float] = []

    async def one(number: int) -> None:
        started = time.perf_counter()
        await post(number)
        taken.append(time.perf_counter() - started)

    seconds = await many((partial(one, number) for number in range(count)), at_once)
    return count / seconds, taken


async def paced_posts(stand: Stand, stop: asyncio.Event) -> list[float]:
    """Live posts of the fleet at its own pace, one a device and minute; the seconds of each."""
    taken: list[float] = []
    running: set[asyncio.Task[None]] = set()

    async def one(device: Device) -> None:
        started = time.perf_counter()
        await send_single(stand, device)
        taken.append(time.perf_counter() - started)

    for device in itertools.cycle(stand.devices):
        if stop.is_set():
            break
        task = asyncio.create_task(one(device))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(PERIOD_SECONDS / len(stand.devices))
    await asyncio.gather(*running)
    return taken


async def send_single(stand: Stand, device: Device) -> None:
    """Deliver one live status."""
    body = report(device.device_id, datetime.now(UTC))
    async with stand.http.post("/api/status", json=body, headers=device.headers) as answer:
        if answer.status != 200:
            raise click.ClickException(f"a status was not taken: {answer.status}")


def p(values: list[float], share: int) -> float:
    """A percentile in milliseconds."""
    return statistics.quantiles(values, n=100)[share - 1] * 1000


@contextmanager
def process(module: str, port: int, env: dict[str, str], log: Path) -> Iterator[None]:
    """A server of this repository that listens on a port of loopback."""
    with log.open("w") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(port, running, log)
        yield
    finally:
        running.terminate()
        running.wait(timeout=20)


def _wait_for(port: int, running: subprocess.Popen[bytes], log: Path) -> None:
    import socket

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and running.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise click.ClickException(f"nothing answers on port {port}:\n{log.read_text()[-2000:]}")


async def enrol(http: aiohttp.ClientSession, token: str, count: int) -> list[Device]:
    """Enrol a fleet."""
    devices = []
    for number in range(count):
        body = {"device_id": f"bench-{number:05}"}
        headers = {"Authorization": f"Bearer {token}"}
        async with http.post("/api/devices", json=body, headers=headers) as answer:
            answer.raise_for_status()
            own = (await answer.json())["token"]
        devices.append(Device(body["device_id"], {"Authorization": f"Bearer {own}"}))
    return devices


@asynccontextmanager
async def stand_up(count: int) -> AsyncIterator[tuple[Stand, str]]:
    """PostgreSQL, the API, the bare endpoint and a fleet; also the URL of the bare endpoint."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_postgres(settings=DURABLE) as server,
        running_agent() as agent,
    ):
        folder, socket = Path(name), str(server.socket)
        app = secrets.token_hex(16)
        migrate(MigrationSettings(socket, app, app, app, app, app))
        enrol_token = secrets.token_urlsafe(24)
        files = {
            "OVERLORD_DATABASE_PASSWORD_FILE": app,
            "OVERLORD_ENROL_TOKEN_FILE": enrol_token,
            "OVERLORD_OPERATOR_TOKEN_FILE": secrets.token_urlsafe(24),
        }
        for variable, value in files.items():
            (folder / variable).write_text(value)
        env = {
            **{variable: str(folder / variable) for variable in files},
            "OVERLORD_NODE": "vps-01",
            "OVERLORD_PEER": "vps-02",
            "OVERLORD_LISTEN": f"127.0.0.1:{API_PORT}",
            "OVERLORD_AGENT_URL": agent.url,
            "OVERLORD_PEER_AGENT_URL": agent.url,
            "OVERLORD_ALERTMANAGER_URL": agent.url,
            "OVERLORD_DATABASE_HOST": socket,
        }
        dsn = f"host={socket} user=postgres dbname=overlord"
        with (
            process("dashboard.api", API_PORT, env, folder / "api.log"),
            process(
                "bench.select_one",
                BARE_PORT,
                {"BENCH_DSN": dsn, "BENCH_PORT": str(BARE_PORT)},
                folder / "bare.log",
            ),
        ):
            connector = aiohttp.TCPConnector(limit=count)
            async with aiohttp.ClientSession(
                f"http://127.0.0.1:{API_PORT}", connector=connector
            ) as http:
                yield (
                    Stand(http, dsn, await enrol(http, enrol_token, count)),
                    f"http://127.0.0.1:{BARE_PORT}/",
                )


async def measure(rows: int, posts: int, fleet: int, days: float, console: Console) -> None:
    """Measure and print."""
    now = datetime.now(UTC)
    table = Table(title="Ingest, and ratios to floors of the same run")
    for column in ("job", "figure", "floor", "figure", "ratio"):
        table.add_column(column, justify="left" if column in ("job", "floor") else "right")
    async with stand_up(fleet) as (stand, bare):
        recent = now - timedelta(minutes=BATCH + 1)
        console.print(f"COPY of {rows} rows …")
        with psycopg.connect(stand.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE plain (LIKE status_history INCLUDING DEFAULTS)")
        into_plain = copy_floor(stand.dsn, "plain", recent, rows)
        into_history = copy_floor(stand.dsn, "status_history", recent, rows)
        console.print(f"batches of {BATCH}: {rows} rows …")
        through_api = await batched(stand, recent, rows)
        rate = "{:,.0f} rows/s".format
        for floor, figure in (
            ("COPY into a table without an index", into_plain),
            ("COPY into the table with its key", into_history),
        ):
            table.add_row(
                "batches over HTTP", rate(through_api), floor, rate(figure),
                f"{through_api / figure:.2f}",
            )  # fmt: skip

        console.print(f"{posts} single posts of {fleet} devices, 32 at once …")
        order = random.Random(1).choices(stand.devices, k=posts)  # noqa: S311
        per_second, singles = await timed_posts(
            posts, 32, lambda number: send_single(stand, order[number])
        )

        async def select_one(_: int) -> None:
            async with stand.http.post(bare, json=report("bench-00000", now)) as answer:
                answer.raise_for_status()
                await answer.read()

        bare_per_second, bares = await timed_posts(posts, 32, select_one)
        for share in (50, 99):
            table.add_row(
                f"single post, p{share}", f"{p(singles, share):.1f} ms",
                "SELECT 1 endpoint", f"{p(bares, share):.1f} ms",
                f"{p(singles, share) / p(bares, share):.2f}",
            )  # fmt: skip
        table.add_row(
            "single posts", f"{per_second:,.0f}/s", "SELECT 1 endpoint",
            f"{bare_per_second:,.0f}/s", f"{per_second / bare_per_second:.2f}",
        )  # fmt: skip

        replayed = int(days * 86400 / PERIOD_SECONDS / BATCH) * BATCH * fleet
        console.print(f"replay of {days:g} days of {fleet} devices: {replayed:,} rows …")
        stop = asyncio.Event()
        live = asyncio.create_task(paced_posts(stand, stop))
        # Made as they are sent: days of a fleet do not fit into memory.
        start = now - timedelta(days=days + 0.1)

        def replay() -> Iterator[Callable[[], Awaitable[None]]]:
            for number in range(replayed // BATCH):
                first = start + timedelta(seconds=number // fleet * BATCH * PERIOD_SECONDS)
                one = [stand.devices[number % fleet]]
                for device, body in batches(one, first, BATCH):
                    yield partial(send_batch, stand, device, body)

        seconds = await many(replay(), 16)
        stop.set()
        lives = await live
        with psycopg.connect(stand.dsn) as connection:
            row = connection.execute(
                "SELECT count(*) FROM status_history WHERE device_id LIKE 'bench-%'"
            ).fetchone()
    assert row is not None
    expected = rows // BATCH * BATCH + posts + replayed + len(lives)
    table.add_row(
        f"replay of {replayed:,} rows", rate(replayed / seconds),
        "COPY into the table with its key", rate(into_history),
        f"{replayed / seconds / into_history:.2f}",
    )  # fmt: skip
    if len(lives) > 1:
        table.add_row(
            "live posts meanwhile, p99", f"{p(lives, 99):.1f} ms", "without the replay",
            f"{p(singles, 99):.1f} ms", f"{p(lives, 99) / p(singles, 99):.2f}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"rows sent {expected:,}, rows in the database {row[0]:,}, cores {os.cpu_count()}"
    )
    if row[0] != expected:
        raise click.ClickException("statuses were lost or doubled")


@click.command()
@click.option("--rows", default=100_000, show_default=True, help="rows a floor and the batches")
@click.option("--posts", default=5_000, show_default=True, help="single posts")
@click.option("--devices", default=500, show_default=True)
@click.option("--days", default=0.7, show_default=True, help="of replay; 7 is five million rows")
def main(rows: int, posts: int, devices: int, days: float) -> None:
    """Measure ingest against floors of the same run."""
    asyncio.run(measure(rows, posts, devices, days, Console()))


if __name__ == "__main__":
    main()
