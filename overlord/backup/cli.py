"""`overlordctl backup` and `overlordctl restore`."""

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

import click
from rich.console import Console
from rich.table import Table

from overlord.backup.leadership import leads
from overlord.backup.manager import Manager, in_turn
from overlord.backup.objects import Bucket, open_bucket
from overlord.backup.repository import Repository
from overlord.backup.restore import Restore
from overlord.backup.state import forget_second
from overlord.commands.backup import BackupTool
from overlord.errors import OverlordError
from overlord.layout import stack_of
from overlord.node import BackupTerms, read_backup_terms, read_boot_settings, read_node
from overlord.paths import Paths
from overlord.runner import SystemRunner

GIGABYTE = 1000**3
DOLLARS_A_GIGABYTE = 0.006
"""Backblaze B2 a month, https://www.backblaze.com/cloud-storage/pricing, as of 2026-11-01."""
PATHS = Paths()

T = TypeVar("T")


@click.group()
def backup() -> None:
    """Backups of the database: make, list, prove."""


@backup.command()
@click.option("--full", is_flag=True, help="A full one, whatever there is already.")
def now(full: bool) -> None:
    """Make a backup now, on the node that leads."""

    def work(manager: Manager) -> None:
        kind = manager.back_up("full" if full else None)
        click.echo(f"{kind} backup done{_in(manager)}")

    _guarded(lambda: in_turn(_managers(), work))


@backup.command("list")
def list_() -> None:
    """All backups, how long they are kept, and what they cost."""
    terms = _guarded(lambda: read_backup_terms(PATHS, read_boot_settings(PATHS)))

    def show(manager: Manager) -> None:
        found = manager.repository()
        if manager.tool.which:
            click.echo(f"repository {manager.number}")
        Console().print(backup_table(found))
        for line in summary(found, terms):
            click.echo(line)

    _guarded(lambda: in_turn(_managers(), show))


@backup.command()
@click.option("--standby-only", is_flag=True, hidden=True, help="Nothing on the node that leads.")
def verify(standby_only: bool) -> None:
    """Restore the newest backup into a scratch folder and prove that it is sound. Ends with 1 when
    it is not, or when that could not be found out."""
    if standby_only and leads():
        click.echo("this node leads; the standby runs the restore test")
        return

    def prove(manager: Manager) -> bool:
        test = manager.verify()
        for fault in test.faults:
            click.echo(f"fault{_in(manager)}: {fault}", err=True)
        if test.ok:
            age = test.recovery_point_age
            behind = "no transaction in it" if age is None else f"{age:.0f} s behind the start"
            size, took = test.bytes / GIGABYTE, test.seconds
            click.echo(f"{test.label}{_in(manager)} is good: {size:.2f} GB, {took:.0f} s, {behind}")
        return test.ok

    if not all(_guarded(lambda: in_turn(_managers(), prove))):
        click.echo("overlordctl: the backup is not proved good: docs/runbooks/backup.md", err=True)
        sys.exit(1)


@backup.command(hidden=True)
def tend() -> None:
    """Look after the backups; run by a timer."""

    def work(manager: Manager) -> None:
        if kind := manager.tend():
            click.echo(f"{kind} backup done{_in(manager)}")

    managers = _guarded(_managers)
    if len(managers) == 1:
        forget_second(PATHS)
    # What follows is of the first repository's bucket: the second one may be away.
    failed = _failed(lambda: in_turn(managers, work))
    _guarded(_tend_lock)
    if _guarded(_tend_samples):
        click.echo("snapshot of the metrics stored")
    if failed:
        sys.exit(1)


@click.command()
@click.option("--at", help="A moment in UTC, such as 2026-11-27T04:30:00; by default the newest.")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    help="An empty folder for a copy; by default the database of this node itself.",
)
@click.option(
    "--bucket-as-of",
    help="With --to: read the bucket as it was at this moment, such as before a break-in.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be restored, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(
    at: str | None, to: Path | None, bucket_as_of: str | None, dry_run: bool, yes: bool
) -> None:
    """Bring the database back from a backup: the newest state, or as of a moment.

    With --to, beside the running database. Without, in its place: PostgreSQL of this node is
    stopped, and what was there is kept aside.
    """

    def work() -> None:
        moment = parse_moment(at) if at else None
        runner = SystemRunner()
        compose = stack_of(PATHS, read_boot_settings(PATHS).node)
        fetch = None
        if bucket_as_of:
            if to is None:
                raise OverlordError(
                    "--bucket-as-of needs --to", "look at the copy before you put it in force"
                )
            fetch = _fetch_as_of(parse_moment(bucket_as_of))
        first, *more = _managers()
        second = more[0] if more else None
        job = Restore(PATHS, runner, compose, first, moment, to, click.echo, fetch, second)
        for line in job.plan():
            click.echo(line)
        if dry_run:
            click.echo("dry run: nothing was changed")
            return
        if to is None and not yes:
            click.confirm("Replace the database of this node?", abort=True)
        job.run()

    _guarded(work)


def parse_moment(text: str) -> datetime:
    """A moment in UTC. Raises OverlordError."""
    wrong = OverlordError(
        f"--at {text} is no moment in the past", "write it in UTC, such as 2026-11-27T04:30:00"
    )
    plain = re.sub(r"(Z| ?UTC)$", "", text.strip())
    try:
        moment = datetime.fromisoformat(plain)
    except ValueError:
        raise wrong from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if moment > datetime.now(UTC):
        raise wrong
    return moment


def backup_table(found: Repository) -> Table:
    """A line a backup."""
    table = Table("backup", "kind", "ended (UTC)", "took", "database", "stored", box=None)
    for one in found.backups:
        table.add_row(
            one.label,
            one.kind + (" DAMAGED PAGES" if one.broken else ""),
            datetime.fromtimestamp(one.ended, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            f"{one.seconds:.0f} s",
            f"{one.database_bytes / GIGABYTE:.2f} GB",
            f"{one.stored_bytes / GIGABYTE:.2f} GB",
        )
    return table


def summary(found: Repository, terms: BackupTerms) -> list[str]:
    """Retention and cost."""
    stored = found.stored_bytes / GIGABYTE
    if not found.backups:
        return ["no backup yet"]
    first = datetime.fromtimestamp(found.backups[0].ended, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return [
        f"any moment since {first} UTC can be restored; kept {terms.database_days} days",
        f"no key of a node can delete them for {terms.lock_days} days",
        f"{stored:.2f} GB in the bucket, about {stored * DOLLARS_A_GIGABYTE:.2f} USD a month, "
        "without the log and without what is hidden",
    ]


def _tend_lock() -> None:
    wanted = read_backup_terms(PATHS, read_boot_settings(PATHS)).lock_days
    _managers()[0].tend_lock(lambda: _bucket().lock_days(), wanted)


def _tend_samples() -> bool:
    def upload(key: str, source: BinaryIO) -> int:
        return _bucket().upload(key, source)

    return _managers()[0].tend_samples(upload, read_boot_settings(PATHS).node)


def _fetch_as_of(moment: datetime) -> Callable[[Path], int]:
    return lambda folder: _bucket().fetch_as_of("database/", moment, folder)


def _bucket() -> Bucket:
    boot = read_boot_settings(PATHS)
    key_id, key = ((PATHS.secrets / name).read_text().strip() for name in ("b2_key_id", "b2_key"))
    name = read_backup_terms(PATHS, boot).bucket
    return open_bucket(read_node(PATHS, boot).bundles, name, key_id, key)


def _managers() -> tuple[Manager, ...]:
    """One for each repository, the first one first."""
    boot = read_boot_settings(PATHS)
    tool = BackupTool(stack_of(PATHS, boot.node))
    count = len(read_backup_terms(PATHS, boot).repositories)
    return tuple(
        Manager(PATHS, SystemRunner(), one, leads, click.echo, number=number)
        for number, one in enumerate(tool.of_each(count), 1)
    )


def _in(manager: Manager) -> str:
    return f" in repository {manager.number}" if manager.tool.which else ""


def _guarded(work: Callable[[], T]) -> T:
    try:
        return work()
    except OverlordError as error:
        _say(error)
        sys.exit(1)


def _failed(work: Callable[[], object]) -> bool:
    try:
        work()
    except OverlordError as error:
        _say(error)
        return True
    return False


def _say(error: OverlordError) -> None:
    click.echo(f"overlordctl: {error.what}\n  what to do: {error.remedy}", err=True)
