"""`overlordctl backup` and `overlordctl restore`."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

import click
from rich.console import Console
from rich.table import Table

from overlord.backup.copy import Copier, Whole, copy_failure, find_copy
from overlord.backup.leadership import leads
from overlord.backup.manager import Manager, in_turn
from overlord.backup.objects import data_bucket, place, second_bucket
from overlord.backup.repository import Repository
from overlord.backup.restore import Restore
from overlord.backup.samples import SAMPLES, newest_snapshot, put_back
from overlord.backup.state import forget_second
from overlord.commands.backup import BackupTool
from overlord.errors import OverlordError
from overlord.layout import stack_of
from overlord.node import BackupTerms, read_backup_terms, read_boot_settings
from overlord.paths import Paths
from overlord.runner import SystemRunner

GIGABYTE = 1000**3
DOLLARS_A_GIGABYTE = 0.006
"""Backblaze B2 a month, https://www.backblaze.com/cloud-storage/pricing, as of 2026-11-01."""
PATHS = Paths()
SNAPSHOT_STORED = "snapshot of the metrics stored"

T = TypeVar("T")


@click.group()
def backup() -> None:
    """Backups of the database: make, list, prove."""


@backup.command()
@click.option("--full", is_flag=True, help="A full one, whatever there is already.")
def now(full: bool) -> None:
    """Make a backup of the database and of the metrics now, on the node that leads."""

    def work(manager: Manager) -> None:
        kind = manager.back_up("full" if full else None)
        click.echo(f"{kind} backup done{_in(manager)}")

    managers = _guarded(_managers)
    failed = _failed(lambda: in_turn(managers, work))
    # A node that does not lead has said so by now.
    if leads():
        _guarded(lambda: managers[0].back_up_samples(_upload, read_boot_settings(PATHS).node))
        click.echo(SNAPSHOT_STORED)
    if failed:
        sys.exit(1)


@backup.command("list")
def list_() -> None:
    """All backups, how long they are kept, and what they cost."""
    terms = _guarded(lambda: read_backup_terms(PATHS, read_boot_settings(PATHS)))
    for line in of_copy(find_copy(PATHS.backup_copy), copy_failure(PATHS.backup_copy)):
        click.echo(line)

    def show(manager: Manager) -> None:
        found = manager.repository()
        if manager.tool.which:
            click.echo(f"repository {manager.number}")
        Console().print(backup_table(found))
        for line in summary(found, terms):
            click.echo(line)

    _guarded(lambda: in_turn(_managers(), show))


@backup.command()
def verify() -> None:
    """Restore the newest backup into a scratch folder and prove that it is sound. Ends with 1 when
    it is not, or when that could not be found out."""
    if not all(_proved()):
        sys.exit(1)


@backup.command()
def copy() -> None:
    """Copy the newest backup to this node's own disk, for when the bucket is gone."""
    _guarded(lambda: _copy(lambda: False))


@backup.command(hidden=True)
def nightly() -> None:
    """Prove the newest backup, and copy it; run by a timer. Nothing on the node that leads."""
    if leads():
        click.echo("this node leads; the standby proves and copies the backup")
        return
    proved = _proved()
    if proved[0]:
        _guarded(lambda: _copy(leads))
    if not all(proved):
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
    failed = _failed(lambda: in_turn(managers, work))
    _guarded(lambda: _tend_locks(managers))
    if _guarded(_tend_samples):
        click.echo(SNAPSHOT_STORED)
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
@click.option(
    "--from-copy", is_flag=True, help="From this node's own copy; the bucket is not asked."
)
@click.option(
    "--metrics", is_flag=True, help="Not the database but the samples of Prometheus, which runs on."
)
@click.option("--dry-run", is_flag=True, help="Say what would be restored, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(
    at: str | None,
    to: Path | None,
    bucket_as_of: str | None,
    from_copy: bool,
    metrics: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Bring the database back from a backup: the newest state, or as of a moment.

    With --to, beside the running database. Without, in its place: PostgreSQL of this node is
    stopped, and what was there is kept aside.
    """

    def work() -> None:
        if metrics:
            if at or to or bucket_as_of:
                raise OverlordError(
                    "--metrics takes the newest snapshot", "leave --at, --to and --bucket-as-of out"
                )
            _put_back_metrics(_found_copy() if from_copy else None, dry_run)
            return
        moment = parse_moment(at) if at else None
        runner = SystemRunner()
        compose = stack_of(PATHS, read_boot_settings(PATHS).node)
        fetch, kept = None, None
        first, *more = _managers()
        if from_copy:
            if bucket_as_of:
                raise OverlordError("--from-copy does not ask the bucket", "leave one of them out")
            kept = _found_copy()
            first, more = _reading(first, kept.repository), []
        if bucket_as_of:
            if to is None:
                raise OverlordError(
                    "--bucket-as-of needs --to", "look at the copy before you put it in force"
                )
            fetch = _fetch_as_of(parse_moment(bucket_as_of))
        second = more[0] if more else None
        job = Restore(PATHS, runner, compose, first, moment, to, click.echo, fetch, second, kept)
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


def of_copy(kept: Whole | None, failure: str | None) -> list[str]:
    """This node's own copy, for people; nothing where there never was one."""
    lines = [f"THE LAST COPY ON THIS NODE FAILED: {failure}"] if failure else []
    if kept is None:
        return lines
    made, since = (datetime.fromtimestamp(at, UTC) for at in (kept.made, kept.since))
    samples = f"with {kept.samples}" if kept.samples else "without metrics"
    return [
        *lines,
        f"copy on this node: {kept.label}, {kept.bytes / GIGABYTE:.2f} GB, of what was in the "
        f"bucket at {made:%Y-%m-%d %H:%M:%S} UTC, back to {since:%Y-%m-%d %H:%M:%S}, {samples}",
    ]


def _proved() -> list[bool]:
    """For each repository whether its newest backup is proved good now."""

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

    proved = _guarded(lambda: in_turn(_managers(), prove))
    if not all(proved):
        click.echo("overlordctl: the backup is not proved good: docs/runbooks/backup.md", err=True)
    return proved


def _copy(stop: Callable[[], bool]) -> None:
    manager = _managers()[0]

    def read(folder: Path) -> Repository:
        return _reading(manager, folder).repository()

    with manager.alone():
        copier = Copier(PATHS.backup_copy, data_bucket(PATHS), read, stop, click.echo)
        for line in of_copy(copier.make(), ""):
            click.echo(line)


def _found_copy() -> Whole:
    if kept := find_copy(PATHS.backup_copy):
        return kept
    raise OverlordError(
        "there is no copy of a backup on this node",
        "the node that does not lead makes it every night: look on the other one",
    )


def _put_back_metrics(kept: Whole | None, dry_run: bool) -> None:
    bucket = data_bucket(PATHS)
    key = kept.samples if kept else newest_snapshot(bucket.objects(SAMPLES))
    if not key:
        raise OverlordError("there is no snapshot of Prometheus", "`overlordctl backup list`")
    click.echo(f"snapshot of Prometheus: {key}")
    if dry_run:
        click.echo("dry run: nothing was changed")
        return
    with place(kept.folder, key).open("rb") if kept else bucket.opened(key) as archive:
        blocks = put_back(PATHS.prometheus_volume, archive)
    click.echo(f"{blocks} blocks of samples put back; Prometheus takes them up within a minute")


def _reading(manager: Manager, folder: Path) -> Manager:
    """The same over a repository in a folder."""
    return replace(manager, tool=replace(manager.tool, which="", repository=folder))


def _tend_locks(managers: Sequence[Manager]) -> None:
    wanted = read_backup_terms(PATHS, read_boot_settings(PATHS)).lock_days
    managers[0].tend_lock(lambda: data_bucket(PATHS).lock_days(), wanted)
    for second in managers[1:]:
        second.tend_lock(lambda: second_bucket(PATHS).lock_days(), wanted)


def _tend_samples() -> bool:
    return _managers()[0].tend_samples(_upload, read_boot_settings(PATHS).node)


def _upload(key: str, source: BinaryIO) -> int:
    return data_bucket(PATHS).upload(key, source)


def _fetch_as_of(moment: datetime) -> Callable[[Path], int]:
    return lambda folder: data_bucket(PATHS).fetch_as_of("database/", moment, folder)


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
