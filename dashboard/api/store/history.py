"""Reads what devices reported in the past."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from psycopg import sql

from dashboard.api.clock import MAX_SKEW
from dashboard.api.database import Connection
from dashboard.api.models import MetricSeries, Report, Series
from dashboard.api.store.devices import ORDERS, Order

_REPORTS = sql.SQL("""
SELECT event_id, event_time, observed_at, received_at, status, message, uptime_seconds,
    config_version, agent_version, kernel, boot_id, clock_skew_seconds, metrics
FROM status_history
WHERE device_id = %(id)s AND event_time >= %(from)s AND event_time < %(to)s
ORDER BY event_time {order}, event_id {order}
LIMIT %(limit)s OFFSET %(offset)s
""")

_COUNT = """
SELECT count(*) AS total FROM status_history
WHERE device_id = %(id)s AND event_time >= %(from)s AND event_time < %(to)s
"""

# Charts show when a thing was true by our clock; the partitions are by the device's, which may be
# a day off, hence the wider condition on event_time.
_BUCKETS = """
WITH reports AS MATERIALIZED (
    SELECT date_bin(%(step)s, observed_at, %(from)s) AS bucket,
        observed_at, status, config_version, metrics
    FROM status_history
    WHERE device_id = %(id)s AND event_time >= %(wide_from)s AND event_time < %(wide_to)s
        AND observed_at >= %(from)s AND observed_at < %(to)s
), metric AS (
    SELECT bucket, entry.key AS name, avg(entry.value::text::float8) AS avg,
        min(entry.value::text::float8) AS min, max(entry.value::text::float8) AS max
    FROM reports CROSS JOIN LATERAL jsonb_each(metrics) AS entry
    GROUP BY bucket, entry.key
), metrics AS (
    SELECT bucket, jsonb_object_agg(name, jsonb_build_array(avg, min, max)) AS metrics
    FROM metric GROUP BY bucket
)
SELECT extract(epoch FROM bucket)::bigint AS time,
    max(array_position(ARRAY['ok', 'warning', 'critical'], status)) AS worst,
    (array_agg(config_version ORDER BY observed_at DESC))[1] AS config_version,
    metrics.metrics
FROM reports LEFT JOIN metrics USING (bucket)
GROUP BY bucket, metrics.metrics
ORDER BY bucket
"""

_STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400]
_WORST = ("ok", "warning", "critical")


async def reports(
    connection: Connection,
    device_id: str,
    since: datetime,
    until: datetime,
    *,
    order: Order,
    page: int,
    page_size: int,
) -> tuple[list[Report], int]:
    """Reports of a device by its own time, `since` included and `until` not; and how many."""
    parameters: dict[str, Any] = {
        "id": device_id,
        "from": since,
        "to": until,
        "limit": page_size,
        "offset": (page - 1) * page_size,
    }
    statement = _REPORTS.format(order=ORDERS[order])
    rows: list[dict[str, Any]] = await (await connection.execute(statement, parameters)).fetchall()
    total: Any = await (await connection.execute(_COUNT, parameters)).fetchone()
    return [Report(**row) for row in rows], int(total["total"])


def bucket_seconds(span: timedelta, points: int) -> int:
    """Length of a bucket: a round one that makes at most so many points, never below a minute."""
    wanted = span.total_seconds() / points
    for step in _STEPS:
        if step >= wanted:
            return step
    days = -(-wanted // 86400)
    return int(days) * 86400


async def series(
    connection: Connection, device_id: str, since: datetime, until: datetime, points: int
) -> Series:
    """Reports of a device in buckets of equal length, for charts."""
    step = bucket_seconds(until - since, points)
    # Buckets at round times, so that a chart that moves on keeps the ones it has.
    start = datetime.fromtimestamp(since.timestamp() // step * step, since.tzinfo)
    cursor = await connection.execute(
        _BUCKETS,
        {
            "id": device_id,
            "step": timedelta(seconds=step),
            "from": start,
            "to": until,
            "wide_from": start - MAX_SKEW,
            "wide_to": until + MAX_SKEW,
        },
    )
    rows: list[dict[str, Any]] = await cursor.fetchall()
    names = sorted({name for row in rows for name in row["metrics"] or ()})
    nothing = (None, None, None)
    columns = {name: [(row["metrics"] or {}).get(name, nothing) for row in rows] for name in names}
    return Series.model_validate(
        {
            "from": start,
            "to": until,
            "step_seconds": step,
            "times": [row["time"] for row in rows],
            "status": [_WORST[row["worst"] - 1] for row in rows],
            "config_version": [row["config_version"] for row in rows],
            "metrics": {
                name: MetricSeries(
                    avg=[value[0] for value in values],
                    min=[value[1] for value in values],
                    max=[value[2] for value in values],
                )
                for name, values in columns.items()
            },
        }
    )
