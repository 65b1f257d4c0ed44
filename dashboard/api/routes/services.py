"""The services beside the API, for the dashboard: nodes, alerts, logs."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import psycopg
from fastapi import APIRouter, Depends, Path, Query, Request
from psycopg_pool import PoolTimeout

from dashboard.api.context import (
    AppContext,
    Context,
    Operator,
    client_address,
    require_operator,
)
from dashboard.api.models import (
    DeviceId,
    LogLine,
    LogLines,
    Moment,
    NewSilence,
    NodeReport,
    Nodes,
    Text,
)
from dashboard.api.problems import ProblemError
from dashboard.api.store import audit
from dashboard.api.upstream import Upstream

_log = logging.getLogger(__name__)

router = APIRouter(tags=["services"], dependencies=[Depends(require_operator)])


@router.get("/api/nodes")
async def get_nodes(context: AppContext) -> Nodes:
    """Both nodes, as their agents describe them."""
    settings = context.settings
    return Nodes(
        nodes=list(
            await asyncio.gather(
                _node(context, context.agent, settings.node, own=True),
                _node(context, context.peer_agent, settings.peer, own=False),
            )
        )
    )


async def _node(context: Context, agent: Upstream, name: str, *, own: bool) -> NodeReport:
    status: dict[str, Any] | None = None
    error: str | None = None
    try:
        answer = await agent.ask("GET", "/status")
        status = answer if isinstance(answer, dict) else None
        error = None if status is not None else "The agent's answer is not understood."
    except ProblemError as problem:
        error = problem.detail
    return NodeReport(node=name, self=own, at=context.now(), status=status, error=error)


@router.get("/api/alerts")
async def get_alerts(context: AppContext) -> list[dict[str, Any]]:
    """Alerts as Alertmanager has them."""
    return await _list(context, "/api/v2/alerts")


@router.get("/api/silences")
async def get_silences(context: AppContext) -> list[dict[str, Any]]:
    """Silences that hold now or will."""
    silences = await _list(context, "/api/v2/silences")
    return [item for item in silences if item.get("status", {}).get("state") != "expired"]


@router.post("/api/silences")
async def add_silence(
    operator: Operator, silence: NewSilence, context: AppContext, request: Request
) -> dict[str, Any]:
    """Silence alerts for a while. Works on either node: the Alertmanagers tell each other."""
    body = {**silence.model_dump(mode="json"), "createdBy": operator}
    answer = await context.alertmanager.ask("POST", "/api/v2/silences", body=body)
    made = {"silenceID": str(answer["silenceID"])}
    await _note(context, request, operator, "silence.add", made["silenceID"], body)
    return made


@router.delete("/api/silences/{silence_id}", status_code=HTTPStatus.NO_CONTENT)
async def end_silence(
    operator: Operator,
    silence_id: Annotated[UUID, Path()],
    context: AppContext,
    request: Request,
) -> None:
    """End a silence."""
    await context.alertmanager.ask("DELETE", f"/api/v2/silence/{silence_id}")
    await _note(context, request, operator, "silence.end", str(silence_id), {})


async def _list(context: Context, path: str) -> list[dict[str, Any]]:
    answer = await context.alertmanager.ask("GET", path)
    return answer if isinstance(answer, list) else []


async def _note(
    context: Context,
    request: Request,
    actor: str,
    action: str,
    target: str,
    detail: dict[str, Any],
) -> None:
    """Audit what was done; on a standby, whose database takes no writes, in the log."""
    try:
        async with context.database.transaction() as connection:
            await audit.note(
                connection,
                actor=actor,
                action=action,
                target=target,
                client=client_address(request),
                detail=detail,
            )
    except (psycopg.Error, PoolTimeout):
        _log.warning("audit: %s %s %s", actor, action, target, extra={"detail": detail})


@router.get("/api/devices/{device_id}/logs")
async def get_logs(
    device_id: Annotated[DeviceId, Path()],
    context: AppContext,
    since: Annotated[Moment | None, Query(alias="from")] = None,
    until: Annotated[Moment | None, Query(alias="to")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    contains: Annotated[Text | None, Query(max_length=200)] = None,
) -> LogLines:
    """Lines of a device's log, newest first; the last hour unless said."""
    end = until or context.now()
    start = since or end - timedelta(hours=1)
    # A device id holds nothing that means something to Loki; the text is quoted as Go does.
    query = f'{{device="{device_id}"}}'
    if contains:
        query += f" |= {json.dumps(contains, ensure_ascii=False)}"
    answer = await context.loki.ask(
        "GET",
        "/loki/api/v1/query_range",
        query={
            "query": query,
            "start": str(int(start.timestamp() * 1e9)),
            "end": str(int(end.timestamp() * 1e9)),
            "limit": limit,
            "direction": "backward",
        },
    )
    lines = [
        LogLine(at=_nanoseconds(at), line=line, labels=stream["stream"])
        for stream in answer["data"]["result"]
        for at, line in stream["values"]
    ]
    lines.sort(key=lambda line: line.at, reverse=True)
    return LogLines(items=lines[:limit])


def _nanoseconds(text: str) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(text) // 1000)
