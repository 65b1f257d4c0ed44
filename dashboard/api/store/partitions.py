"""Keeps the daily partitions of the status history."""

from __future__ import annotations

from datetime import date, timedelta

from dashboard.api.clock import MAX_AGE, MAX_SKEW
from dashboard.api.database import Connection

_AHEAD = MAX_SKEW + timedelta(days=1)


async def maintain(connection: Connection, today: date, history_days: int) -> None:
    """Make the partitions that reports may fall into, and drop those past the retention."""
    await connection.execute(
        "SELECT ensure_status_partitions(%s, %s)", [today - MAX_AGE - MAX_SKEW, today + _AHEAD]
    )
    await connection.execute(
        "SELECT drop_status_partitions(%s)", [today - timedelta(days=history_days)]
    )
