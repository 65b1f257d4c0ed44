"""Records reported statuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import sql
from pydantic_core import to_json

from dashboard.api.clock import Judged
from dashboard.api.database import Connection
from dashboard.api.faultless import PlainReport
from dashboard.api.models import StatusReport


class StatusRow(NamedTuple):
    """A row of the history: a report, and its time as it was judged. The key comes first."""

    device_id: str
    event_time: datetime
    event_id: UUID
    observed_at: datetime
    received_at: datetime
    status: str
    message: str
    uptime_seconds: int | None
    config_version: str | None
    agent_version: str | None
    kernel: str | None
    boot_id: UUID | None
    clock_skew_seconds: float | None
    metrics: dict[str, float]


_TYPES = {
    "device_id": "text",
    "event_time": "timestamptz",
    "event_id": "uuid",
    "observed_at": "timestamptz",
    "received_at": "timestamptz",
    "status": "text",
    "message": "text",
    "uptime_seconds": "bigint",
    "config_version": "text",
    "agent_version": "text",
    "kernel": "text",
    "boot_id": "uuid",
    "clock_skew_seconds": "double precision",
    "metrics": "jsonb",
}
assert tuple(_TYPES) == StatusRow._fields
_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, _TYPES))

# Rows travel as one JSON text: made and read by native code at both ends, where arrays of
# parameters are made item by item.
_GIVEN = sql.SQL("json_to_recordset(%s::json) AS given ({})").format(
    sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
        for name, kind in _TYPES.items()
    )
)

# The latest status follows the newest rows of each device, only forward in time, decided on the row
# as it is when the lock is held, so concurrent reports cannot turn it back. The events of a status
# change fall out of the same statement.
_MOVED = sql.SQL("""
previous AS (
    SELECT device_id, status FROM device_latest WHERE device_id IN (SELECT device_id FROM newest)
), moved AS (
    INSERT INTO device_latest AS latest ({columns})
    SELECT {columns} FROM newest
    ON CONFLICT (device_id) DO UPDATE SET ({columns}) = ROW ({excluded})
    WHERE (latest.observed_at, latest.event_time, latest.event_id)
        < (EXCLUDED.observed_at, EXCLUDED.event_time, EXCLUDED.event_id)
    RETURNING device_id, status, observed_at, message
), changed AS (
    INSERT INTO events (device_id, at, kind, detail)
    SELECT moved.device_id, moved.observed_at, 'status_changed', jsonb_build_object(
        'from', previous.status, 'to', moved.status, 'message', moved.message
    )
    FROM moved LEFT JOIN previous USING (device_id)
    WHERE previous.status IS DISTINCT FROM moved.status
    RETURNING id
)
""").format(
    columns=_COLUMNS,
    excluded=sql.SQL(", ").join(sql.Identifier("excluded", name) for name in _TYPES),
)

# One statement for one report or for many, of which history takes each event once. Sorted by its
# key, so that two who bring the same events wait for each other and never in a circle.
_RECORD = (
    sql.SQL("""
WITH incoming AS (
    SELECT DISTINCT ON (device_id, event_time, event_id) * FROM {given}
), recorded AS (
    INSERT INTO status_history ({columns}) SELECT {columns} FROM incoming
    ON CONFLICT DO NOTHING
    RETURNING *
), newest AS (
    SELECT DISTINCT ON (device_id) *
    FROM recorded
    ORDER BY device_id, observed_at DESC, event_time DESC, event_id DESC
), {moved}
SELECT event_id, NULL::bigint AS changed FROM recorded
UNION ALL
SELECT NULL, id FROM changed
""")
    .format(given=_GIVEN, columns=_COLUMNS, moved=_MOVED)
    .as_bytes()
)

_COPY = sql.SQL("COPY status_history ({}) FROM STDIN (FORMAT BINARY)").format(_COLUMNS).as_bytes()
_FOLLOW = (
    sql.SQL("WITH newest AS (SELECT * FROM {}), {} SELECT id AS changed FROM changed")
    .format(_GIVEN, _MOVED)
    .as_bytes()
)


_KEY = attrgetter("device_id", "event_time", "event_id")
_ORDER = attrgetter("observed_at", "event_time", "event_id")


@dataclass(frozen=True)
class Recorded:
    """What a recording brought.

    Args:
        count: reports that were new.
        known: event ids that were there before.
        events: numbers of the events of status changes.
    """

    count: int = 0
    known: frozenset[UUID] = frozenset()
    events: tuple[int, ...] = ()


def status_row(
    report: StatusReport | PlainReport, judged: Judged, received_at: datetime
) -> StatusRow:
    """The row that a report becomes."""
    return StatusRow(
        report.device_id,
        judged.event_time,
        report.event_id,
        judged.observed_at,
        received_at,
        report.status,
        report.message,
        report.uptime_seconds,
        report.config_version,
        report.agent_version,
        report.kernel,
        report.boot_id,
        None if judged.skew is None else judged.skew.total_seconds(),
        report.metrics,
    )


async def record(connection: Connection, rows: Sequence[StatusRow]) -> Recorded:
    """Record statuses; those already there are left as they are."""
    cursor = await connection.execute(_RECORD, [_json(rows)])
    found: list[dict[str, Any]] = await cursor.fetchall()
    new = {row["event_id"] for row in found if row["event_id"] is not None}
    return Recorded(
        count=len(new),
        known=frozenset(row.event_id for row in rows) - new,
        events=tuple(row["changed"] for row in found if row["changed"] is not None),
    )


async def record_new(connection: Connection, rows: Sequence[StatusRow]) -> Recorded:
    """Record statuses of one device that are all new, as is usual, at less than half the cost.

    Raises:
        psycopg.errors.UniqueViolation: one is there already, or comes twice. The transaction has
            failed; `record` takes them in another.
    """
    async with connection.cursor().copy(_COPY) as copy:
        copy.set_types(list(_TYPES.values()))
        # In the order of the key, for the reason that `_RECORD` gives.
        for row in sorted(rows, key=_KEY):
            await copy.write_row(row)
    cursor = await connection.execute(_FOLLOW, [_json([max(rows, key=_ORDER)])])
    found: list[dict[str, Any]] = await cursor.fetchall()
    return Recorded(count=len(rows), events=tuple(row["changed"] for row in found))


def _json(rows: Sequence[StatusRow]) -> str:
    return to_json([row._asdict() for row in rows]).decode()
