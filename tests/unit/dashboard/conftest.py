"""The API on a real database, asked over ASGI."""

from __future__ import annotations

import gzip
import json
import secrets
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from dashboard.api.app import create_app
from dashboard.api.context import Context
from dashboard.api.settings import DatabaseSettings, Settings
from dashboard.migrate import MigrationSettings, migrate
from tests.support.agent import FakeAgent, running_agent
from tests.support.postgres import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> MigrationSettings:
    settings = MigrationSettings(
        host=str(postgres.socket),
        superuser_password=secrets.token_hex(16),
        app_password=secrets.token_hex(16),
        replication_password=secrets.token_hex(16),
        monitor_password=secrets.token_hex(16),
        gitea_password=secrets.token_hex(16),
    )
    assert migrate(settings)
    return settings


@pytest.fixture
def agent() -> Iterator[FakeAgent]:
    with running_agent() as agent:
        yield agent


@pytest.fixture
def sql(migrated: MigrationSettings) -> Iterator[psycopg.Connection]:
    """The superuser's connection to an empty database."""
    with psycopg.connect(
        host=migrated.host, user="postgres", dbname="overlord", autocommit=True
    ) as connection:
        connection.execute("TRUNCATE devices, device_latest, status_history, events, audit_log")
        yield connection


@pytest.fixture
def settings(migrated: MigrationSettings, agent: FakeAgent) -> Settings:
    return Settings(
        node="vps-01",
        peer="vps-02",
        listen_host="127.0.0.1",
        listen_port=8000,
        agent_url=agent.url,
        peer_agent_url="http://127.0.0.1:1",
        alertmanager_url="http://127.0.0.1:1",
        loki_url=None,
        database=DatabaseSettings(host=migrated.host, password=migrated.app_password, pool_size=4),
        enrol_token=secrets.token_urlsafe(24),
        operator_token=secrets.token_urlsafe(24),
    )


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **by: float) -> None:
        self.time += timedelta(**by)


@dataclass
class Fleet:
    """The API as devices and operators use it."""

    http: httpx.AsyncClient
    settings: Settings
    clock: Clock
    context: Context

    async def enrol(self, device_id: str = "pi-01", **fields: Any) -> str:
        """The token of a new device."""
        answer = await self.http.post(
            "/api/devices",
            json={"device_id": device_id, **fields},
            headers=bearer(self.settings.enrol_token),
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    async def report(self, token: str, device_id: str = "pi-01", **fields: Any) -> httpx.Response:
        """The answer to a status of a device, which is fine and happens now unless said."""
        body = self.status(device_id, **fields)
        return await self.http.post("/api/status", json=body, headers=bearer(token))

    async def read(self, path: str, **query: Any) -> httpx.Response:
        """The answer to the operator."""
        return await self.http.get(path, params=query, headers=bearer(self.settings.operator_token))

    def status(self, device_id: str = "pi-01", **fields: Any) -> dict[str, Any]:
        """A status of a device, which is fine and happens now unless said."""
        body = {
            "device_id": device_id,
            "event_id": str(uuid.uuid4()),
            "event_time": self.clock.time.isoformat(),
            "status": "ok",
        }
        return {**body, **fields}

    async def report_many(
        self, token: str, reports: list[dict[str, Any]], *, packed: bool = True
    ) -> httpx.Response:
        """The answer to a batch."""
        content = json.dumps({"reports": reports}).encode()
        headers = {**bearer(token), "Content-Type": "application/json"}
        if packed:
            content, headers["Content-Encoding"] = gzip.compress(content), "gzip"
        return await self.http.post("/api/status", content=content, headers=headers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def running_fleet(settings: Settings) -> AsyncIterator[Fleet]:
    """The API, started and stopped as its server would."""
    clock = Clock()
    app = create_app(settings, now=clock)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api") as http,
    ):
        yield Fleet(http, settings, clock, app.state.context)


@pytest.fixture
async def fleet(settings: Settings, sql: psycopg.Connection) -> AsyncIterator[Fleet]:
    async with running_fleet(settings) as fleet:
        yield fleet


@pytest.fixture
async def fleet_without_database(settings: Settings) -> AsyncIterator[Fleet]:
    away = replace(settings, database=replace(settings.database, host="/nonexistent"))
    async with running_fleet(away) as fleet:
        yield fleet
