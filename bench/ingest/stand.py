"""The API on its own PostgreSQL with an enrolled fleet, to measure on."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.fleet import Device, fleet_on
from bench.server import Server, process
from tests.support.postgres import PostgresServer, running_postgres

DURABLE = "fsync = on\nsynchronous_commit = on\nshared_buffers = 512MB\nmax_wal_size = 2GB\n"
BARE_PORT = 8891


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
    ):
        database = str(postgres.socket)
        dsn = f"host={database} user=postgres dbname=overlord"
        async with fleet_on(database, count) as fleet:
            env = {"BENCH_DSN": dsn, "BENCH_PORT": str(BARE_PORT)}
            with process("bench.select_one", BARE_PORT, env, Path(name) / "bare.log"):
                bare = f"http://127.0.0.1:{BARE_PORT}/"
                server = _postmaster(postgres)
                yield Stand(fleet.http, dsn, fleet.devices, bare, fleet.api, server)


def _postmaster(server: PostgresServer) -> Server:
    return Server(int((server.data / "postmaster.pid").read_text().split()[0]))
