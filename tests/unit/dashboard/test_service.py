"""The API as a service: health, metrics, errors and logs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import secrets
import sys
from pathlib import Path

import httpx
import psycopg
import pytest

from dashboard.api.log import JsonFormatter
from dashboard.api.settings import Settings, SettingsError
from tests.support.agent import FakeAgent
from tests.support.ports import free_port
from tests.unit.dashboard.conftest import Fleet, running_fleet

PLAIN = {
    "OVERLORD_LISTEN": "127.0.0.1:8000",
    "OVERLORD_NODE": "vps-01",
    "OVERLORD_PEER": "vps-02",
    "OVERLORD_AGENT_URL": "http://127.0.0.1:9600/",
    "OVERLORD_PEER_AGENT_URL": "http://vps-02:9600",
    "OVERLORD_ALERTMANAGER_URL": "http://127.0.0.1:9093",
    "OVERLORD_DATABASE_HOST": "/run",
}


async def test_health_says_what_works(fleet: Fleet, agent: FakeAgent) -> None:
    agent.leader = False

    answer = await fleet.http.get("/api/health")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "node": "vps-01",
        "database": "up",
        "leader": False,
    }


async def test_health_is_503_without_the_database(fleet_without_database: Fleet) -> None:
    answer = await fleet_without_database.http.get("/api/health")

    assert answer.status_code == 503
    assert answer.json()["database"] == "down"


async def test_metrics_count_requests_by_route_and_statuses_by_result(fleet: Fleet) -> None:
    token = await fleet.enrol()
    await fleet.report(token)
    await fleet.read("/api/devices/pi-01")
    await fleet.http.get("/nothing/here")

    text = (await fleet.http.get("/metrics")).text

    assert (
        'overlord_api_requests_total{method="GET",route="/api/devices/{device_id}",status="200"} 1'
        in text
    )
    assert 'route="unmatched",status="404"' in text
    assert 'overlord_api_statuses_total{result="recorded"} 1' in text
    assert "overlord_api_database_up 1.0" in text
    assert "overlord_api_leader 1.0" in text


async def test_metrics_are_answered_while_the_database_is_away(
    fleet_without_database: Fleet,
) -> None:
    answer = await fleet_without_database.http.get("/metrics")

    assert answer.status_code == 200
    assert "overlord_api_database_up 0.0" in answer.text


async def test_a_database_that_is_not_migrated_yet_is_a_passing_error(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    sql.execute("ALTER TABLE device_latest RENAME TO elsewhere")
    try:
        answer = await fleet.read("/api/devices")
    finally:
        sql.execute("ALTER TABLE elsewhere RENAME TO device_latest")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


async def test_an_error_of_ours_shows_an_id_and_no_trace(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    sql.execute("ALTER TABLE devices DROP CONSTRAINT devices_pkey CASCADE")
    sql.execute("ALTER TABLE devices ADD CONSTRAINT broken CHECK (id <> 'pi-01')")
    try:
        answer = await fleet.http.post(
            "/api/devices",
            json={"device_id": "pi-01"},
            headers={
                "Authorization": f"Bearer {fleet.settings.enrol_token}",
                "X-Request-ID": "abcdef0123456789",
            },
        )
    finally:
        sql.execute("ALTER TABLE devices DROP CONSTRAINT broken")
        sql.execute("ALTER TABLE devices ADD PRIMARY KEY (id)")

    assert answer.status_code == 500
    assert answer.headers["X-Request-ID"] == "abcdef0123456789"
    assert "abcdef0123456789" in answer.json()["detail"]
    assert "CheckViolation" not in answer.text
    assert "Traceback" not in answer.text


async def test_a_statement_that_takes_too_long_is_cut_off(
    settings: Settings, sql: psycopg.Connection
) -> None:
    from dataclasses import replace

    slow = replace(settings, database=replace(settings.database, statement_timeout_ms=200))
    async with running_fleet(slow) as fleet:
        token = await fleet.enrol()
        with sql.transaction():
            sql.execute("LOCK TABLE status_history IN ACCESS EXCLUSIVE MODE")
            answer = await fleet.report(token)

    assert answer.status_code == 503
    assert answer.json()["reason"] == "database_away"


async def test_logs_are_json_and_hold_no_token(fleet: Fleet) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    previous = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        token = await fleet.enrol()
        await fleet.report(token)
        await fleet.http.get("/api/devices", params={"search": token})
    finally:
        root.removeHandler(handler)
        root.setLevel(previous)

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    assert {line["route"] for line in requests} == {"/api/devices", "/api/status"}
    for secret in (token, fleet.settings.enrol_token, fleet.settings.operator_token):
        assert not any(secret in json.dumps(line) for line in requests)


def test_settings_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="OVERLORD_LISTEN is not set"):
        Settings.from_environment({})
    with pytest.raises(SettingsError, match="OVERLORD_PEER_LISTEN must be HOST:PORT"):
        Settings.from_environment({**PLAIN, "OVERLORD_PEER_LISTEN": "8000"})
    empty = tmp_path / "token"
    empty.touch()
    environment = {
        **PLAIN,
        "OVERLORD_DATABASE_PASSWORD_FILE": str(empty),
    }
    with pytest.raises(SettingsError, match="is empty"):
        Settings.from_environment(environment)
    environment["OVERLORD_DATABASE_PASSWORD_FILE"] = str(tmp_path / "none")
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings.from_environment(environment)


def test_settings_never_show_their_secrets(tmp_path: Path) -> None:
    names = ("DATABASE_PASSWORD", "ENROL_TOKEN", "OPERATOR_TOKEN")
    values = {name: secrets.token_hex(16) for name in names}
    for name, value in values.items():
        (tmp_path / name).write_text(value + "\n")
    settings = Settings.from_environment(
        {
            **PLAIN,
            **{f"OVERLORD_{name}_FILE": str(tmp_path / name) for name in names},
        }
    )
    assert settings.database.password == values["DATABASE_PASSWORD"]
    assert not any(value in repr(settings) for value in values.values())


async def test_told_to_stop_it_ends_open_streams_and_exits_at_once(
    settings: Settings, sql: psycopg.Connection, agent: FakeAgent, tmp_path: Path
) -> None:
    port = free_port()
    secret_values = {
        "DATABASE_PASSWORD": settings.database.password or "",
        "ENROL_TOKEN": settings.enrol_token,
        "OPERATOR_TOKEN": settings.operator_token,
    }
    for name, value in secret_values.items():
        (tmp_path / name).write_text(value)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dashboard.api",
        env={
            **PLAIN,
            "PATH": "/usr/bin",
            "OVERLORD_LISTEN": f"127.0.0.1:{port}",
            "OVERLORD_AGENT_URL": agent.url,
            "OVERLORD_DATABASE_HOST": settings.database.host,
            **{f"OVERLORD_{name}_FILE": str(tmp_path / name) for name in secret_values},
        },
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        headers = {"Authorization": f"Bearer {settings.operator_token}"}
        url = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(60), httpx.AsyncClient(headers=headers, base_url=url) as http:
            while True:
                try:
                    assert (await http.get("/api/health")).status_code == 200
                    break
                except httpx.TransportError:
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
            async with http.stream("GET", "/api/stream", timeout=30) as answer:
                lines = answer.aiter_lines()
                assert await anext(lines) == "event: hello"
                process.terminate()
                async for _ in lines:
                    pass
            # Well before it would give up waiting for the stream to end by itself.
            assert await asyncio.wait_for(process.wait(), 6) in {0, -15}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
