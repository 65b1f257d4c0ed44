"""Reads and writes the device registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

import psycopg
from psycopg import sql

from dashboard.api.database import Connection
from dashboard.api.models import Device, DeviceChange, Enrolment, LatestStatus, Status

# Three missed reports of one a minute.
ONLINE_WITHIN = timedelta(minutes=3)

Sort = Literal["device_id", "name", "status", "last_seen", "enrolled_at"]
Order = Literal["asc", "desc"]
State = Literal["enrolled", "retired", "all"]

# Fixed text by a name that the API has checked; nothing of the client reaches the statement.
_SORT_COLUMNS: dict[Sort, sql.SQL] = {
    "device_id": sql.SQL("device.id"),
    "name": sql.SQL("lower(device.name)"),
    # By how bad it is, not by the alphabet.
    "status": sql.SQL("array_position(ARRAY['ok', 'warning', 'critical'], latest.status)"),
    "last_seen": sql.SQL("latest.observed_at"),
    "enrolled_at": sql.SQL("device.enrolled_at"),
}
ORDERS: dict[Order, sql.SQL] = {
    "asc": sql.SQL("ASC NULLS LAST"),
    "desc": sql.SQL("DESC NULLS LAST"),
}
assert set(_SORT_COLUMNS) == set(get_args(Sort))

_COLUMNS = sql.SQL("""
    device.id, device.name, device.tags, device.address, device.enrolled_at, device.retired_at,
    latest.status, latest.message, latest.event_time, latest.observed_at, latest.received_at,
    latest.uptime_seconds, latest.config_version, latest.agent_version, latest.kernel,
    latest.boot_id, latest.clock_skew_seconds, latest.metrics,
    coalesce(latest.observed_at > now() - %(online_within)s, false) AS online
""")
_TABLES = sql.SQL(
    "FROM devices AS device LEFT JOIN device_latest AS latest ON latest.device_id = device.id"
)


class AlreadyEnrolledError(Exception):
    """A device with this id exists."""


@dataclass(frozen=True)
class DeviceQuery:
    """Which devices, in which order.

    Args:
        search: part of an id or a name.
        page: counted from 1.
    """

    state: State = "enrolled"
    status: Status | None = None
    online: bool | None = None
    tag: str | None = None
    search: str | None = None
    sort: Sort = "device_id"
    order: Order = "asc"
    page: int = 1
    page_size: int = 100


async def find(connection: Connection, query: DeviceQuery) -> tuple[Sequence[Device], int]:
    """The devices of one page, and how many there are on all pages."""
    conditions = [sql.SQL("true")]
    parameters: dict[str, Any] = {
        "online_within": ONLINE_WITHIN,
        "limit": query.page_size,
        "offset": (query.page - 1) * query.page_size,
    }
    if query.state != "all":
        test = "IS NULL" if query.state == "enrolled" else "IS NOT NULL"
        conditions.append(sql.SQL("device.retired_at " + test))
    if query.status is not None:
        conditions.append(sql.SQL("latest.status = %(status)s"))
        parameters["status"] = query.status
    if query.online is not None:
        conditions.append(
            sql.SQL("coalesce(latest.observed_at > now() - %(online_within)s, false) = %(online)s")
        )
        parameters["online"] = query.online
    if query.tag is not None:
        conditions.append(sql.SQL("device.tags @> ARRAY[%(tag)s::text]"))
        parameters["tag"] = query.tag
    if query.search:
        conditions.append(sql.SQL("(device.id ILIKE %(search)s OR device.name ILIKE %(search)s)"))
        parameters["search"] = f"%{_literal(query.search)}%"
    where = sql.SQL(" AND ").join(conditions)

    statement = sql.SQL(
        "SELECT {columns} {tables} WHERE {where} ORDER BY {column} {order}, device.id"
        " LIMIT %(limit)s OFFSET %(offset)s"
    ).format(
        columns=_COLUMNS,
        tables=_TABLES,
        where=where,
        column=_SORT_COLUMNS[query.sort],
        order=ORDERS[query.order],
    )
    devices = [
        _device(row) for row in await (await connection.execute(statement, parameters)).fetchall()
    ]
    count = sql.SQL("SELECT count(*) AS total {tables} WHERE {where}").format(
        tables=_TABLES, where=where
    )
    row: Any = await (await connection.execute(count, parameters)).fetchone()
    return devices, int(row["total"])


async def get(connection: Connection, device_id: str) -> Device | None:
    """One device, retired or not."""
    statement = sql.SQL("SELECT {columns} {tables} WHERE device.id = %(id)s").format(
        columns=_COLUMNS, tables=_TABLES
    )
    cursor = await connection.execute(statement, {"id": device_id, "online_within": ONLINE_WITHIN})
    row = await cursor.fetchone()
    return None if row is None else _device(row)


async def enrol(connection: Connection, enrolment: Enrolment, token_sha256: bytes) -> int:
    """Add a device.

    Returns:
        The number of the event.

    Raises:
        AlreadyEnrolledError: its id is taken, be it by a retired device.
    """
    try:
        await connection.execute(
            """
            INSERT INTO devices (id, name, tags, address, token_sha256)
            VALUES (%(id)s, %(name)s, %(tags)s, %(address)s, %(token)s)
            """,
            {
                "id": enrolment.device_id,
                "name": enrolment.name or enrolment.device_id,
                "tags": sorted(set(enrolment.tags)),
                "address": enrolment.address,
                "token": token_sha256,
            },
        )
    except psycopg.errors.UniqueViolation:
        raise AlreadyEnrolledError(enrolment.device_id) from None
    cursor = await connection.execute(
        "INSERT INTO events (device_id, kind) VALUES (%s, 'enrolled') RETURNING id",
        [enrolment.device_id],
    )
    row: Any = await cursor.fetchone()
    return int(row["id"])


async def change(connection: Connection, device_id: str, changes: DeviceChange) -> bool:
    """Change what is given of a device; False when no such device is enrolled."""
    given = changes.model_dump(exclude_unset=True)
    if "tags" in given:
        given["tags"] = sorted(set(given["tags"]))
    columns = [name for name in ("name", "tags", "address") if name in given]
    parameters: dict[str, Any] = {"id": device_id, **given}
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in columns
    )
    cursor = await connection.execute(
        sql.SQL(
            "UPDATE devices SET {assignments} WHERE id = %(id)s AND retired_at IS NULL RETURNING id"
        ).format(assignments=assignments),
        parameters,
    )
    return await cursor.fetchone() is not None


async def retire(connection: Connection, device_id: str) -> int | None:
    """End a device's membership; its history stays, its token no longer works.

    Returns:
        The number of the event, or None when no such device is enrolled.
    """
    cursor = await connection.execute(
        "WITH retired AS ("
        "  UPDATE devices SET retired_at = now() WHERE id = %s AND retired_at IS NULL RETURNING id"
        ") INSERT INTO events (device_id, kind) SELECT id, 'retired' FROM retired RETURNING id",
        [device_id],
    )
    row: Any = await cursor.fetchone()
    return None if row is None else int(row["id"])


async def set_token(connection: Connection, device_id: str, token_sha256: bytes) -> bool:
    """Replace a device's token; False when no such device is enrolled."""
    cursor = await connection.execute(
        "UPDATE devices SET token_sha256 = %s, token_issued_at = now()"
        " WHERE id = %s AND retired_at IS NULL RETURNING id",
        [token_sha256, device_id],
    )
    return await cursor.fetchone() is not None


async def addresses(connection: Connection) -> list[tuple[str, str, list[str]]]:
    """Id, address and tags of every enrolled device that has an address."""
    cursor = await connection.execute(
        "SELECT id, address, tags FROM devices"
        " WHERE retired_at IS NULL AND address IS NOT NULL ORDER BY id"
    )
    rows: list[dict[str, Any]] = await cursor.fetchall()
    return [(row["id"], row["address"], row["tags"]) for row in rows]


async def device_of_token(connection: Connection, token_sha256: bytes) -> str | None:
    """The id of the device that has this token; None for none, or one that is retired."""
    cursor = await connection.execute(
        "SELECT id FROM devices WHERE token_sha256 = %s AND retired_at IS NULL", [token_sha256]
    )
    row = await cursor.fetchone()
    return None if row is None else str(row["id"])


def _literal(search: str) -> str:
    """The text with what LIKE would take as a pattern taken literally."""
    return search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _device(row: dict[str, Any]) -> Device:
    latest = None
    if row["status"] is not None:
        latest = LatestStatus(**{name: row[name] for name in LatestStatus.model_fields})
    return Device(
        device_id=row["id"],
        name=row["name"],
        tags=row["tags"],
        address=row["address"],
        enrolled_at=row["enrolled_at"],
        retired_at=row["retired_at"],
        online=row["online"],
        latest=latest,
    )
