"""What machines ask: health and metrics."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from dashboard.api.context import AppContext
from dashboard.api.models import Health

router = APIRouter(tags=["health"])


@router.get("/api/health")
async def health(context: AppContext, response: Response) -> Health:
    """200 when the API can do its work, 503 while the database is away."""
    up = await context.database.answers()
    if not up:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = "10"
    return Health(
        status="ok" if up else "degraded",
        node=context.settings.node,
        database="up" if up else "down",
        leader=(await context.leadership.current()).leader,
    )


# Not below /api/, so nginx does not route it to the outside.
@router.get("/metrics", include_in_schema=False)
async def metrics(context: AppContext) -> Response:
    """Metrics for Prometheus."""
    own = context.metrics
    own.database_up.set(await context.database.answers())
    own.database_waiting.set(context.database.waiting)
    own.leader.set((await context.leadership.current()).leader)
    return Response(generate_latest(own.registry), media_type=CONTENT_TYPE_LATEST)
