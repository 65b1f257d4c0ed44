"""What is in the backup repository, as pgBackRest reports it."""

import json
import re
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from overlord.backup.causes import cause_of
from overlord.errors import OverlordError

Kind = Literal["full", "diff", "incr"]

SEGMENT_BYTES = 16 * 1024**2
"""Size of a piece of the log, PostgreSQL's default."""
_EMPTY = (1, 2, 3)
"""pgBackRest's codes for: no stanza, no backup, a stanza without data."""


@dataclass(frozen=True)
class Backup:
    """One backup."""

    label: str
    kind: Kind
    started: float
    """Seconds since the epoch."""
    ended: float
    database_bytes: int
    stored_bytes: int
    """What this backup alone takes in the bucket."""
    broken: bool
    """pgBackRest found damaged pages in the database."""
    first_segment: str = ""
    """First piece of the log that it needs."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass(frozen=True)
class Repository:
    """All backups, oldest first."""

    backups: tuple[Backup, ...]
    has_stanza: bool
    system: str = ""
    """Which database it belongs to: PostgreSQL's system identifier."""
    last_segment: str = ""
    """Newest piece of the log."""

    @property
    def newest(self) -> Backup | None:
        """The last backup."""
        return self.backups[-1] if self.backups else None

    @property
    def newest_full(self) -> Backup | None:
        """The last full backup."""
        return next((one for one in reversed(self.backups) if one.kind == "full"), None)

    @property
    def stored_bytes(self) -> int:
        """What all backups take in the bucket, without the log."""
        return sum(one.stored_bytes for one in self.backups)

    @property
    def size_ratio(self) -> float | None:
        """Size of the database in the newest backup, in terms of what was usual before it."""
        earlier = [one.database_bytes for one in self.backups[:-1]][-14:]
        if self.newest is None or not earlier or not median(earlier):
            return None
        return self.newest.database_bytes / median(earlier)


def parse_info(text: str) -> Repository:
    """The answer of `info --output=json`. Raises OverlordError when it is no clear answer: a
    repository that could not be read is not an empty one."""
    try:
        stanza = json.loads(text)[0]
        code, message = int(stanza["status"]["code"]), str(stanza["status"]["message"])
        backups = tuple(_backup(entry) for entry in stanza["backup"])
    except (ValueError, LookupError, TypeError):
        raise unclear("pgBackRest's answer is not understood") from None
    for repo in stanza.get("repo", ()):
        if int(repo["status"]["code"]) not in (0, *_EMPTY):
            raise unclear(str(repo["status"]["message"]))
    if code not in (0, *_EMPTY):
        raise unclear(message)
    databases = stanza.get("db") or [{}]
    archives = [str(archive.get("max") or "") for archive in stanza.get("archive", ())]
    return Repository(
        backups=tuple(sorted(backups, key=lambda one: one.ended)),
        has_stanza=code not in (1, 3),
        system=str(databases[-1].get("system-id", "")),
        last_segment=max(archives, default=""),
    )


def unclear(said: str) -> OverlordError:
    """The repository gives no clear answer: the cause behind what was said instead, or the first
    line of it."""
    if cause := cause_of(said):
        return OverlordError(f"the backup repository cannot be read: {cause.what}", cause.remedy)
    return OverlordError(
        f"the backup repository cannot be read: {said.partition(chr(10))[0]}",
        "check the node's B2 key and that B2 answers: `overlordctl backup list`",
    )


def _backup(entry: dict[str, Any]) -> Backup:
    return Backup(
        label=str(entry["label"]),
        kind=entry["type"],
        started=float(entry["timestamp"]["start"]),
        ended=float(entry["timestamp"]["stop"]),
        database_bytes=int(entry["info"]["size"]),
        stored_bytes=int(entry["info"]["repository"]["delta"]),
        broken=bool(entry.get("error")),
        first_segment=str(entry.get("archive", {}).get("start") or ""),
    )


def segment_number(name: str) -> int:
    """Place of a piece of the log, whatever its timeline: 0000000100000002000000FF is 767."""
    if not re.fullmatch(r"[0-9A-F]{24}", name):
        raise ValueError(f"{name!r} is no name of a WAL segment")
    per_log = 2**32 // SEGMENT_BYTES
    return int(name[8:16], 16) * per_log + int(name[16:24], 16)


def segment_name(timeline: str, number: int) -> str:
    """The name of a piece of the log by its place: the opposite of segment_number."""
    per_log = 2**32 // SEGMENT_BYTES
    return f"{timeline}{number // per_log:08X}{number % per_log:08X}"


def segment_of_lsn(lsn: str) -> int:
    """Place of the piece of the log that ends with or holds the byte before a position."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) * 2**32 + int(low, 16) - 1) // SEGMENT_BYTES
