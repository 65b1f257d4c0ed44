"""The whole fleet in a few bytes a device, put together by the database itself."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from dashboard.api.clock import SKEW_TOLERANCE
from dashboard.api.database import Connection
from dashboard.api.store.devices import ONLINE_WITHIN

# As JSON from the database: ten thousand devices as objects of ours would take seconds.
_DEVICES = """
SELECT coalesce(json_agg(json_build_object(
    'device_id', device.id,
    'name', device.name,
    'tags', device.tags,
    'status', latest.status,
    'message', coalesce(latest.message, ''),
    'observed_at', latest.observed_at,
    'config_version', latest.config_version,
    'clock_flagged', coalesce(abs(latest.clock_skew_seconds) > %(tolerance)s, false)
) ORDER BY device.id), '[]')::text AS devices
FROM devices AS device LEFT JOIN device_latest AS latest ON latest.device_id = device.id
WHERE device.retired_at IS NULL AND (%(ids)s::text[] IS NULL OR device.id = ANY(%(ids)s))
"""

_EVENTS = """
SELECT json_build_object(
    'id', id, 'at', at, 'device_id', device_id, 'kind', kind, 'detail', detail
)::text AS event
FROM events WHERE id = ANY(%(ids)s) ORDER BY id
"""

_COUNTS = """
SELECT coalesce(latest.status, 'none') AS status,
    coalesce(latest.observed_at > now() - %(online_within)s, false) AS online,
    count(*) AS devices
FROM devices AS device LEFT JOIN device_latest AS latest ON latest.device_id = device.id
WHERE device.retired_at IS NULL
GROUP BY 1, 2
"""


async def devices_json(connection: Connection, ids: Collection[str] | None = None) -> str:
    """Enrolled devices as a JSON array: all, or those with the given ids."""
    cursor = await connection.execute(
        _DEVICES,
        {
            "tolerance": SKEW_TOLERANCE.total_seconds(),
            "ids": None if ids is None else list(ids),
        },
    )
    row: Any = await cursor.fetchone()
    return str(row["devices"])


async def events_json(connection: Connection, ids: Collection[int]) -> list[str]:
    """Events as JSON objects, in the order of their numbers."""
    cursor = await connection.execute(_EVENTS, {"ids": list(ids)})
    return [str(row["event"]) for row in await cursor.fetchall()]


async def counts(connection: Connection) -> dict[tuple[str, bool], int]:
    """Enrolled devices by status (`none` before the first report) and whether they are online."""
    cursor = await connection.execute(_COUNTS, {"online_within": ONLINE_WITHIN})
    rows: list[dict[str, Any]] = await cursor.fetchall()
    return {(row["status"], row["online"]): row["devices"] for row in rows}


async def last_seen(connection: Connection) -> dict[str, float]:
    """When each enrolled device was last heard of, in seconds since 1970."""
    cursor = await connection.execute(
        "SELECT device.id, extract(epoch FROM coalesce(observed_at, enrolled_at))::float8 AS seen"
        " FROM devices AS device LEFT JOIN device_latest ON device_id = device.id"
        " WHERE retired_at IS NULL"
    )
    rows: list[dict[str, Any]] = await cursor.fetchall()
    return {row["id"]: row["seen"] for row in rows}


async def devices_since(connection: Connection, since: datetime) -> list[str]:
    """Ids of the devices heard of since then."""
    cursor = await connection.execute(
        "SELECT device_id FROM device_latest WHERE received_at >= %s", [since]
    )
    return [str(row["device_id"]) for row in await cursor.fetchall()]


async def events_since(connection: Connection, since: datetime) -> list[int]:
    """Numbers of the events noted since then, among the newest thousand."""
    cursor = await connection.execute(
        "SELECT id FROM (SELECT id, at FROM events ORDER BY id DESC LIMIT 1000) AS newest"
        " WHERE at >= %s",
        [since],
    )
    rows: list[dict[str, Any]] = await cursor.fetchall()
    return [row["id"] for row in rows]
