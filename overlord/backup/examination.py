"""Whether a restored database is the one that was backed up: a pure function over what was found.

What could not be looked at counts as a fault.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overlord.backup.repository import (
    SEGMENT_BYTES,
    Repository,
    segment_name,
    segment_number,
    segment_of_lsn,
)

FEWEST = 0.5
"""Part of its rows that a table may have lost since they were last counted."""

MARKED_BEFORE = 3600.0
"""The row to find is written at most so many seconds before a backup begins."""


@dataclass(frozen=True)
class Found:
    """What `pgbackrest-tool examine` found."""

    fetch_seconds: float
    replay_seconds: float
    system: str
    replayed_lsn: str
    last_commit: float | None
    """When the last transaction in the restored database was committed, seconds since the epoch."""
    bytes: int
    rows: Mapping[str, int]
    canary: str | None
    """Token of the newest row that was written to be found."""
    canary_written: float | None
    canary_rows: Mapping[str, int]
    """Rows of each table when that row was written."""


def parse_found(output: str) -> Found:
    """The three lines that `examine` ends well with. Raises ValueError for anything else."""
    lines = [line for line in output.splitlines() if line.startswith(("{", "null"))]
    report, rows, canary = (json.loads(line) for line in lines[:3])
    canary = canary or {}
    return Found(
        fetch_seconds=float(report["fetch_seconds"]),
        replay_seconds=float(report["replay_seconds"]),
        system=str(report["system"]),
        replayed_lsn=str(report["replayed_lsn"] or ""),
        last_commit=_number(report["last_commit"]),
        bytes=int(report["bytes"]),
        rows={name: int(count) for name, count in rows.items()},
        canary=canary.get("token"),
        canary_written=_number(canary.get("written_at")),
        canary_rows={name: int(count) for name, count in (canary.get("rows") or {}).items()},
    )


def faults(
    found: Found, repository: Repository, verified_rows: Mapping[str, int]
) -> tuple[str, ...]:
    """What is wrong with the restored database.

    Args:
        found: what was found in it.
        repository: the repository before the restore.
        verified_rows: rows of each table in the last restore that was proved good; may be empty.
    """
    wrong = []
    if repository.system and found.system != repository.system:
        wrong.append(f"it is database {found.system} and not {repository.system}")
    if found.canary is None or found.canary_written is None:
        wrong.append("the row that every backup has to hold is not in it")
    elif repository.newest and found.canary_written < repository.newest.started - MARKED_BEFORE:
        wrong.append("the row that was written for the newest backup is not in it")
    if not any(found.rows.values()):
        wrong.append("no table of the application has a row")
    for told, known in (("when it was backed up", found.canary_rows), ("before", verified_rows)):
        for table, count in sorted(known.items()):
            have = found.rows.get(table, 0)
            if have < math.ceil(count * FEWEST):
                wrong.append(f"{table} has {have} rows and had {count} {told}")
    if repository.last_segment:
        if not found.replayed_lsn:
            wrong.append("nothing of the log was replayed")
        elif gap := log_gap(found.replayed_lsn, repository.last_segment):
            wrong.append(gap)
    return tuple(dict.fromkeys(wrong))


def log_gap(replayed_lsn: str, last_segment: str) -> str | None:
    """What is missing between the end of a replay and the newest piece in the archive; None when
    nothing is. PostgreSQL itself takes a missing piece for the end of the log."""
    if segment_of_lsn(replayed_lsn) >= segment_number(last_segment):
        return None
    return (
        f"the log ends at {replayed_lsn}, before {last_segment}, which is in the archive: "
        f"{_break(replayed_lsn, last_segment)} is missing or damaged"
    )


def _break(lsn: str, last_segment: str) -> str:
    """Which piece of the log a replay wanted next when it ended."""
    high, _, low = lsn.partition("/")
    position = int(high, 16) * 2**32 + int(low, 16)
    wanted = segment_name(last_segment[:8], position // SEGMENT_BYTES)
    return wanted if position % SEGMENT_BYTES == 0 else f"{wanted} or the piece after it"


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
