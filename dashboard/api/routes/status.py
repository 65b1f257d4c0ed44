"""Where devices report."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter

from dashboard.api.auth import digest, refuse_token
from dashboard.api.clock import RefusedTimeError, judge
from dashboard.api.context import AppContext, Leader, Token
from dashboard.api.models import StatusReceipt, StatusReport
from dashboard.api.problems import ProblemError
from dashboard.api.store import devices, statuses

router = APIRouter(tags=["status"])


@router.post("/api/status")
async def report_status(
    leader: Leader, token: Token, report: StatusReport, context: AppContext
) -> StatusReceipt:
    """Record a status of the device whose token is sent.

    The answer comes after the commit. Sending the same event again is harmless.
    """
    received_at = context.now()
    try:
        judged = judge(report.event_time, report.sent_at, received_at)
    except RefusedTimeError as refused:
        context.metrics.statuses.labels(refused.reason).inc()
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, refused.detail, reason=refused.reason
        ) from None
    async with context.database.transaction() as connection:
        device_id = await devices.device_of_token(connection, digest(token))
        if device_id is None:
            raise refuse_token("for any enrolled device")
        if device_id != report.device_id:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"The token belongs to another device than {report.device_id}.",
                reason="wrong_device",
            )
        accepted = statuses.AcceptedReport(report, judged, received_at)
        new = await statuses.record(connection, [accepted])
    result: Literal["recorded", "duplicate"] = (
        "recorded" if str(report.event_id) in new else "duplicate"
    )
    context.metrics.statuses.labels(result).inc()
    return StatusReceipt(
        device_id=report.device_id,
        event_id=report.event_id,
        result=result,
        clock_skew_seconds=None if judged.skew is None else judged.skew.total_seconds(),
        clock_flagged=judged.flagged,
        epoch=leader.epoch,
    )
