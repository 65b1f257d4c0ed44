"""Puts the application together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import httpx
import psycopg
from fastapi import FastAPI
from psycopg_pool import PoolTimeout

from dashboard.api import problems
from dashboard.api.context import Context, utc_now
from dashboard.api.database import Database
from dashboard.api.leadership import LeadershipSource
from dashboard.api.metrics import Metrics
from dashboard.api.middleware import BodyLimit, RequestContext
from dashboard.api.routes import devices, health, status
from dashboard.api.settings import Settings
from dashboard.api.store import partitions

_log = logging.getLogger(__name__)

_MAINTENANCE_SECONDS = 3600.0
_MAINTENANCE_RETRY_SECONDS = 30.0


def create_app(settings: Settings, *, now: Callable[[], datetime] = utc_now) -> FastAPI:
    """The application.

    Args:
        settings: what it depends on.
        now: the clock that judges the devices' clocks.
    """
    metrics = Metrics()
    # The agent is on loopback; a proxy of the environment must not come between.
    client = httpx.AsyncClient(trust_env=False)
    context = Context(
        settings=settings,
        database=Database(settings.database),
        leadership=LeadershipSource(client, settings.agent_url),
        metrics=metrics,
        now=now,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await context.database.open()
        # Told to stop and not cancelled: a cancelled statement ends in a database error, in which
        # the cancellation gets lost.
        stop = asyncio.Event()
        maintenance = asyncio.create_task(_maintain(context, stop))
        try:
            yield
        finally:
            stop.set()
            await maintenance
            await context.database.close()
            await client.aclose()

    app = FastAPI(
        title="Overlord fleet API",
        version="1",
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        # The ready-made pages load scripts from elsewhere, which our policy forbids.
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    problems.install(app)
    for routes in (status, devices, health):
        app.include_router(routes.router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestContext, metrics=metrics)
    return app


async def _maintain(context: Context, stop: asyncio.Event) -> None:
    """Keep the partitions ahead of the clock, on the leader, until told to stop."""
    while not stop.is_set():
        wait = _MAINTENANCE_SECONDS
        try:
            if (await context.leadership.current()).leader:
                async with context.database.transaction() as connection:
                    await partitions.maintain(
                        connection, context.now().date(), context.settings.history_days
                    )
            else:
                # It may become the leader at any time.
                wait = _MAINTENANCE_RETRY_SECONDS
        except (psycopg.Error, PoolTimeout) as error:
            _log.warning("partitions not maintained: %s", type(error).__name__)
            wait = _MAINTENANCE_RETRY_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait)
