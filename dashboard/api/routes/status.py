"""Where devices report."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

import psycopg
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from dashboard.api.admission import Admission
from dashboard.api.auth import digest, refuse_token
from dashboard.api.clock import Judged, RefusedTimeError, judge
from dashboard.api.context import AppContext, Context, Leader, Token, get_context
from dashboard.api.database import Connection
from dashboard.api.faultless import begins_batch, faultless_batch
from dashboard.api.models import (
    BatchReceipt,
    BatchResult,
    InvalidReport,
    Reported,
    StatusBatch,
    StatusReceipt,
    StatusReport,
)
from dashboard.api.problems import ProblemError, brief_errors
from dashboard.api.store import devices, statuses
from dashboard.api.store.statuses import Recorded, StatusRow


class _StatusRequest(Request):
    """Parses one batch at a time, so that what is small and live gets its turn between two."""

    async def json(self) -> Any:
        """The body as a batch in which there is nothing to object to, or as FastAPI parses it."""
        if not begins_batch(await self.body()):
            return await super().json()
        context = await get_context(self)
        async with context.parsing:
            await asyncio.sleep(0)
            return faultless_batch(await self.body()) or await super().json()


class _StatusRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_StatusRequest(request.scope, request.receive))

        return handle


router = APIRouter(tags=["status"], route_class=_StatusRoute)


@router.post("/api/status")
async def report_status(
    leader: Leader, token: Token, reported: Reported, context: AppContext
) -> StatusReceipt | BatchReceipt:
    """Record a status, or up to 500 at once, of the device whose token is sent.

    The answer comes after the commit. Sending the same event again is harmless. A batch may come
    with `Content-Encoding: gzip`; one bad report in it does not refuse the others.
    """
    received_at = context.now()
    if isinstance(reported, StatusBatch):
        results = await _record_batch(context, token, reported, received_at)
        return BatchReceipt(results=results, epoch=leader.epoch)
    judged, new = await _record_single(context, token, reported, received_at)
    return StatusReceipt(
        device_id=reported.device_id,
        event_id=reported.event_id,
        result="recorded" if new else "duplicate",
        clock_skew_seconds=None if judged.skew is None else judged.skew.total_seconds(),
        clock_flagged=judged.flagged,
        epoch=leader.epoch,
    )


async def _record_single(
    context: Context, token: str, report: StatusReport, received_at: datetime
) -> tuple[Judged, bool]:
    try:
        judged = judge(report.event_time, report.sent_at, received_at)
    except RefusedTimeError as refused:
        context.metrics.statuses.labels(refused.reason).inc()
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, refused.detail, reason=refused.reason
        ) from None
    rows = [statuses.status_row(report, judged, received_at)]
    async with _place(context, rows):
        device_id, recorded = await _record(context, token, rows)
    if device_id != report.device_id:
        raise ProblemError(
            HTTPStatus.FORBIDDEN, _other_device(report.device_id), reason="wrong_device"
        )
    new = report.event_id not in recorded.known
    context.metrics.statuses.labels("recorded" if new else "duplicate").inc()
    return judged, new


async def _record_batch(
    context: Context, token: str, batch: StatusBatch, received_at: datetime
) -> list[BatchResult]:
    candidates = [_judged(item, received_at) for item in batch.reports]
    rows = [item for item in candidates if isinstance(item, StatusRow)]
    async with _place(context, rows):
        device_id, recorded = await _record(context, token, rows)
    results = [
        item if isinstance(item, BatchResult) else _result(item, device_id, recorded)
        for item in candidates
    ]
    for outcome, number in Counter(result.reason or result.result for result in results).items():
        context.metrics.statuses.labels(outcome).inc(number)
    return results


def _judged(item: StatusReport | InvalidReport, received_at: datetime) -> StatusRow | BatchResult:
    """The row of a report of a batch, or why it will never be taken."""
    if isinstance(item, InvalidReport):
        problems = "; ".join(
            f"{one['field']}: {one['problem']}" for one in brief_errors(item.error.errors())[:5]
        )
        return _refused(item.event_id, "invalid", problems)
    try:
        judged = judge(item.event_time, item.sent_at, received_at)
    except RefusedTimeError as refused:
        return _refused(item.event_id, refused.reason, refused.detail)
    return statuses.status_row(item, judged, received_at)


def _result(row: StatusRow, device_id: str, recorded: Recorded) -> BatchResult:
    if row.device_id != device_id:
        return _refused(row.event_id, "wrong_device", _other_device(row.device_id))
    known = recorded.known and row.event_id in recorded.known
    return BatchResult(row.event_id, "duplicate" if known else "recorded")


def _refused(event_id: object, reason: str, detail: str) -> BatchResult:
    named: UUID | str | None = None
    if isinstance(event_id, UUID) or (isinstance(event_id, str) and len(event_id) <= 64):
        named = event_id
    return BatchResult(event_id=named, result="refused", reason=reason, detail=detail)


def _other_device(device_id: str) -> str:
    return f"The token belongs to another device than {device_id}."


@asynccontextmanager
async def _place(context: Context, rows: Sequence[StatusRow]) -> AsyncIterator[None]:
    """Room for the statuses: at once for live ones, when there is some for a replay."""
    newest = max((row.observed_at for row in rows), default=None)
    if newest is None or not Admission.is_replay(newest, rows[0].received_at):
        yield
        return
    async with context.admission.replay():
        await context.leadership.require()  # the lease may have ended while this one waited
        yield


async def _record(context: Context, token: str, rows: Sequence[StatusRow]) -> tuple[str, Recorded]:
    """Record what belongs to the token's device; that device, and what was new."""
    if len(rows) > 1:
        with contextlib.suppress(psycopg.errors.UniqueViolation):
            return await _record_with(statuses.record_new, context, token, rows)
    return await _record_with(statuses.record, context, token, rows)


async def _record_with(
    record: Callable[[Connection, Sequence[StatusRow]], Awaitable[Recorded]],
    context: Context,
    token: str,
    rows: Sequence[StatusRow],
) -> tuple[str, Recorded]:
    async with context.database.transaction() as connection:
        device_id = await devices.device_of_token(connection, digest(token))
        if device_id is None:
            raise refuse_token("for any enrolled device")
        own = [row for row in rows if row.device_id == device_id]
        recorded = await record(connection, own) if own else Recorded()
    if recorded.count:
        context.feed.mark(devices=[device_id], events=recorded.events)
    return device_id, recorded
