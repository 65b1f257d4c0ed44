"""Records reported statuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from dashboard.api.clock import Judged
from dashboard.api.database import Connection
from dashboard.api.models import StatusReport


@dataclass(frozen=True)
class AcceptedReport:
    """A report whose time has been judged."""

    report: StatusReport
    judged: Judged
    received_at: datetime


# One statement for one report or a thousand, which travel as one JSON text: made and read by native
# code at both ends, where arrays of parameters are made item by item. History takes each event
# once; the latest status follows only forward in time, decided on the row as it is when the lock is
# held, so concurrent reports cannot turn it back. The events of a status change fall out of the
# same statement.
_RECORD = """
WITH incoming AS (
    SELECT DISTINCT ON (device_id, event_time, event_id) *
    FROM json_to_recordset(%s::json) AS given (
        device_id text, event_id uuid, event_time timestamptz, observed_at timestamptz,
        received_at timestamptz, status text, message text, uptime_seconds bigint,
        config_version text, agent_version text, kernel text, boot_id uuid,
        clock_skew_seconds double precision, metrics jsonb
    )
), recorded AS (
    INSERT INTO status_history (
        device_id, event_id, event_time, observed_at, received_at, status, message,
        uptime_seconds, config_version, agent_version, kernel, boot_id, clock_skew_seconds,
        metrics
    )
    SELECT device_id, event_id, event_time, observed_at, received_at, status, message,
        uptime_seconds, config_version, agent_version, kernel, boot_id, clock_skew_seconds,
        metrics
    FROM incoming
    ON CONFLICT DO NOTHING
    RETURNING *
), newest AS (
    SELECT DISTINCT ON (device_id) *
    FROM recorded
    ORDER BY device_id, observed_at DESC, event_time DESC, event_id DESC
), previous AS (
    SELECT device_id, status FROM device_latest WHERE device_id IN (SELECT device_id FROM newest)
), moved AS (
    INSERT INTO device_latest AS latest (
        device_id, event_id, event_time, observed_at, received_at, status, message,
        uptime_seconds, config_version, agent_version, kernel, boot_id, clock_skew_seconds,
        metrics
    )
    SELECT device_id, event_id, event_time, observed_at, received_at, status, message,
        uptime_seconds, config_version, agent_version, kernel, boot_id, clock_skew_seconds,
        metrics
    FROM newest
    ON CONFLICT (device_id) DO UPDATE SET
        event_id = EXCLUDED.event_id, event_time = EXCLUDED.event_time,
        observed_at = EXCLUDED.observed_at, received_at = EXCLUDED.received_at,
        status = EXCLUDED.status, message = EXCLUDED.message,
        uptime_seconds = EXCLUDED.uptime_seconds, config_version = EXCLUDED.config_version,
        agent_version = EXCLUDED.agent_version, kernel = EXCLUDED.kernel,
        boot_id = EXCLUDED.boot_id,
        clock_skew_seconds = EXCLUDED.clock_skew_seconds, metrics = EXCLUDED.metrics
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
SELECT event_id, NULL::bigint AS changed FROM recorded
UNION ALL
SELECT NULL, id FROM changed
"""


@dataclass(frozen=True)
class Recorded:
    """What a recording brought.

    Args:
        new: event ids that were not there before.
        events: numbers of the events of status changes.
    """

    new: frozenset[UUID]
    events: tuple[int, ...]


async def record(connection: Connection, reports: Sequence[AcceptedReport]) -> Recorded:
    """Record reports; those already there are left as they are."""
    cursor = await connection.execute(_RECORD, [to_json([_row(item) for item in reports]).decode()])
    rows: list[dict[str, Any]] = await cursor.fetchall()
    return Recorded(
        new=frozenset(row["event_id"] for row in rows if row["event_id"] is not None),
        events=tuple(row["changed"] for row in rows if row["changed"] is not None),
    )


def _row(accepted: AcceptedReport) -> dict[str, object]:
    report, judged = accepted.report, accepted.judged
    return {
        "device_id": report.device_id,
        "event_id": report.event_id,
        "event_time": report.event_time,
        "observed_at": judged.observed_at,
        "received_at": accepted.received_at,
        "status": report.status,
        "message": report.message,
        "uptime_seconds": report.uptime_seconds,
        "config_version": report.config_version,
        "agent_version": report.agent_version,
        "kernel": report.kernel,
        "boot_id": report.boot_id,
        "clock_skew_seconds": None if judged.skew is None else judged.skew.total_seconds(),
        "metrics": report.metrics,
    }
