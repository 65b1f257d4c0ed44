"""What machines ask: health, metrics, and where the devices are to be scraped."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import psycopg
from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from psycopg_pool import PoolTimeout

from dashboard.api.context import AppContext, Context
from dashboard.api.models import Health, ScrapeTarget
from dashboard.api.store import devices, fleet

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


# Neither of these is below /api/, so nginx does not route them to the outside.


@router.get("/metrics", include_in_schema=False)
async def metrics(context: AppContext) -> Response:
    """Metrics for Prometheus."""
    own = context.metrics
    up = await context.database.answers()
    own.database_up.set(up)
    own.database_waiting.set(context.database.waiting)
    own.streams.set(context.feed.subscribers)
    own.leader.set((await context.leadership.current()).leader)
    if up:
        await _count_devices(context)
    return Response(generate_latest(own.registry), media_type=CONTENT_TYPE_LATEST)


async def _count_devices(context: Context) -> None:
    own = context.metrics
    try:
        async with context.database.transaction() as connection:
            counts = await fleet.counts(connection)
            seen = await fleet.last_seen(connection)
    except (psycopg.Error, PoolTimeout):
        own.database_up.set(0)
        return
    # Afresh, so that what is no longer there is no longer counted.
    own.devices.clear()
    for status in ("ok", "warning", "critical", "none"):
        for online in (True, False):
            count = counts.get((status, online), 0)
            own.devices.labels(status, str(online).lower()).set(count)
    own.device_seen.clear()
    for device_id, time in seen.items():
        own.device_seen.labels(device_id).set(time)


@router.get("/sd/devices", include_in_schema=False)
async def scrape_targets(
    context: AppContext, port: Annotated[int, Query(ge=1, le=65535)]
) -> list[ScrapeTarget]:
    """Every enrolled device that has an address, for Prometheus' HTTP service discovery."""
    async with context.database.transaction() as connection:
        found = await devices.addresses(connection)
    return [
        ScrapeTarget(
            targets=[f"[{address}]:{port}" if ":" in address else f"{address}:{port}"],
            # Commas around each, so that a pattern can ask for one tag.
            labels={"device": device_id, "tags": "," + ",".join(tags) + "," if tags else ""},
        )
        for device_id, address, tags in found
    ]
