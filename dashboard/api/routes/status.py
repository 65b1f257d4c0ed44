"""Where devices report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter

from dashboard.api.admission import Admission
from dashboard.api.auth import digest, refuse_token
from dashboard.api.clock import Judged, RefusedTimeError, judge
from dashboard.api.context import AppContext, Context, Leader, Token
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
from dashboard.api.store.statuses import AcceptedReport, Recorded

router = APIRouter(tags=["status"])


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
    accepted = [AcceptedReport(report, judged, received_at)]
    with _place(context, accepted):
        device_id, recorded = await _record(context, token, accepted)
    if device_id != report.device_id:
        raise ProblemError(
            HTTPStatus.FORBIDDEN, _other_device(report.device_id), reason="wrong_device"
        )
    new = report.event_id in recorded.new
    context.metrics.statuses.labels("recorded" if new else "duplicate").inc()
    return judged, new


async def _record_batch(
    context: Context, token: str, batch: StatusBatch, received_at: datetime
) -> list[BatchResult]:
    candidates = [_judged(item, received_at) for item in batch.reports]
    accepted = [item for item in candidates if isinstance(item, AcceptedReport)]
    with _place(context, accepted):
        device_id, recorded = await _record(context, token, accepted)
    results = [
        item if isinstance(item, BatchResult) else _result(item, device_id, recorded)
        for item in candidates
    ]
    for outcome, number in Counter(result.reason or result.result for result in results).items():
        context.metrics.statuses.labels(outcome).inc(number)
    return results


def _judged(
    item: StatusReport | InvalidReport, received_at: datetime
) -> AcceptedReport | BatchResult:
    """A report of a batch, or why it will never be taken."""
    if isinstance(item, InvalidReport):
        problems = "; ".join(
            f"{one['field']}: {one['problem']}" for one in brief_errors(item.error.errors())[:5]
        )
        return _refused(item.event_id, "invalid", problems)
    try:
        judged = judge(item.event_time, item.sent_at, received_at)
    except RefusedTimeError as refused:
        return _refused(str(item.event_id), refused.reason, refused.detail)
    return AcceptedReport(item, judged, received_at)


def _result(accepted: AcceptedReport, device_id: str, recorded: Recorded) -> BatchResult:
    report = accepted.report
    if report.device_id != device_id:
        return _refused(str(report.event_id), "wrong_device", _other_device(report.device_id))
    new = report.event_id in recorded.new
    return BatchResult(event_id=str(report.event_id), result="recorded" if new else "duplicate")


def _refused(event_id: object, reason: str, detail: str) -> BatchResult:
    named = event_id if isinstance(event_id, str) and len(event_id) <= 64 else None
    return BatchResult(event_id=named, result="refused", reason=reason, detail=detail)


def _other_device(device_id: str) -> str:
    return f"The token belongs to another device than {device_id}."


def _place(context: Context, accepted: Sequence[AcceptedReport]) -> AbstractContextManager[None]:
    """Room for the reports: at once for live ones, when there is some for a replay."""
    if accepted and Admission.is_replay(
        max(item.judged.observed_at for item in accepted), accepted[0].received_at
    ):
        return context.admission.replay()
    return nullcontext()


async def _record(
    context: Context, token: str, accepted: Sequence[AcceptedReport]
) -> tuple[str, Recorded]:
    """Record what belongs to the token's device; that device, and what was new."""
    async with context.database.transaction() as connection:
        device_id = await devices.device_of_token(connection, digest(token))
        if device_id is None:
            raise refuse_token("for any enrolled device")
        own = [item for item in accepted if item.report.device_id == device_id]
        recorded = await statuses.record(connection, own) if own else Recorded(frozenset(), ())
    if recorded.new:
        context.feed.mark(devices=[device_id], events=recorded.events)
    return device_id, recorded
