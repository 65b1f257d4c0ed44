"""Puts the application together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

import httpx
import psycopg
from fastapi import FastAPI
from psycopg_pool import PoolTimeout

from dashboard.api import problems
from dashboard.api.admission import Admission
from dashboard.api.context import Context, utc_now
from dashboard.api.database import Database
from dashboard.api.feed import Changes, Feed, server_sent_event
from dashboard.api.leadership import LeadershipSource
from dashboard.api.metrics import Metrics
from dashboard.api.middleware import RequestBody, RequestContext
from dashboard.api.passing import PeerApi
from dashboard.api.routes import devices, fleet, health, services, status
from dashboard.api.settings import Settings
from dashboard.api.store import fleet as fleet_store
from dashboard.api.store import partitions
from dashboard.api.upstream import Upstream

_log = logging.getLogger(__name__)

_MAINTENANCE_SECONDS = 3600.0
_MAINTENANCE_RETRY_SECONDS = 30.0
_FOLLOW = timedelta(seconds=2)


def create_app(settings: Settings, *, now: Callable[[], datetime] = utc_now) -> FastAPI:
    """The application.

    Args:
        settings: what it depends on.
        now: the clock that judges the devices' clocks.
    """
    metrics = Metrics()
    # All of it is on loopback or the tailnet; a proxy of the environment must not come between.
    client = httpx.AsyncClient(trust_env=False)
    database = Database(settings.database)
    context = Context(
        settings=settings,
        database=database,
        leadership=LeadershipSource(client, settings.agent_url),
        metrics=metrics,
        feed=Feed(partial(_read_changes, database)),
        # A quarter of the connections: enough to drain a flood, and live reports have the rest.
        admission=Admission(max(1, settings.database.pool_size // 4), lambda: database.waiting),
        agent=Upstream(client, f"The agent of {settings.node}", settings.agent_url),
        peer_agent=Upstream(client, f"The agent of {settings.peer}", settings.peer_agent_url),
        peer_api=PeerApi(settings.peer_api),
        alertmanager=Upstream(client, "Alertmanager", settings.alertmanager_url),
        loki=Upstream(client, "Loki", settings.loki_url),
        now=now,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await context.database.open()
        # Told to stop and not cancelled: a cancelled statement ends in a database error, in which
        # the cancellation gets lost.
        stop = asyncio.Event()
        tasks = (
            asyncio.create_task(_maintain(context, stop)),
            asyncio.create_task(_follow_primary(context, stop)),
            asyncio.create_task(context.feed.run()),
        )
        try:
            yield
        finally:
            stop.set()
            context.feed.close()
            await asyncio.gather(*tasks)
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
    for routes in (status, devices, fleet, services, health):
        app.include_router(routes.router)
    app.add_middleware(
        RequestBody,
        max_bytes=settings.max_body_bytes,
        max_unpacked_bytes=settings.max_unpacked_bytes,
    )
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


async def _follow_primary(context: Context, stop: asyncio.Event) -> None:
    """On a standby, look for what replication brought: nobody marks it here."""
    while not stop.is_set():
        if context.feed.subscribers and not (await context.leadership.current()).leader:
            since = context.now() - 2 * _FOLLOW
            try:
                async with context.database.transaction() as connection:
                    context.feed.mark(
                        devices=await fleet_store.devices_since(connection, since),
                        events=await fleet_store.events_since(connection, since),
                    )
            except (psycopg.Error, PoolTimeout) as error:
                _log.warning("primary not followed: %s", type(error).__name__)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _FOLLOW.total_seconds())


async def _read_changes(database: Database, changes: Changes) -> list[bytes]:
    """The changed rows, as events of the live feed."""
    async with database.transaction() as connection:
        devices_json = (
            await fleet_store.devices_json(connection, changes.devices) if changes.devices else "[]"
        )
        events_json = (
            await fleet_store.events_json(connection, changes.events) if changes.events else []
        )
    found = [] if devices_json == "[]" else [f'{{"devices":{devices_json}}}']
    return [
        *(server_sent_event("devices", _one_line(text)) for text in found),
        *(
            server_sent_event("retired", json.dumps({"device_id": device_id}))
            for device_id in sorted(changes.retired)
        ),
        *(server_sent_event("event", _one_line(text)) for text in events_json),
    ]


def _one_line(text: str) -> str:
    """JSON without line breaks, which would end the event; inside strings they are escaped."""
    return text.replace("\n", " ")
