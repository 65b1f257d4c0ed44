"""Reads events and the audit log, newest first, a slice at a time."""

from __future__ import annotations

from typing import Any

from dashboard.api.database import Connection
from dashboard.api.models import AuditEntry, AuditSlice, EventSlice, FleetEvent


async def events(
    connection: Connection, device_id: str | None, before: int | None, limit: int
) -> EventSlice:
    """Events of a device, or of all."""
    cursor = await connection.execute(
        "SELECT id, at, device_id, kind, detail FROM events"
        " WHERE (%(device)s::text IS NULL OR device_id = %(device)s)"
        " AND (%(before)s::bigint IS NULL OR id < %(before)s)"
        " ORDER BY id DESC LIMIT %(limit)s",
        {"device": device_id, "before": before, "limit": limit},
    )
    rows: list[dict[str, Any]] = await cursor.fetchall()
    return EventSlice(items=[FleetEvent(**row) for row in rows], next=_next(rows, limit))


async def audit(connection: Connection, before: int | None, limit: int) -> AuditSlice:
    """Who changed what."""
    cursor = await connection.execute(
        "SELECT id, at, actor, action, target, client, detail FROM audit_log"
        " WHERE (%(before)s::bigint IS NULL OR id < %(before)s)"
        " ORDER BY id DESC LIMIT %(limit)s",
        {"before": before, "limit": limit},
    )
    rows: list[dict[str, Any]] = await cursor.fetchall()
    return AuditSlice(items=[AuditEntry(**row) for row in rows], next=_next(rows, limit))


def _next(rows: list[dict[str, Any]], limit: int) -> int | None:
    return rows[-1]["id"] if len(rows) == limit else None
