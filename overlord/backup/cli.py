"""`overlordctl backup`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console

from overlord.backup.copy import Copier, copy_failure, find_copy
from overlord.backup.leadership import leads
from overlord.backup.logs import LOGS
from overlord.backup.manager import Manager
from overlord.backup.managers import in_turn, managers_of, reading, where
from overlord.backup.objects import Bucket, data_bucket, logs_bucket, second_bucket
from overlord.backup.repository import Repository
from overlord.backup.state import forget_second
from overlord.backup.words import backup_table, of_copy, of_good_test, of_logs, summary
from overlord.console import fails, or_stop
from overlord.node import read_backup_terms, read_boot_settings
from overlord.paths import Paths

PATHS = Paths()
SNAPSHOT_STORED = "snapshot of the metrics stored"


@click.group()
def backup() -> None:
    """Backups of the database: make, list, prove."""


@backup.command()
@click.option("--full", is_flag=True, help="A full one, whatever there is already.")
def now(full: bool) -> None:
    """Make a backup of the database, the metrics and the logs now, on the node that leads."""

    def work(manager: Manager) -> None:
        kind = manager.back_up("full" if full else None)
        click.echo(f"{kind} backup done{where(manager)}")

    managers = or_stop(lambda: managers_of(PATHS))
    failed = fails(lambda: in_turn(managers, work))
    # A node that does not lead has said so by now.
    if leads():
        node = or_stop(lambda: read_boot_settings(PATHS).node)
        or_stop(lambda: managers[0].back_up_samples(_upload, node))
        click.echo(SNAPSHOT_STORED)
        _say_stored(or_stop(lambda: managers[0].back_up_logs(_open_logs, node)))
    if failed:
        sys.exit(1)


@backup.command("list")
def list_() -> None:
    """All backups, how long they are kept, and what they cost."""
    terms = or_stop(lambda: read_backup_terms(PATHS, read_boot_settings(PATHS)))
    for line in of_copy(find_copy(PATHS.backup_copy), copy_failure(PATHS.backup_copy)):
        click.echo(line)

    def show(manager: Manager) -> None:
        found = manager.repository()
        if manager.tool.which:
            click.echo(f"repository {manager.number}")
        Console().print(backup_table(found))
        for line in summary(found, terms):
            click.echo(line)

    failed = fails(lambda: in_turn(managers_of(PATHS), show))
    failed |= fails(lambda: click.echo(of_logs(logs_bucket(PATHS).objects(LOGS))))
    if failed:
        sys.exit(1)


@backup.command()
def verify() -> None:
    """Restore the newest backup into a scratch folder and prove that it is sound. Ends with 1 when
    it is not, or when that could not be found out."""
    if not all(_proved()):
        sys.exit(1)


@backup.command()
def copy() -> None:
    """Copy the newest backup to this node's own disk, for when the bucket is gone."""
    or_stop(lambda: _copy(lambda: False))


@backup.command(hidden=True)
def nightly() -> None:
    """Prove the newest backup, and copy it; run by a timer. Nothing on the node that leads."""
    if leads():
        click.echo("this node leads; the standby proves and copies the backup")
        return
    proved = _proved()
    if proved[0]:
        or_stop(lambda: _copy(leads))
    if not all(proved):
        sys.exit(1)


@backup.command(hidden=True)
def tend() -> None:
    """Look after the backups; run by a timer."""

    def work(manager: Manager) -> None:
        if kind := manager.tend():
            click.echo(f"{kind} backup done{where(manager)}")

    managers = or_stop(lambda: managers_of(PATHS))
    if len(managers) == 1:
        forget_second(PATHS)
    failed = fails(lambda: in_turn(managers, work))
    or_stop(lambda: _tend_locks(managers))
    failed |= fails(lambda: _tend_samples(managers[0]))
    failed |= fails(lambda: _tend_logs(managers[0]))
    if failed:
        sys.exit(1)


def _proved() -> list[bool]:
    """For each repository whether its newest backup is proved good now."""

    def prove(manager: Manager) -> bool:
        test = manager.verify()
        for fault in test.faults:
            click.echo(f"fault{where(manager)}: {fault}", err=True)
        if test.ok:
            click.echo(of_good_test(test, where(manager)))
        return test.ok

    proved = or_stop(lambda: in_turn(managers_of(PATHS), prove))
    if not all(proved):
        click.echo("overlordctl: the backup is not proved good: docs/runbooks/backup.md", err=True)
    return proved


def _copy(stop: Callable[[], bool]) -> None:
    manager = managers_of(PATHS)[0]

    def read(folder: Path) -> Repository:
        return reading(manager, folder).repository()

    with manager.alone():
        copier = Copier(PATHS.backup_copy, data_bucket(PATHS), read, stop, click.echo)
        for line in of_copy(copier.make(), ""):
            click.echo(line)


def _tend_locks(managers: Sequence[Manager]) -> None:
    wanted = read_backup_terms(PATHS, read_boot_settings(PATHS)).lock_days
    managers[0].tend_lock(lambda: data_bucket(PATHS).lock_days(), wanted)
    for second in managers[1:]:
        second.tend_lock(lambda: second_bucket(PATHS).lock_days(), wanted)


def _tend_samples(manager: Manager) -> None:
    if manager.tend_samples(_upload, read_boot_settings(PATHS).node):
        click.echo(SNAPSHOT_STORED)


def _tend_logs(manager: Manager) -> None:
    _say_stored(manager.tend_logs(_open_logs, read_boot_settings(PATHS).node))


def _say_stored(size: int | None) -> None:
    if size is not None:
        click.echo(f"{size / 1000**2:.1f} MB of logs stored")


def _upload(key: str, source: BinaryIO) -> int:
    return data_bucket(PATHS).upload(key, source)


def _open_logs() -> Bucket:
    return logs_bucket(PATHS)
