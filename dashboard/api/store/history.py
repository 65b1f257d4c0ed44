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
_IN_RANGE = sql.SQL("""
FROM status_history
WHERE device_id = %(id)s AND event_time >= %(wide_from)s AND event_time < %(wide_to)s
    AND observed_at >= %(from)s AND observed_at < %(to)s
""")

# Over many days the reports at the full hour tell which metrics there are.
_NAMES = sql.SQL("""
SELECT DISTINCT jsonb_object_keys(metrics) AS name {in_range}
    AND (%(all)s OR extract(minute FROM event_time) = 0)
ORDER BY name LIMIT {limit}
""")

# One expression a metric: taking every report's object apart would cost ten times as much.
_BUCKETS = sql.SQL("""
SELECT extract(epoch FROM bucket)::bigint AS time,
    max(CASE status WHEN 'ok' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END) AS worst,
    (array_agg(config_version ORDER BY observed_at DESC))[1] AS config_version
    {aggregates}
FROM (
    SELECT date_bin(%(step)s, observed_at, %(from)s) AS bucket, observed_at, status, config_version
        {values}
    {in_range}
    OFFSET 0
) AS report
GROUP BY bucket ORDER BY bucket
""")

_MOST_METRICS = 64
_SHORT = timedelta(days=2)
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
    parameters: dict[str, Any] = {
        "id": device_id,
        "step": timedelta(seconds=step),
        "from": start,
        "to": until,
        "wide_from": start - MAX_SKEW,
        "wide_to": until + MAX_SKEW,
        "all": until - start <= _SHORT,
    }
    cursor = await connection.execute(
        _NAMES.format(in_range=_IN_RANGE, limit=sql.Literal(_MOST_METRICS)), parameters
    )
    names = [str(row["name"]) for row in await cursor.fetchall()]
    cursor = await connection.execute(_buckets(names), parameters)
    rows: list[dict[str, Any]] = await cursor.fetchall()
    return Series.model_validate(
        {
            "from": start,
            "to": until,
            "step_seconds": step,
            "times": [row["time"] for row in rows],
            "status": [_WORST[row["worst"]] for row in rows],
            "config_version": [row["config_version"] for row in rows],
            "metrics": {
                name: MetricSeries(
                    avg=[row[f"avg{number}"] for row in rows],
                    min=[row[f"min{number}"] for row in rows],
                    max=[row[f"max{number}"] for row in rows],
                )
                for number, name in enumerate(names)
            },
        }
    )


def _buckets(names: list[str]) -> sql.Composed:
    # The empty first part gives the comma before the second.
    values: list[sql.Composable] = [sql.SQL("")]
    aggregates: list[sql.Composable] = [sql.SQL("")]
    for number, name in enumerate(names):
        column = sql.Identifier(f"v{number}")
        values.append(sql.SQL("(metrics->{})::float8 AS {}").format(sql.Literal(name), column))
        for function in ("avg", "min", "max"):
            aggregates.append(
                sql.SQL("{}({}) AS {}").format(
                    sql.SQL(function), column, sql.Identifier(f"{function}{number}")
                )
            )
    return _BUCKETS.format(
        values=sql.SQL(", ").join(values),
        aggregates=sql.SQL(", ").join(aggregates),
        in_range=_IN_RANGE,
    )
