"""Kills what makes, takes and restores backups, round after round, and counts what is there.

Every round draws from its seed what is killed and when, and what runs beside it. A writer commits
rows all the while and keeps a record of its own of what was acknowledged. After each round the
database is held against this record; every few rounds, and at the end, so is a restore.

To kill the node is to kill all that runs in the container at once, and to go on in a new one on the
same volume. What the kernel has not written to the disk yet survives this: a power cut, which loses
it, is played by the sandbox's `reset` of a server.

By hand, as root: `python -m tests.support.backup_kills --rounds 60`.
"""

from __future__ import annotations

import random
import re
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import click
import psutil
import psycopg
from rich.console import Console
from rich.table import Table

from overlord.backup.examination import faults
from overlord.backup.repository import segment_name, segment_number
from tests.support.backup_site import DATA, TOOL, Site, objects, site, wait_for

Kind = Literal["backup", "restore test", "restore in place", "archiver", "PostgreSQL", "node"]
KINDS: tuple[Kind, ...] = (
    "backup",
    "restore test",
    "restore in place",
    "archiver",
    "PostgreSQL",
    "node",
)
BATCH = 50
"""Rows of a commit."""
BALLAST = """
    CREATE TABLE ballast AS SELECT g AS id, repeat(md5(g::text), 8) || md5(random()::text) AS filler
    FROM generate_series(1, 200000) g
"""
MOST_SECONDS = 4 * 3600

_COMMANDS = {
    "backup": r"pgbackrest\S* .*\bbackup(:local)?( |$)",
    "restore test": rf"pgbackrest-tool examine|-D {DATA}/restore-test|{DATA}/restore-test",
    "restore in place": rf"database-tool restore|pgbackrest-tool recover|{DATA}/draft",
    "archiver": r"archive-push",
    "PostgreSQL": rf"postgres -D {DATA}/pgdata",
}
_SEGMENT = re.compile(r"/([0-9A-F]{24})-[0-9a-f]{40}")


@dataclass(frozen=True)
class Round:
    """What was killed and what was there afterwards.

    Args:
        beside: what ran besides, or "".
        moment: seconds from the start to the kill.
        killed: processes.
        acknowledged: rows that the writer was told are committed, in all rounds so far.
        doubtful: rows of commits without an answer.
        rows: rows in the database.
        restored: rows of a restore, where one was made.
    """

    kind: Kind
    beside: str
    moment: float
    killed: int
    acknowledged: int
    doubtful: int
    rows: int
    restored: int | None = None

    @property
    def line(self) -> str:
        """For a log."""
        beside = f" beside a {self.beside}" if self.beside else ""
        restored = "" if self.restored is None else f", {self.restored:,} restored"
        return (
            f"{self.kind}{beside} after {self.moment:.2f} s, {self.killed} processes; "
            f"{self.acknowledged:,} rows acknowledged, {self.rows:,} there{restored}"
        )


@dataclass
class Record:
    """What the writer knows: numbers of commits, each of BATCH rows."""

    acknowledged: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)
    next: int = 0

    def wrong(self, found: dict[int, int]) -> list[str]:
        """What is not right about a database, given its rows by number of commit."""
        said = []
        if lost := self.acknowledged - found.keys():
            said.append(f"acknowledged and not there: {sorted(lost)}")
        if strange := found.keys() - self.acknowledged - self.doubtful:
            said.append(f"there and never sent: {sorted(strange)}")
        if torn := {number: count for number, count in found.items() if count != BATCH}:
            said.append(f"there in part: {torn}")
        return said


def gaps(keys: Iterable[str]) -> list[str]:
    """Pieces of the log that are missing in an archive, between others of the same timeline or
    between a timeline and the one that it branched off."""
    timelines: dict[str, set[int]] = defaultdict(set)
    for key in keys:
        if found := _SEGMENT.search(key):
            timelines[found[1][:8]].add(segment_number(found[1]))
    missing: list[str] = []
    end = 0
    for timeline, numbers in sorted(timelines.items()):
        # What is before its first piece is on the timeline that it branched off.
        wanted = range(min(numbers), max(numbers))
        between = range(end, min(numbers)) if end else range(0)
        missing += [
            segment_name(timeline, number)
            for number in (*between, *wanted)
            if number not in numbers
        ]
        end = max(end, max(numbers) + 1)
    return missing


@contextmanager
def writing(here: Site, record: Record) -> Iterator[None]:
    """Commit rows for as long as the block, and begin a new piece of the log each second."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with suppress(psycopg.OperationalError):
                _write(here, record, stop)
            stop.wait(0.1)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive(), "the writer hangs"


def _write(here: Site, record: Record, stop: threading.Event) -> None:
    where = f"host={here.socket} user=postgres dbname=overlord connect_timeout=5"
    row = "INSERT INTO devices SELECT %s, g, md5(g::text) FROM generate_series(1, %s) g"
    with psycopg.connect(where, autocommit=True) as connection:
        switched = time.monotonic()
        while not stop.wait(0.01):
            number, record.next = record.next, record.next + 1
            record.doubtful.add(number)
            connection.execute(row, (number, BATCH))
            record.acknowledged.add(number)
            record.doubtful.discard(number)
            if time.monotonic() - switched > 1.0:
                connection.execute("SELECT pg_switch_wal()")
                switched = time.monotonic()


class Rounds:
    """Plays rounds against one database.

    Args:
        seed: of all that is drawn.
    """

    def __init__(self, here: Site, seed: int) -> None:
        self._here, self._dice, self._record = here, random.Random(seed), Record()
        self._deck: list[Kind] = []
        self._pool = ThreadPoolExecutor(2)
        here.sql("CREATE TABLE devices (batch bigint, id bigint, filler text)")
        # So that there is something to copy, and a kill can come in between.
        here.sql(BALLAST)
        with writing(here, self._record):
            time.sleep(1)
        # How long each takes that is not interrupted: a moment is drawn within it.
        self._seconds = {
            "backup": self._timed(lambda: here.back_up("full")),
            "restore test": self._timed(here.restored),
        }

    def _timed(self, work: Callable[[], object]) -> float:
        started = time.monotonic()
        work()
        return time.monotonic() - started

    def play(self, restores: bool) -> Round:
        """One round.

        Args:
            restores: whether there is a restore at its end.

        Raises:
            AssertionError: a row is missing, in the database or in a restore, or a piece of the log
                in the archive.
        """
        if not self._deck:
            self._deck = self._dice.sample(KINDS, len(KINDS))
        kind, share = self._deck.pop(), self._dice.uniform(0.02, 0.85)
        beside = self._dice.choice(("", "backup", "restore test"))
        if kind in ("backup", "restore test", "restore in place"):
            beside = ""
        moment, killed = 0.0, 0
        while not killed:
            if kind == "restore in place":
                moment, killed = self._in_place(share)
            else:
                moment, killed = self._beside_the_writer(kind, beside, share)
            share /= 2  # it had ended: the same again, and sooner
        found = self._batches()
        wrong = self._record.wrong(found)
        assert not wrong, f"{kind}, after {moment:.2f} s: {wrong}"
        restored = self._restored(found) if restores else None
        sent, doubtful = len(self._record.acknowledged), len(self._record.doubtful)
        rows = sum(found.values())
        return Round(kind, beside, moment, killed, sent * BATCH, doubtful * BATCH, rows, restored)

    def _beside_the_writer(self, kind: Kind, beside: str, share: float) -> tuple[float, int]:
        here, job = self._here, beside or kind
        moment = share * self._seconds.get(job, 3.0)
        with writing(here, self._record):
            running = self._begin(job)
            time.sleep(moment)
            if kind == "node":
                killed = len(here.processes("."))
                here.lose_node()
                here.new_node()
            else:
                killed = self._kill(kind, running if job == kind else None)
            if kind in ("node", "PostgreSQL"):
                here.start()
        if running:
            # Whether it ended well is no matter: what is there afterwards is.
            running.result()
        return moment, killed

    def _begin(self, job: str) -> Future[Any] | None:
        here = self._here
        if job == "backup":
            kind = self._dice.choice(("full", "diff"))
            here.tool("mark", secrets.token_hex(8))
            return self._pool.submit(here.try_, TOOL, f"--type={kind}", "backup")
        if job == "restore test":
            here.run("rm", "-rf", f"{DATA}/restore-test")
            return self._pool.submit(here.try_, TOOL, "examine", f"{DATA}/restore-test")
        return None

    def _in_place(self, share: float) -> tuple[float, int]:
        """Kill a restore to where the database is, and make another one, which has to work."""
        here = self._here
        with writing(here, self._record):
            time.sleep(1)
        here.flush()
        here.stop()
        restore = ("env", f"PGDATA={DATA}/pgdata", "database-tool", "restore")
        moment = share * self._seconds["restore test"]
        running = self._pool.submit(here.try_, *restore)
        time.sleep(moment)
        killed = self._kill("restore in place", running)
        running.result()
        here.run(*restore)
        here.start()
        here.sql("SELECT pg_promote()")
        return moment, killed

    def _kill(self, kind: Kind, running: Future[Any] | None) -> int:
        """Kill what is there of a kind. The archiver comes and goes, and what was started a moment
        ago may not be there yet: it is waited for, and killed then, unless it has ended."""
        killed = 0

        def done() -> bool:
            nonlocal killed
            killed = self._kill_once(kind)
            return killed > 0 or (running is not None and running.done())

        wait_for(done, f"there is no {kind} to kill", 20)
        if kind in ("backup", "restore test", "restore in place"):
            # What they started in the meantime.
            while more := self._kill_once(kind):
                killed += more
        return killed

    def _kill_once(self, kind: Kind) -> int:
        """Kill all processes of a kind with all that they started, and wait for their end."""
        processes: dict[int, psutil.Process] = {}
        for pid in self._here.processes(_COMMANDS[kind]):
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(pid)
                root.suspend()  # so that it starts nothing more
                processes.update({p.pid: p for p in (root, *root.children(recursive=True))})
        for process in processes.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _, alive = psutil.wait_procs(processes.values(), timeout=20)
        assert not alive, f"{alive} do not die"
        return len(processes)

    def _batches(self) -> dict[int, int]:
        text = self._here.sql("SELECT batch, count(*) FROM devices GROUP BY batch")
        pairs = (line.split("|") for line in text.splitlines())
        return {int(number): int(count) for number, count in pairs}

    def _restored(self, found: dict[int, int]) -> int:
        """Restore the newest backup and the log after it; returns the rows, which have to be those
        of the database."""
        here = self._here
        here.flush()
        missing = gaps(objects(here, "/archive/"))
        assert not missing, f"missing in the archive: {missing}"
        before = here.repository()
        restored = here.restored()
        assert faults(restored, before, {}) == ()
        rows = restored.rows["devices"]
        assert rows == sum(found.values()), f"restored {rows}, there are {sum(found.values())}"
        # So that the next restore need not begin at the first backup.
        here.back_up("diff")
        return rows


def play(
    here: Site, rounds: int, seed: int, every: int, say: Callable[[str], object]
) -> list[Round]:
    """Play rounds, with a restore in every so many and in the last."""
    say(f"{rounds} rounds, seed {seed}")
    game, played = Rounds(here, seed), []
    for number in range(1, rounds + 1):
        one = game.play(restores=number % every == 0 or number == rounds)
        played.append(one)
        say(f"{number}: {one.line}")
    return played


def table_of(rounds: list[Round]) -> Table:
    """Rounds by what was killed."""
    table = Table(title="kill -9")
    for column in ("killed", "rounds", "processes", "moments, s", "restores whole"):
        table.add_column(column, justify="left" if column == "killed" else "right")
    for kind in KINDS:
        mine = [one for one in rounds if one.kind == kind]
        if not mine:
            continue
        moments = [one.moment for one in mine]
        table.add_row(
            kind,
            str(len(mine)),
            str(sum(one.killed for one in mine)),
            f"{min(moments):.1f} to {max(moments):.1f}",
            str(sum(one.restored is not None for one in mine)),
        )
    return table


@click.command()
@click.option("--rounds", default=60, show_default=True)
@click.option("--seed", type=int, help="The same seed draws the same kinds and moments.")
@click.option("--every", default=3, show_default=True, help="A restore in every so many rounds.")
def main(rounds: int, seed: int | None, every: int) -> None:
    """Kill backups, restores, the archiver, PostgreSQL and the node."""
    console = Console()
    drawn = secrets.randbelow(10**6) if seed is None else seed
    with site(seconds=MOST_SECONDS, durable=True) as here:
        played = play(here, rounds, drawn, every, console.print)
    console.print(table_of(played))
    last = played[-1]
    console.print(
        f"{last.acknowledged:,} rows acknowledged, {last.doubtful:,} of commits without an answer, "
        f"{last.rows:,} in the database, {last.restored:,} in its restore."
    )


if __name__ == "__main__":
    main()
