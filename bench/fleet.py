"""The API on a PostgreSQL that is there already, and a fleet that posts to it."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import click

from bench.api import api_on
from bench.server import Server, process
from tests.support.ports import free_port

METRICS = {
    "cpu_percent": 12.5,
    "memory_percent": 43.1,
    "disk_percent": 61.0,
    "temperature_celsius": 48.7,
    "load_1m": 0.42,
    "network_rx_bytes": 123456.0,
}


@dataclass(frozen=True)
class Device:
    """An enrolled device and what it sends with."""

    device_id: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Fleet:
    """An API and the devices that are enrolled there.

    Args:
        url: base URL of the API.
        http: a client of the API, with as many connections as it asks for.
    """

    url: str
    http: aiohttp.ClientSession
    devices: list[Device]
    api: Server


@dataclass(frozen=True)
class Post:
    """One post that was answered.

    Args:
        sent: when, on the clock of `time.perf_counter`.
        seconds: until the answer.
    """

    sent: float
    seconds: float


@asynccontextmanager
async def fleet_on(database: str, count: int) -> AsyncIterator[Fleet]:
    """The API on the PostgreSQL whose socket is in a folder, and so many devices."""
    with tempfile.TemporaryDirectory() as name:
        folder, agent_port = Path(name), free_port()
        agent = f"http://127.0.0.1:{agent_port}"
        with (
            process("bench.leader", agent_port, {"BENCH_PORT": str(agent_port)}, folder / "agent"),
            api_on(database, agent, folder, OVERLORD_ALERTMANAGER_URL=agent) as api,
        ):
            async with client_of(api.url) as http:
                devices = await _enrol(http, api.enrol_token, count)
                yield Fleet(api.url, http, devices, api.server)


def client_of(url: str) -> aiohttp.ClientSession:
    """A client with as many connections as it asks for."""
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0))


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


def report(device_id: str, when: datetime, **more: object) -> dict[str, Any]:
    """A status as the reference agent sends it."""
    return {
        "device_id": device_id,
        "event_id": str(uuid.uuid4()),
        "event_time": when.isoformat(),
        "status": "ok",
        "message": "",
        "uptime_seconds": 86400,
        "config_version": "3f2c1d0a9b8e",
        "agent_version": "0.1.0",
        "kernel": "6.12.20+rpt-rpi-v8",
        "boot_id": str(uuid.UUID(int=7)),
        "metrics": METRICS,
        **more,
    }


async def send_single(http: aiohttp.ClientSession, device: Device) -> None:
    """Deliver one live status."""
    now = datetime.now(UTC)
    body = report(device.device_id, now, sent_at=now.isoformat())
    async with http.post("/api/status", json=body, headers=device.headers) as answer:
        if answer.status != 200:
            raise click.ClickException(f"a status was not taken: {answer.status}")


async def paced_posts(
    http: aiohttp.ClientSession, devices: list[Device], pause: float, ended: Callable[[], bool]
) -> list[Post]:
    """Live posts of the devices in turn, each so many seconds after the one before whether that has
    been answered or not, until it has ended."""
    posts: list[Post] = []

    async def one(device: Device) -> None:
        sent = time.perf_counter()
        await send_single(http, device)
        posts.append(Post(sent, time.perf_counter() - sent))

    async with asyncio.TaskGroup() as group:
        for device in itertools.cycle(devices):
            if ended():
                break
            group.create_task(one(device))
            await asyncio.sleep(pause)
    return posts


def p(values: list[float], share: int) -> float:
    """A percentile in milliseconds."""
    return statistics.quantiles(values, n=100)[share - 1] * 1000
