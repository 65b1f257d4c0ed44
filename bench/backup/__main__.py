"""How long a full backup and a restore take, beside what the machine needs for the least of them.

PostgreSQL and pgBackRest of the sandbox's image, with a node's configuration, and the emulated B2
on loopback, all on this machine:

- a full backup, and a restore to a database that is cleanly shut down, each beside its floors: all
  files read and written once more, the same objects moved to or from the bucket, and all files
  read and compressed by PostgreSQL's own zstd;
- live posts at a steady rate through the API on that PostgreSQL, in turns without and with a
  backup.

Run with `make bench-backup`, or with `make bench-backup ARGS="--gigabytes 10"` for more data. The
ratios hold on other machines; the seconds do not. All that was written is removed at the end.
"""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.backup.floors import Access, Moved, Streams, copy, fetch, objects, store
from bench.backup.posts import post_for, within
from bench.fleet import Fleet, Post, fleet_on, p
from dashboard.migrate import OWNER_ROLE
from overlord.backup.repository import parse_info
from overlord.commands.backup import BackupTool
from overlord.commands.compose import Compose
from tests.support.backup_site import DATA, Site, SiteRunner, site

ROW_BYTES = 1024
"""A row takes this much of its page, eight of them fill one."""
TABLE_BYTES = 512 * 10**6
# Nobody may look at the rows before the backup: the first look leaves a mark on each page, and with
# checksums that is as much log again as there is data.
FILL = """
    CREATE TABLE ballast_{number} WITH (autovacuum_enabled = false) AS
    SELECT g AS id, encode(gen_random_bytes(480), 'hex') AS payload
    FROM generate_series(1, {rows}) g
"""
# Tables that are made and filled in one transaction are not written to the log with these.
WITHOUT_LOG = ("wal_level=minimal", "max_wal_senders=0", "archive_mode=off", "max_wal_size=4GB")
AS_ON_A_NODE = ("shared_buffers=400MB",)
NEEDED = 3.5
"""Free disk, as a multiple of the data: the data, what the bucket holds, and a copy of the data."""
MOST_SECONDS = 3600
DEVICES = 500
TURNS = 3
TURN_SECONDS = 20.0
WARM_UP_SECONDS = 5.0


@dataclass(frozen=True)
class Line:
    """A job beside one of its floors."""

    job: str
    work: Moved
    floor: str
    base: Moved

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        return (
            self.job,
            f"{self.work.seconds:,.1f}",
            f"{self.work.rate:,.0f}",
            self.floor,
            f"{self.base.seconds:,.1f}",
            f"{self.base.rate:,.0f}",
            f"{self.work.seconds / self.base.seconds:.2f}",
        )


def table_of(lines: list[Line]) -> Table:
    """All jobs; of a floor that moves less, the rate is that of what it moves."""
    table = Table(title="Backup and restore, and ratios to floors of the same run")
    for column in ("job", "seconds", "MB/s", "floor", "seconds", "MB/s", "ratio"):
        table.add_column(column, justify="left" if column in ("job", "floor") else "right")
    for line in lines:
        table.add_row(*line.cells)
    return table


def check_room(folder: Path, gigabytes: float) -> None:
    """Raises ClickException where the disk is too full."""
    free, needed = shutil.disk_usage(folder).free / 1e9, gigabytes * NEEDED + 1
    if free < needed:
        raise click.ClickException(
            f"{folder} has {free:.0f} GB free, and {gigabytes:g} GB of data need {needed:.0f} GB: "
            "make room, or take fewer with --gigabytes"
        )


def pieces(gigabytes: float) -> list[int]:
    """Rows of each table that is to be made."""
    rows, most = math.ceil(gigabytes * 1e9 / ROW_BYTES), TABLE_BYTES // ROW_BYTES
    return [min(most, rows - done) for done in range(0, rows, most)]


def fill(here: Site, gigabytes: float) -> int:
    """Make tables that zstd halves and no more; returns the rows."""
    rows = pieces(gigabytes)
    here.sql("CREATE EXTENSION pgcrypto")
    here.stop()
    here.start(settings=(*AS_ON_A_NODE, *WITHOUT_LOG))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = [
            pool.submit(here.sql, FILL.format(number=number, rows=count), MOST_SECONDS)
            for number, count in enumerate(rows)
        ]
        for one in made:
            one.result()
    here.stop()
    here.start(settings=AS_ON_A_NODE)
    return sum(rows)


def counted(here: Site, tables: int) -> int:
    """Rows of the tables."""
    count = "SELECT count(*) FROM ballast_{number}"
    return sum(int(here.sql(count.format(number=number), MOST_SECONDS)) for number in range(tables))


class Timed:
    """Measures what is done in a block.

    Args:
        seconds: wall time.
        bucket: seconds of processor time of this process, which is the bucket and little else.
    """

    seconds = bucket = 0.0

    def __enter__(self) -> Timed:
        self._start, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self.bucket = time.process_time() - self._cpu


def back_up(here: Site) -> float:
    """A full backup, by the command of a node; returns when it ended."""
    tool = BackupTool(Compose(Path("/compose.yaml"), Path("/compose.env")))
    result = SiteRunner(here).run(tool.backup("full"))
    if result.code:
        raise click.ClickException(f"no backup: {result.errors or result.output}")
    return time.perf_counter()


@contextmanager
def other_process() -> Iterator[Executor]:
    """Where the client of what is measured runs: the bucket is in this one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def measure_backup(here: Site, rows: int, tables: int, console: Console) -> list[Line]:
    """A full backup, its floors, a restore, its floors."""
    console.print("full backup …")
    with Timed() as backup:
        back_up(here)
    info = parse_info(here.tool("--output=json", "info"))
    assert info.newest is not None
    size = info.newest.database_bytes
    streams = Streams.of(here.run("cat", "/etc/overlord/postgres/pgbackrest.conf"))
    access = access_to(here)
    stored = objects(access, "database/backup/")

    console.print("floors …")
    with tempfile.TemporaryDirectory(dir=here.data) as scratch:
        disk = copy(here.data / "pgdata", Path(scratch) / "copy", streams.restore, but="pg_wal")
    with Timed() as zstd:
        here.run(
            *("pg_basebackup", "--username=postgres", "--target=blackhole", "--wal-method=none"),
            *("--checkpoint=fast", "--no-manifest", "--compress=server-zstd:level=3,workers=2"),
            timeout=MOST_SECONDS,
        )
    with other_process() as pool, Timed() as down:
        fetched = pool.submit(fetch, access, list(stored), streams.restore).result()
    with other_process() as pool, floor_bucket(here, access) as floor, Timed() as up:
        sent = pool.submit(store, floor, list(stored.values()), streams.backup).result()

    console.print("restore …")
    here.run("mkdir", f"{DATA}/restored")
    with Timed() as restore:
        said = json.loads(here.tool("recover", f"{DATA}/restored", timeout=MOST_SECONDS))
    here.stop()
    # A standby leaves no marks on what it reads.
    here.run("touch", f"{DATA}/restored/standby.signal")
    here.start("restored", settings=AS_ON_A_NODE)
    found = counted(here, tables)
    here.stop("restored")
    here.run("rm", "-rf", f"{DATA}/restored")
    here.start(settings=AS_ON_A_NODE)
    if found != rows:
        raise click.ClickException(f"{found:,} rows came back and not {rows:,}")

    console.print(
        f"Database {size / 1e6:,.0f} MB, stored {sum(stored.values()) / 1e6:,.0f} MB in "
        f"{len(stored):,} objects; {rows:,} rows, all of them back. Of the restore, "
        f"{said['fetch_seconds']} s went to fetching, {said['replay_seconds']} s to the log, the "
        "rest to a clean end."
    )
    console.print("The emulated bucket has one core at most. Its processor time:")
    for name, cpu, seconds in (
        *(("backup", backup.bucket, backup.seconds), ("restore", restore.bucket, restore.seconds)),
        *(("objects in", up.bucket, sent.seconds), ("objects out", down.bucket, fetched.seconds)),
    ):
        console.print(f"  {name}: {cpu:,.1f} s in {seconds:,.1f} s")
    made, back = Moved(size, backup.seconds), Moved(size, restore.seconds)
    both = "all files read and written, with fsync"
    return [
        Line("full backup", made, both, disk),
        Line("", made, f"the same objects into the bucket, {streams.backup} at once", sent),
        Line("", made, "all files read and compressed", Moved(size, zstd.seconds)),
        Line("restore", back, both, disk),
        Line("", back, f"the same objects out of it, {streams.restore} at once", fetched),
    ]


def access_to(here: Site) -> Access:
    """The bucket of the backups, with its owner's key."""
    cloud = here.cloud
    key_id, key = cloud.tokens.b2_key_id, cloud.tokens.b2_key
    return Access(cloud.url("s3"), "eu-central-003", key_id, key, cloud.ca, here.bucket)


@contextmanager
def floor_bucket(here: Site, access: Access) -> Iterator[Access]:
    """A bucket without a lock, so that it can be removed again."""
    client, name = here.cloud.s3(), f"{access.bucket}-floor"
    client.create_bucket(Bucket=name)
    floor = Access(**{**access.__dict__, "bucket": name})
    try:
        yield floor
    finally:
        for key in objects(floor, ""):
            client.delete_object(Bucket=name, Key=key)
        client.delete_bucket(Bucket=name)


def end_backup(here: Site, running: Future[float]) -> float:
    """Cut the backup off if it still runs; returns when it ended."""
    cut = time.perf_counter()
    for pid in here.processes(r"^pgbackrest .*\bbackup( |$)"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    try:
        return running.result()
    except click.ClickException:
        return cut


def measure_posts(here: Site, fleet: Fleet, rate: float, console: Console) -> Table:
    """Posts without and with a backup, in turns."""
    alone: list[float] = []
    beside: list[float] = []
    with other_process() as pool, ThreadPoolExecutor(1) as thread:

        def post(seconds: float) -> Future[list[Post]]:
            return pool.submit(post_for, fleet.url, fleet.devices, rate, seconds)

        post(WARM_UP_SECONDS).result()
        for turn in range(1, TURNS + 1):
            without = [one.seconds for one in post(TURN_SECONDS).result()]
            started = time.perf_counter()
            backup = thread.submit(back_up, here)
            posts = post(TURN_SECONDS).result()
            during = within(posts, started, end_backup(here, backup))
            console.print(
                f"turn {turn} of {TURNS}: p99 {p(without, 99):.0f} ms of {len(without):,} posts "
                f"without, {p(during, 99):.0f} ms of {len(during):,} with a backup"
            )
            alone += without
            beside += during
    table = Table(title=f"Live posts, {rate:g} a second, in milliseconds")
    table.add_column("")
    for column in ("posts", "p50", "p99", "slowest"):
        table.add_column(column, justify="right")
    for name, values in (("without a backup", alone), ("with a backup", beside)):
        cells = (p(values, 50), p(values, 99), max(values) * 1000)
        table.add_row(name, f"{len(values):,}", *(f"{cell:.0f}" for cell in cells))
    ratios = (f"{p(beside, share) / p(alone, share):.2f}" for share in (50, 99))
    table.add_row("ratio", "", *ratios, f"{max(beside) / max(alone):.2f}")
    return table


async def measure(gigabytes: float, rate: float, console: Console) -> None:
    """Measure and print."""
    check_room(Path(tempfile.gettempdir()), gigabytes)
    with site(seconds=MOST_SECONDS, durable=True) as here:
        console.print(here.run("pgbackrest", "version").strip())
        console.print(here.run("postgres", "--version").strip())
        console.print(f"making {gigabytes:g} GB …")
        rows = fill(here, gigabytes)
        console.print(table_of(measure_backup(here, rows, len(pieces(gigabytes)), console)))
        # Autovacuum would come sooner or later, in a turn with a backup or in one without.
        here.sql("VACUUM FREEZE")
        console.print(f"{rate:g} posts a second, {TURNS} turns …")
        # As on a node, where the API's tables have an owner of their own.
        here.sql(f"CREATE ROLE {OWNER_ROLE}; ALTER DATABASE overlord OWNER TO {OWNER_ROLE}")
        async with fleet_on(str(here.socket), DEVICES) as fleet:
            posts = await asyncio.to_thread(measure_posts, here, fleet, rate, console)
        console.print(posts)
        here.stop()
    console.print(
        "The bucket is emulated, by Python on the same processors, and takes of them what B2 would "
        "not. So the time of backup and restore, and what a backup does to posts, are the most "
        "that is to be expected; the floor of the bucket says how much of it is the bucket's."
    )


@click.command()
@click.option("--gigabytes", default=1.0, show_default=True, help="of data in the database")
@click.option("--rate", default=50.0, show_default=True, help="live posts a second")
def main(gigabytes: float, rate: float) -> None:
    """Measure backup and restore against floors of the same run."""
    asyncio.run(measure(gigabytes, rate, Console()))


if __name__ == "__main__":
    main()
