"""The fleet as the dashboard shows it: at a glance, live, and in the past."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import StreamingResponse

from dashboard.api.context import AppContext, Context, require_operator
from dashboard.api.feed import server_sent_event
from dashboard.api.leadership import Leadership
from dashboard.api.models import AuditSlice, DeviceId, EventSlice, HistoryPage, Moment, Series
from dashboard.api.problems import ProblemError
from dashboard.api.store import devices, fleet, history, journal

router = APIRouter(tags=["fleet"], dependencies=[Depends(require_operator)])

_PING_SECONDS = 8.0
_LOOK_SECONDS = 1.0
_LONGEST = timedelta(days=400)
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)

From = Annotated[Moment | None, Query(alias="from")]
To = Annotated[Moment | None, Query(alias="to")]
Before = Annotated[int | None, Query(ge=1, le=2**62)]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/api/fleet")
async def get_fleet(context: AppContext) -> Response:
    """Every enrolled device, a few fields each."""
    async with context.database.transaction() as connection:
        found = await fleet.devices_json(connection)
    within = int(devices.ONLINE_WITHIN.total_seconds())
    at = json.dumps(context.now().isoformat())
    return Response(
        f'{{"at":{at},"online_within_seconds":{within},"devices":{found}}}',
        media_type="application/json",
    )


@router.get("/api/stream", response_class=StreamingResponse)
async def stream(context: AppContext) -> StreamingResponse:
    """What changes, as server-sent events: `hello`, `devices`, `retired`, `event`."""
    context.feed.require_room()  # while the answer can still be a refusal
    return StreamingResponse(
        _events(context),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(context: Context) -> AsyncIterator[bytes]:
    with context.feed.subscribe() as queue:
        known: Leadership | None = None
        sent = time.monotonic()
        while True:
            present = await context.leadership.current()
            if present != known:
                known = present
                sent = time.monotonic()
                yield _hello(context, present)
            try:
                event = await asyncio.wait_for(queue.get(), _LOOK_SECONDS)
            except TimeoutError:
                if time.monotonic() - sent < _PING_SECONDS:
                    continue
                event = b": ping\n\n"
            if event is None:
                return
            sent = time.monotonic()
            yield event


def _hello(context: Context, present: Leadership) -> bytes:
    data = {
        "at": context.now().isoformat(),
        "node": context.settings.node,
        "leader": present.leader,
        "epoch": present.epoch,
    }
    return server_sent_event("hello", json.dumps(data))


@router.get("/api/devices/{device_id}/history")
async def get_history(
    device_id: Annotated[DeviceId, Path()],
    context: AppContext,
    since: From = None,
    until: To = None,
    order: devices.Order = "asc",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    page_size: Limit = 100,
) -> HistoryPage:
    """What a device reported, by its own time."""
    async with context.database.transaction() as connection:
        items, total = await history.reports(
            connection,
            device_id,
            since or _BEGINNING,
            until or context.now() + timedelta(days=2),
            order=order,
            page=page,
            page_size=page_size,
        )
    return HistoryPage(items=items, total=total, page=page, page_size=page_size)


@router.get("/api/devices/{device_id}/series")
async def get_series(
    device_id: Annotated[DeviceId, Path()],
    context: AppContext,
    since: From = None,
    until: To = None,
    points: Annotated[int, Query(ge=1, le=2000)] = 300,
) -> Series:
    """What a device reported, in buckets for a chart; the last day unless said."""
    end = until or context.now()
    start = since or end - timedelta(days=1)
    if not timedelta() < end - start <= _LONGEST:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"`from` must be before `to`, by at most {_LONGEST.days} days.",
            reason="invalid",
        )
    async with context.database.transaction() as connection:
        return await history.series(connection, device_id, start, end, points)


@router.get("/api/events")
async def get_events(
    context: AppContext,
    device_id: DeviceId | None = None,
    before: Before = None,
    limit: Limit = 100,
) -> EventSlice:
    """What happened, newest first."""
    async with context.database.transaction() as connection:
        return await journal.events(connection, device_id, before, limit)


@router.get("/api/audit")
async def get_audit(context: AppContext, before: Before = None, limit: Limit = 100) -> AuditSlice:
    """Who changed what, newest first."""
    async with context.database.transaction() as connection:
        return await journal.audit(connection, before, limit)
