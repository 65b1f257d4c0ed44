"""How fast the API takes statuses, beside what PostgreSQL itself can take in the same run.

One PostgreSQL with durable commits, one API process, one client, all on this machine:

- batches of 500 over HTTP, in turns with COPY of such rows into the same table, 500 a commit;
- single posts of 500 devices against an endpoint that asks the database for `SELECT 1`;
- a fleet that comes back after some days, all of it at once, while live posts go on.

Batches are packed beforehand: the devices' work is not the server's. Run with `make bench-ingest`.
The ratios hold on other machines; the seconds do not.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import click
import psycopg
import uvloop
from rich.console import Console
from rich.table import Table

from bench.fleet import METRICS, Device, p, paced_posts, report, send_single
from bench.ingest.stand import Stand, stand_up
from device.agent.overlord_device.backoff import Backoff, parse_retry_after
from device.agent.overlord_device.sender import MAX_BATCH, REPLAY_PAUSE_S

BATCH = 500
PERIOD = timedelta(seconds=60)
# The API takes what is up to 7 days old: the replay ends before the oldest is too old, and starts
# where the newest would be live.
TOO_OLD_SOON, LIVE = timedelta(minutes=30), timedelta(minutes=10)
CORES = 4
# COPY and batches take turns: a second of either says little on a machine that has other moments.
TURNS = 5

_COLUMNS = (
    "device_id, event_id, event_time, observed_at, received_at, status, message, uptime_seconds, "
    "config_version, agent_version, kernel, boot_id, clock_skew_seconds, metrics"
)


class Work(NamedTuple):
    """What some rows took.

    Args:
        seconds: wall time.
        client: seconds of processor time of this process; so for the other two.
    """

    rows: int
    seconds: float
    client: float
    api: float
    postgres: float

    @staticmethod
    def total(works: Sequence[Work]) -> Work:
        """All of them, one after the other."""
        return Work(*map(sum, zip(*works, strict=True)))

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    def rate_on(self, cores: int) -> float:
        """Rows a second on a server with so many cores like these, its devices elsewhere.

        The API is one process, so it has one core at most, and PostgreSQL the others.
        """
        return min(self.rows / self.api, (cores - 1) * self.rows / self.postgres)


class Meter:
    """Measures from its making on."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._start = self._now()

    def _now(self) -> tuple[float, ...]:
        api, postgres = self._stand.api.cpu_seconds(), self._stand.postgres.cpu_seconds()
        return time.perf_counter(), time.process_time(), api, postgres

    def work(self, rows: int) -> Work:
        """What so many rows took since."""
        return Work(rows, *(now - then for now, then in zip(self._now(), self._start, strict=True)))


@dataclass
class Replay:
    """What came of a replay.

    Args:
        live: seconds of each live post meanwhile.
        refused: batches that were told to come again.
        memory: bytes of the API and of PostgreSQL, once a second.
    """

    live: list[float] = field(default_factory=list)
    refused: int = 0
    memory: list[tuple[int, int]] = field(default_factory=list)


def packed(reports: list[dict[str, Any]]) -> bytes:
    """The body of a batch."""
    return gzip.compress(json.dumps({"reports": reports}).encode(), compresslevel=1)


def batches(devices: list[Device], start: datetime, rows: int) -> list[tuple[Device, bytes]]:
    """Packed batches, as many as hold the rows: one status a minute and device from a start on."""
    made = []
    for number in range(rows // BATCH):
        device = devices[number % len(devices)]
        first = start + number // len(devices) * BATCH * PERIOD
        sent_at = datetime.now(UTC).isoformat()
        times = (first + i * PERIOD for i in range(BATCH))
        body = packed([report(device.device_id, when, sent_at=sent_at) for when in times])
        made.append((device, body))
    return made


def kept(device_id: str, start: datetime, rows: int) -> list[bytes]:
    """The batches of a device that was cut off. Without `sent_at`, which is known on sending."""
    times = [start + number * PERIOD for number in range(rows)]
    return [
        packed([report(device_id, when) for when in times[first : first + BATCH]])
        for first in range(0, rows, BATCH)
    ]


def copy_floor(stand: Stand, table: str, start: datetime, rows: int) -> Work:
    """What COPY of so many rows into a table takes, by one connection in commits of one batch."""
    now = datetime.now(UTC)
    metrics = json.dumps(METRICS)
    chunks = []
    for number in range(rows // BATCH):
        lines = (
            f"copy-{number % 500:05}\t{uuid.uuid4()}\t{when}\t{when}\t{now}\tok\t\t86400\t"
            f"3f2c1d0a9b8e\t0.1.0\t6.12.20+rpt-rpi-v8\t{uuid.UUID(int=7)}\t0.1\t{metrics}\n"
            for when in (start + (number // 500 * BATCH + i) * PERIOD for i in range(BATCH))
        )
        chunks.append("".join(lines).encode())
    with psycopg.connect(stand.dsn, autocommit=True) as connection:
        meter = Meter(stand)
        for chunk in chunks:
            with connection.cursor().copy(f"COPY {table} ({_COLUMNS}) FROM STDIN") as copy:
                copy.write(chunk)
        return meter.work(len(chunks) * BATCH)


async def many(jobs: Iterator[Callable[[], Awaitable[None]]], at_once: int) -> None:
    """Run jobs, so many at once."""

    async def worker() -> None:
        for job in jobs:
            await job()

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def send_batch(stand: Stand, device: Device, body: bytes) -> int:
    """Deliver one batch as the agent does; how often it was told to come again."""
    headers = {
        **device.headers,
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
    }
    backoff = Backoff()
    while True:
        async with stand.http.post("/api/status", data=body, headers=headers) as answer:
            text = await answer.text()
        if answer.status == 429:
            after = parse_retry_after(answer.headers["Retry-After"], None)
            await asyncio.sleep(backoff.fail(after))
            continue
        if answer.status != 200 or '"refused"' in text:
            raise click.ClickException(f"a batch was not taken: {answer.status} {text[:300]}")
        return backoff.failures


async def batched(stand: Stand, start: datetime, rows: int, at_once: int = 4) -> Work:
    """Batches of live-age reports."""
    work = batches(stand.devices, start, rows)

    async def send(device: Device, body: bytes) -> None:
        await send_batch(stand, device, body)

    meter = Meter(stand)
    await many((partial(send, device, body) for device, body in work), at_once)
    return meter.work(len(work) * BATCH)


async def timed_posts(
    stand: Stand, count: int, at_once: int, post: Callable[[int], Awaitable[None]]
) -> tuple[Work, list[float]]:
    """So many posts, and the seconds of each."""
    taken: list[float] = []

    async def one(number: int) -> None:
        started = time.perf_counter()
        await post(number)
        taken.append(time.perf_counter() - started)

    meter = Meter(stand)
    await many((partial(one, number) for number in range(count)), at_once)
    return meter.work(count), taken


async def sampled_memory(stand: Stand, stop: asyncio.Event) -> list[tuple[int, int]]:
    """Memory of the API and of PostgreSQL, once a second."""
    samples = []
    while not stop.is_set():
        samples.append((stand.api.memory_bytes(), stand.postgres.memory_bytes()))
        await asyncio.sleep(1)
    return samples


async def replayed(stand: Stand, bodies: list[list[bytes]], rows: int) -> tuple[Work, Replay]:
    """Every device sends what it kept, all devices at once, each with the agent's pauses."""
    stop = asyncio.Event()
    pause = PERIOD.total_seconds() / len(stand.devices)
    live = asyncio.create_task(paced_posts(stand.http, stand.devices, pause, stop.is_set))
    memory = asyncio.create_task(sampled_memory(stand, stop))

    async def come_back(device: Device, kept_bodies: list[bytes]) -> int:
        refused, most = 0, REPLAY_PAUSE_S * BATCH / MAX_BATCH
        for body in kept_bodies:
            refused += await send_batch(stand, device, body)
            await asyncio.sleep(random.uniform(0, most))  # noqa: S311
        return refused

    meter = Meter(stand)
    refused = await asyncio.gather(*map(come_back, stand.devices, bodies))
    work = meter.work(rows)
    stop.set()
    return work, Replay([post.seconds for post in await live], sum(refused), await memory)


def recorded(stand: Stand) -> int:
    """Statuses of the fleet in the database."""
    with psycopg.connect(stand.dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM status_history WHERE device_id LIKE 'bench-%'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def ratios(lines: list[tuple[str, float, str, float, str]]) -> Table:
    """Each a job, its figure, what it is compared with, the figure of that, and their unit."""
    table = Table(title="Ingest, and ratios to floors of the same run")
    for column in ("job", "figure", "floor", "figure", "ratio"):
        table.add_column(column, justify="left" if column in ("job", "floor") else "right")
    for job, figure, floor, base, unit in lines:
        table.add_row(
            job, f"{figure:,.0f} {unit}", floor, f"{base:,.0f} {unit}", f"{figure / base:.2f}"
        )
    return table


def shares(jobs: dict[str, Work]) -> Table:
    """Where the processor time goes, and what that makes on a larger server."""
    table = Table(title="Processor time a row, in microseconds")
    table.add_column("job")
    for column in ("client", "API", "PostgreSQL", "rows/s here", f"rows/s on {CORES} cores"):
        table.add_column(column, justify="right")
    for job, work in jobs.items():
        each = (f"{1e6 * cpu / work.rows:.1f}" for cpu in (work.client, work.api, work.postgres))
        larger = f"{work.rate_on(CORES):,.0f}" if job != "COPY" else ""
        table.add_row(job, *each, f"{work.rate:,.0f}", larger)
    return table


async def measure(rows: int, posts: int, fleet: int, days: float, console: Console) -> None:
    """Measure and print."""
    # An interpreter built without its own profile takes a fifth longer.
    console.print(f"Python {sys.version}")
    async with stand_up(fleet) as stand:
        recent = datetime.now(UTC) - (BATCH + 1) * PERIOD
        console.print(f"COPY of {rows:,} rows …")
        with psycopg.connect(stand.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE plain (LIKE status_history INCLUDING DEFAULTS)")
        plain = copy_floor(stand, "plain", recent, rows)
        copies, through_api = [], []
        for turn in range(1, TURNS + 1):
            copies.append(copy_floor(stand, "status_history", recent, rows))
            through_api.append(await batched(stand, recent, rows))
            ratio = through_api[-1].rate / copies[-1].rate
            console.print(
                f"turn {turn} of {TURNS}, {rows:,} rows each: COPY {copies[-1].rate:,.0f} rows/s, "
                f"batches of {BATCH} {through_api[-1].rate:,.0f} rows/s, {ratio:.2f}"
            )
        copy, batch = Work.total(copies), Work.total(through_api)

        console.print(f"{posts:,} single posts of {fleet} devices, 32 at once …")
        order = random.sample(range(posts), posts)

        async def post(number: int) -> None:
            await send_single(stand.http, stand.devices[order[number] % fleet])

        async def select_one(number: int) -> None:
            now = datetime.now(UTC)
            body = report("bench-00000", now, sent_at=now.isoformat())
            async with stand.http.post(stand.bare, json=body) as answer:
                answer.raise_for_status()
                await answer.read()

        single, singles = await timed_posts(stand, posts, 32, post)
        bare, bares = await timed_posts(stand, posts, 32, select_one)

        of_each = (timedelta(days=days) - TOO_OLD_SOON - LIVE) // PERIOD
        console.print(f"making {days:g} days of {fleet} devices: {of_each * fleet:,} rows …")
        start = datetime.now(UTC) - timedelta(days=days) + TOO_OLD_SOON
        make = partial(kept, start=start, rows=of_each)
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            bodies = list(pool.map(make, (device.device_id for device in stand.devices)))
        console.print("all of them come back at once, and live posts go on …")
        replay, meanwhile = await replayed(stand, bodies, of_each * fleet)
        found = recorded(stand)

    live = meanwhile.live
    into, one = "COPY into the same table", "SELECT 1 endpoint"
    lines = [
        (f"batches of {BATCH} over HTTP", batch.rate, into, copy.rate, "rows/s"),
        ("", batch.rate, "COPY into a table without an index", plain.rate, "rows/s"),
        ("single post, p50", p(singles, 50), one, p(bares, 50), "ms"),
        ("single post, p99", p(singles, 99), one, p(bares, 99), "ms"),
        ("single posts", single.rate, one, bare.rate, "posts/s"),
        (f"replay of {replay.rows:,} rows", replay.rate, into, copy.rate, "rows/s"),
        ("live posts meanwhile, p99", p(live, 99), "single post, p99", p(singles, 99), "ms"),
    ]
    console.print(ratios(lines))
    console.print(
        shares({"COPY": copy, "batches": batch, "single posts": single, "replay": replay})
    )
    console.print(
        f"Replay: {replay.seconds:.0f} s; {meanwhile.refused:,} times a batch was told to come "
        f"again. Live posts meanwhile: {len(live):,} sent, all answered, the slowest in "
        f"{max(live) * 1000:.0f} ms."
    )
    for name, samples in zip(
        ("API", "PostgreSQL"), zip(*meanwhile.memory, strict=True), strict=True
    ):
        moments = (samples[len(samples) // 10], samples[len(samples) // 2], samples[-1])
        early, half, end = (f"{size / 2**20:,.0f}" for size in moments)
        console.print(
            f"{name}'s memory in MiB: {early} a tenth into the replay, {half} halfway, "
            f"{end} at its end; at most {max(samples) / 2**20:,.0f}."
        )
    expected = batch.rows + posts + replay.rows + len(live)
    console.print(f"Rows sent {expected:,}, rows in the database {found:,}.")
    console.print(
        f"On {CORES} cores: what the API, which is one process, does with one core, or PostgreSQL "
        f"with {CORES - 1}, whichever is less; the client is elsewhere. Left out: TLS, the other "
        "services, and waiting for locks or the disk."
    )
    if found != expected:
        raise click.ClickException("statuses were lost or doubled")


@click.command()
@click.option("--rows", default=100_000, show_default=True, help="rows a floor and the batches")
@click.option("--posts", default=5_000, show_default=True, help="single posts")
@click.option("--devices", default=500, show_default=True)
@click.option("--days", default=0.7, show_default=True, help="of replay; 7 is five million rows")
def main(rows: int, posts: int, devices: int, days: float) -> None:
    """Measure ingest against floors of the same run."""
    uvloop.run(measure(rows, posts, devices, days, Console()))


if __name__ == "__main__":
    main()
