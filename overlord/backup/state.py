"""What this node knows of the backups, on disk: for metrics and for `overlordctl backup list`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from overlord.files import read_json, write_json
from overlord.paths import Paths


@dataclass(frozen=True)
class Watch:
    """The repository and the archive, as the node that leads saw them last. Times are seconds
    since the epoch."""

    seen: float = 0.0
    newest: float | None = None
    """End of the newest backup."""
    newest_full: float | None = None
    backups: int = 0
    seconds: float | None = None
    """How long the newest backup took."""
    database_bytes: int | None = None
    stored_bytes: int = 0
    size_ratio: float | None = None
    archive_waiting: int = 0
    """Pieces of the log that are not in the archive yet."""
    archive_oldest_waiting: float | None = None
    archive_last: float | None = None
    archive_seen: float = 0.0
    """Last look at the archive, which needs no answer of the bucket."""
    archive_error: str = ""
    """Why pieces wait; empty when that is not known or none does."""
    error: str = ""
    """Why the last look or the last backup failed; empty when it did not."""
    tried: float = 0.0


@dataclass(frozen=True)
class RestoreTest:
    """The last restore test on this node."""

    ended: float = 0.0
    ok: bool = False
    faults: tuple[str, ...] = ()
    seconds: float = 0.0
    recovery_point_age: float | None = None
    """How much older than the test's start the newest transaction in the restored database was."""
    bytes: int = 0
    label: str = ""
    last_good: float | None = None
    """When a restore was last proved good on this node."""
    good_rows: Mapping[str, int] = field(default_factory=dict)
    """Rows of each table at that time."""


@dataclass(frozen=True)
class Samples:
    """The last snapshot of Prometheus that this node put into the bucket."""

    ended: float = 0.0
    bytes: int = 0
    error: str = ""
    """Why the last try failed; empty when it did not."""


@dataclass(frozen=True)
class Logs:
    """How far what this node's Loki wrote is in the bucket."""

    until: int = 0
    """All that was written before this is there; nanoseconds since the epoch."""
    ended: float = 0.0
    """When all that was new was last sent, in seconds since the epoch."""
    bytes: int = 0
    """Sent that time."""
    error: str = ""
    """Why the last try failed; empty when it did not."""


@dataclass(frozen=True)
class Lock:
    """The bucket's lock, as this node saw it last."""

    seen: float = 0.0
    days: int = 0
    """What the bucket locks each new object for; 0 without a lock."""
    wanted: int = 0
    """What is set for it in the release in force."""
    error: str = ""
    """Why the last look failed; empty when it did not."""
    tried: float = 0.0


T = TypeVar("T", Watch, RestoreTest, Samples, Logs, Lock)


def read_watch(paths: Paths, repository: int = 1) -> Watch | None:
    """None where this node has never looked."""
    return _read(_watch(paths, repository), Watch)


def write_watch(paths: Paths, watch: Watch, repository: int = 1) -> None:
    """Remember."""
    write_json(_watch(paths, repository), asdict(watch))


def read_restore_test(paths: Paths, repository: int = 1) -> RestoreTest | None:
    """None where there was never a test."""
    return _read(_test(paths, repository), RestoreTest)


def write_restore_test(paths: Paths, test: RestoreTest, repository: int = 1) -> None:
    """Remember."""
    write_json(_test(paths, repository), asdict(test))


def forget_second(paths: Paths) -> None:
    """Where there is no second repository any more, nobody speaks of it."""
    for path in (paths.second_backup_watch, paths.second_restore_test, paths.second_backup_lock):
        path.unlink(missing_ok=True)


def _watch(paths: Paths, repository: int) -> Path:
    return paths.backup_watch if repository == 1 else paths.second_backup_watch


def _test(paths: Paths, repository: int) -> Path:
    return paths.restore_test if repository == 1 else paths.second_restore_test


def read_samples(paths: Paths) -> Samples | None:
    """None where there was never a snapshot."""
    return _read(paths.samples_backup, Samples)


def write_samples(paths: Paths, samples: Samples) -> None:
    """Remember."""
    write_json(paths.samples_backup, asdict(samples))


def read_logs(paths: Paths) -> Logs | None:
    """None where nothing was ever sent."""
    return _read(paths.logs_backup, Logs)


def write_logs(paths: Paths, logs: Logs) -> None:
    """Remember."""
    write_json(paths.logs_backup, asdict(logs))


def read_lock(paths: Paths, repository: int = 1) -> Lock | None:
    """None where this node has never looked."""
    return _read(_lock(paths, repository), Lock)


def write_lock(paths: Paths, lock: Lock, repository: int = 1) -> None:
    """Remember."""
    write_json(_lock(paths, repository), asdict(lock))


def _lock(paths: Paths, repository: int) -> Path:
    return paths.backup_lock if repository == 1 else paths.second_backup_lock


def backup_document(paths: Paths) -> dict[str, dict[str, Any] | None]:
    """For the agent's /status: what this node saw, proved and stored last; None for never, and of a
    second repository that is not there."""
    parts = {
        "watch": read_watch(paths),
        "restore_test": read_restore_test(paths),
        "second_watch": read_watch(paths, 2),
        "second_restore_test": read_restore_test(paths, 2),
        "samples": read_samples(paths),
        "lock": read_lock(paths),
    }
    return {name: asdict(part) if part else None for name, part in parts.items()}


def _read(path: Path, kind: type[T]) -> T | None:
    data: dict[str, Any] = read_json(path)
    known = {one.name for one in fields(kind)}
    given = {name: value for name, value in data.items() if name in known}
    if "faults" in given:
        given["faults"] = tuple(given["faults"])
    return kind(**given) if given else None
