"""The API on its own PostgreSQL with an enrolled fleet, to measure on."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.server import Server, process
from dashboard.migrate import MigrationSettings, migrate
from tests.support.agent import running_agent
from tests.support.postgres import PostgresServer, running_postgres

DURABLE = "fsync = on\nsynchronous_commit = on\nshared_buffers = 512MB\nmax_wal_size = 2GB\n"
API_PORT, BARE_PORT = 8890, 8891


@dataclass(frozen=True)
class Device:
    """An enrolled device and what it sends with."""

    device_id: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Stand:
    """What is measured.

    Args:
        http: a client of the API, with as many connections as it asks for.
        dsn: the database, as the superuser.
        devices: the enrolled fleet.
        bare: URL of the endpoint that only asks the database.
    """

    http: aiohttp.ClientSession
    dsn: str
    devices: list[Device]
    bare: str
    api: Server
    postgres: Server


@asynccontextmanager
async def stand_up(count: int) -> AsyncIterator[Stand]:
    """PostgreSQL with durable commits, the API, the bare endpoint and so many devices."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_postgres(settings=DURABLE) as postgres,
        running_agent() as agent,
    ):
        folder, database = Path(name), str(postgres.socket)
        password = secrets.token_hex(16)
        migrate(MigrationSettings(database, password, password, password, password, password))
        enrol_token = secrets.token_urlsafe(24)
        files = {
            "OVERLORD_DATABASE_PASSWORD_FILE": password,
            "OVERLORD_ENROL_TOKEN_FILE": enrol_token,
            "OVERLORD_OPERATOR_TOKEN_FILE": secrets.token_urlsafe(24),
        }
        for variable, value in files.items():
            (folder / variable).write_text(value)
        env = {
            **{variable: str(folder / variable) for variable in files},
            "OVERLORD_NODE": "vps-01",
            "OVERLORD_PEER": "vps-02",
            "OVERLORD_LISTEN": f"127.0.0.1:{API_PORT}",
            "OVERLORD_AGENT_URL": agent.url,
            "OVERLORD_PEER_AGENT_URL": agent.url,
            "OVERLORD_ALERTMANAGER_URL": agent.url,
            "OVERLORD_DATABASE_HOST": database,
        }
        dsn = f"host={database} user=postgres dbname=overlord"
        bare_env = {"BENCH_DSN": dsn, "BENCH_PORT": str(BARE_PORT)}
        with (
            process("dashboard.api", API_PORT, env, folder / "api.log") as api,
            process("bench.select_one", BARE_PORT, bare_env, folder / "bare.log"),
        ):
            async with aiohttp.ClientSession(
                f"http://127.0.0.1:{API_PORT}", connector=aiohttp.TCPConnector(limit=0)
            ) as http:
                yield Stand(
                    http,
                    dsn,
                    await _enrol(http, enrol_token, count),
                    f"http://127.0.0.1:{BARE_PORT}/",
                    api,
                    _postmaster(postgres),
                )


def _postmaster(server: PostgresServer) -> Server:
    return Server(int((server.data / "postmaster.pid").read_text().split()[0]))


async def _enrol(http: aiohttp.ClientSession, token: str, count: int) -> list[Device]:
    devices = []
    for number in range(count):
        body = {"device_id": f"bench-{number:05}"}
        headers = {"Authorization": f"Bearer {token}"}
        async with http.post("/api/devices", json=body, headers=headers) as answer:
            answer.raise_for_status()
            own = (await answer.json())["token"]
        devices.append(Device(body["device_id"], {"Authorization": f"Bearer {own}"}))
    return devices
