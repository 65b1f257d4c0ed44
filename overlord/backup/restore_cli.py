"""`overlordctl restore`."""

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from overlord.backup.copy import Whole, find_copy
from overlord.backup.logs import LOGS, for_loki, newest_archives, put_back_logs
from overlord.backup.managers import managers_of, reading
from overlord.backup.objects import Bucket, data_bucket, logs_bucket, place
from overlord.backup.restore import Restore
from overlord.backup.samples import SAMPLES, newest_snapshot, put_back
from overlord.backup.words import GIGABYTE
from overlord.console import or_stop, stop
from overlord.errors import OverlordError
from overlord.layout import stack_of
from overlord.node import read_boot_settings
from overlord.paths import Paths
from overlord.runner import SystemRunner

PATHS = Paths()


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
@click.option(
    "--logs",
    is_flag=True,
    help="Not the database but the logs in Loki, which runs on; with --to, all that the bucket "
    "has of them, in a folder.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be restored, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(
    at: str | None,
    to: Path | None,
    bucket_as_of: str | None,
    from_copy: bool,
    metrics: bool,
    logs: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Bring the database back from a backup: the newest state, or as of a moment.

    With --to, beside the running database. Without, in its place: PostgreSQL of this node is
    stopped, and what was there is kept aside.
    """
    if metrics and (at or to or bucket_as_of or logs):
        stop(
            OverlordError(
                "--metrics takes the newest snapshot",
                "leave --at, --to, --bucket-as-of and --logs out",
            )
        )
    if logs and (at or bucket_as_of or from_copy):
        stop(
            OverlordError(
                "--logs takes what is in the bucket now",
                "leave --at, --bucket-as-of and --from-copy out",
            )
        )
    if metrics:
        or_stop(lambda: _restore_metrics(from_copy, dry_run))
    elif logs:
        or_stop(lambda: _restore_logs(to, dry_run))
    else:
        or_stop(lambda: _restore_database(at, to, bucket_as_of, from_copy, dry_run, yes))


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


def _restore_database(
    at: str | None,
    to: Path | None,
    bucket_as_of: str | None,
    from_copy: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    job = _job(parse_moment(at) if at else None, to, bucket_as_of, from_copy)
    for line in job.plan():
        click.echo(line)
    if dry_run:
        click.echo("dry run: nothing was changed")
        return
    if to is None and not yes:
        click.confirm("Replace the database of this node?", abort=True)
    job.run()


def _job(
    moment: datetime | None, to: Path | None, bucket_as_of: str | None, from_copy: bool
) -> Restore:
    if from_copy and bucket_as_of:
        raise OverlordError("--from-copy does not ask the bucket", "leave one of them out")
    if bucket_as_of and to is None:
        raise OverlordError(
            "--bucket-as-of needs --to", "look at the copy before you put it in force"
        )
    managers = managers_of(PATHS)
    kept = _found_copy() if from_copy else None
    return Restore(
        PATHS,
        SystemRunner(),
        stack_of(PATHS, read_boot_settings(PATHS).node),
        reading(managers[0], kept.repository) if kept else managers[0],
        moment,
        to,
        click.echo,
        _fetch_as_of(parse_moment(bucket_as_of)) if bucket_as_of else None,
        managers[1] if len(managers) > 1 and not kept else None,
        kept,
    )


def _fetch_as_of(moment: datetime) -> Callable[[Path], int]:
    return lambda folder: data_bucket(PATHS).fetch_as_of("database/", moment, folder)


def _restore_metrics(from_copy: bool, dry_run: bool) -> None:
    snapshot = _in_copy(_found_copy()) if from_copy else _in_bucket(data_bucket(PATHS))
    if not snapshot.key:
        raise OverlordError("there is no snapshot of Prometheus", "`overlordctl backup list`")
    click.echo(f"snapshot of Prometheus: {snapshot.key}")
    if dry_run:
        click.echo("dry run: nothing was changed")
        return
    with snapshot.opened() as archive:
        blocks = put_back(PATHS.prometheus_volume, archive)
    click.echo(f"{blocks} blocks of samples put back; Prometheus takes them up within a minute")


def _restore_logs(to: Path | None, dry_run: bool) -> None:
    bucket = logs_bucket(PATHS)
    archives = newest_archives(bucket.objects(LOGS))
    if to is None:
        archives = for_loki(archives, time.time())
    if not archives:
        raise OverlordError("there are no logs in the bucket", "`overlordctl backup list`")
    size, last = sum(one.bytes for one in archives) / GIGABYTE, archives[-1].key
    click.echo(f"{len(archives)} archives of logs, {size:.2f} GB, up to {last}")
    if dry_run:
        click.echo("dry run: nothing was changed")
        return
    if to:
        to.mkdir(parents=True, exist_ok=True)
    files = put_back_logs(to or PATHS.loki_volume, bucket, archives)
    seen = f"below {to}" if to else "put back; Loki takes them up within six minutes"
    click.echo(f"{files} files {seen}")


@dataclass(frozen=True)
class _Snapshot:
    """The newest one of Prometheus, wherever it is kept."""

    key: str
    """Empty where there is none."""
    opened: Callable[[], AbstractContextManager[BinaryIO]]


def _in_copy(kept: Whole) -> _Snapshot:
    return _Snapshot(kept.samples, lambda: place(kept.folder, kept.samples).open("rb"))


def _in_bucket(bucket: Bucket) -> _Snapshot:
    key = newest_snapshot(bucket.objects(SAMPLES))
    return _Snapshot(key, lambda: bucket.opened(key))


def _found_copy() -> Whole:
    if kept := find_copy(PATHS.backup_copy):
        return kept
    raise OverlordError(
        "there is no copy of a backup on this node",
        "the node that does not lead makes it every night: look on the other one",
    )
