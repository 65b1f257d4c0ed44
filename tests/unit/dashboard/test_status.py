"""Reporting a status."""

from __future__ import annotations

import asyncio
import random
import uuid
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.support.agent import FakeAgent
from tests.unit.dashboard.conftest import Fleet, bearer


def count(sql: psycopg.Connection, table: str) -> int:
    row = sql.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


async def test_a_reported_status_is_in_the_database_and_in_the_device_list(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol("pi-01", name="Gate camera", tags=["site:north", "camera"])

    answer = await fleet.report(
        token,
        status="warning",
        message="disk at 91 %",
        uptime_seconds=77,
        config_version="abc123",
        agent_version="1.0",
        metrics={"cpu_percent": 12.5},
    )

    assert answer.status_code == 200
    assert answer.json()["result"] == "recorded"
    assert count(sql, "status_history") == 1
    [device] = (await fleet.read("/api/devices")).json()["items"]
    assert device["name"] == "Gate camera"
    assert device["tags"] == ["camera", "site:north"]
    assert device["online"] is True
    assert device["latest"]["status"] == "warning"
    assert device["latest"]["message"] == "disk at 91 %"
    assert device["latest"]["metrics"] == {"cpu_percent": 12.5}


async def test_sending_the_same_event_again_changes_nothing(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol()
    event = {"event_id": str(uuid.uuid4()), "event_time": fleet.clock.time.isoformat()}

    first = await fleet.report(token, **event)
    second = await fleet.report(token, **event, status="critical")

    assert first.json()["result"] == "recorded"
    assert second.status_code == 200
    assert second.json()["result"] == "duplicate"
    assert count(sql, "status_history") == 1
    device = (await fleet.read("/api/devices/pi-01")).json()
    assert device["latest"]["status"] == "ok"


async def test_the_same_event_sent_many_times_at_once_is_recorded_once(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol()
    event = {"event_id": str(uuid.uuid4()), "event_time": fleet.clock.time.isoformat()}

    answers = await asyncio.gather(*(fleet.report(token, **event) for _ in range(20)))

    results = [answer.json()["result"] for answer in answers]
    assert results.count("recorded") == 1
    assert results.count("duplicate") == 19
    assert count(sql, "status_history") == 1


async def test_the_latest_status_never_goes_back_in_time(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol()
    now = fleet.clock.time
    ages = list(range(0, 240, 8))
    random.Random(7).shuffle(ages)

    await asyncio.gather(
        *(
            fleet.report(
                token,
                event_time=(now - timedelta(seconds=age)).isoformat(),
                message=f"{age} seconds ago",
            )
            for age in ages
        )
    )

    device = (await fleet.read("/api/devices/pi-01")).json()
    assert device["latest"]["message"] == "0 seconds ago"
    assert count(sql, "status_history") == 30


async def test_a_change_of_status_is_an_event_with_both_sides(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol()
    for status in ("ok", "ok", "critical"):
        fleet.clock.forward(seconds=60)
        await fleet.report(token, status=status)

    rows = sql.execute(
        "SELECT detail->>'from', detail->>'to' FROM events WHERE kind = 'status_changed'"
        " ORDER BY id"
    ).fetchall()

    assert rows == [(None, "ok"), ("ok", "critical")]


async def test_a_status_of_six_days_ago_is_taken_and_one_of_eight_is_refused(fleet: Fleet) -> None:
    token = await fleet.enrol()
    now = fleet.clock.time

    six = await fleet.report(token, event_time=(now - timedelta(days=6)).isoformat())
    eight = await fleet.report(token, event_time=(now - timedelta(days=8)).isoformat())

    assert six.status_code == 200
    assert eight.status_code == 422
    assert eight.json()["reason"] == "too_old"
    assert "only the last 7 days" in eight.json()["detail"]


async def test_a_clock_an_hour_ahead_is_kept_and_flagged_and_does_not_hide_what_follows(
    fleet: Fleet,
) -> None:
    token = await fleet.enrol()
    ahead = (fleet.clock.time + timedelta(hours=1)).isoformat()

    wrong = await fleet.report(token, event_time=ahead, sent_at=ahead, message="wrong clock")
    fleet.clock.forward(seconds=60)
    right = await fleet.report(token, message="clock set")

    assert wrong.json()["clock_flagged"] is True
    assert wrong.json()["clock_skew_seconds"] == 3600
    assert right.json()["clock_flagged"] is False
    device = (await fleet.read("/api/devices/pi-01")).json()
    assert device["latest"]["message"] == "clock set"


async def test_a_clock_a_year_off_is_refused_with_the_remedy(fleet: Fleet) -> None:
    token = await fleet.enrol()
    past = (fleet.clock.time - timedelta(days=365)).isoformat()

    answer = await fleet.report(token, event_time=past, sent_at=past)

    assert answer.status_code == 422
    assert answer.json()["reason"] == "clock_off"
    assert "set it and report again" in answer.json()["detail"]


async def test_every_time_that_a_device_can_send_is_taken_or_refused_never_an_error(
    fleet: Fleet,
) -> None:
    token = await fleet.enrol()
    for time in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1970-01-01T00:00:00+14:00"):
        for sent_at in (None, time, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
            answer = await fleet.report(token, event_time=time, sent_at=sent_at)
            assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("header", [{}, {"Authorization": "Basic eDp5"}, bearer("x" * 300)])
async def test_without_a_token_nothing_is_taken(fleet: Fleet, header: dict[str, str]) -> None:
    answer = await fleet.http.post("/api/status", json={}, headers=header)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_device_cannot_report_for_another(fleet: Fleet) -> None:
    token = await fleet.enrol("pi-01")
    await fleet.enrol("pi-02")

    answer = await fleet.report(token, "pi-02")

    assert answer.status_code == 403
    assert answer.json()["reason"] == "wrong_device"


async def test_the_enrol_and_operator_tokens_are_no_device_tokens(fleet: Fleet) -> None:
    await fleet.enrol()
    for token in (fleet.settings.enrol_token, fleet.settings.operator_token, "guess"):
        answer = await fleet.report(token)
        assert answer.status_code == 401
        assert answer.json()["reason"] == "wrong_token"


async def test_a_retired_device_is_refused(fleet: Fleet, sql: psycopg.Connection) -> None:
    token = await fleet.enrol()
    sql.execute("UPDATE devices SET retired_at = now()")

    assert (await fleet.report(token)).status_code == 401


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", "not-a-uuid"),
        ("event_time", "yesterday"),
        ("event_time", "2026-11-23T12:00:00"),
        ("status", "fine"),
        ("message", "x" * 501),
        ("message", "nul \u0000 byte"),
        ("uptime_seconds", -1),
        ("uptime_seconds", 2**63),
        ("device_id", "Robert'); DROP TABLE devices;--"),
        ("metrics", {"a b": 1}),
        ("metrics", {"cpu": "high"}),
        ("metrics", {f"m{n}": 1 for n in range(65)}),
        ("surprise", 1),
    ],
)
async def test_a_wrong_field_is_named_and_not_repeated(
    fleet: Fleet, field: str, value: Any
) -> None:
    token = await fleet.enrol()

    answer = await fleet.report(token, **{field: value})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert any(field in error["field"] for error in answer.json()["errors"])
    if len(str(value)) > 3:
        assert str(value) not in answer.text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_numbers_that_are_none_are_refused(fleet: Fleet, number: str) -> None:
    token = await fleet.enrol()
    body = (
        '{"device_id":"pi-01","event_id":"8f14e45f-ceea-467f-a8f7-3c1f2d0b9c11",'
        f'"event_time":"{fleet.clock.time.isoformat()}","status":"ok","metrics":{{"m":{number}}}}}'
    )
    answer = await fleet.http.post(
        "/api/status",
        content=body,
        headers={**bearer(token), "Content-Type": "application/json"},
    )
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"null", b"[" * 100_000, b'"' + b"a" * 1000, b"{}"]
)
async def test_a_body_that_is_no_report_is_a_client_error(fleet: Fleet, content: bytes) -> None:
    token = await fleet.enrol()

    answer = await fleet.http.post(
        "/api/status",
        content=content,
        headers={**bearer(token), "Content-Type": "application/json"},
    )

    assert 400 <= answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text


async def test_a_body_above_the_limit_is_refused_whether_announced_or_not(fleet: Fleet) -> None:
    token = await fleet.enrol()
    large = b"x" * (fleet.settings.max_body_bytes + 1)

    async def in_pieces() -> Any:
        for start in range(0, len(large), 8192):
            yield large[start : start + 8192]

    for content in (large, in_pieces()):
        answer = await fleet.http.post("/api/status", content=content, headers=bearer(token))
        assert answer.status_code == 413
        assert answer.json()["reason"] == "too_large"


async def test_what_looks_like_sql_is_kept_as_text(fleet: Fleet) -> None:
    token = await fleet.enrol()
    text = "'; DROP TABLE status_history; -- %s %(x)s \\ \"$1"

    assert (await fleet.report(token, message=text)).status_code == 200

    device = (await fleet.read("/api/devices/pi-01")).json()
    assert device["latest"]["message"] == text


async def test_a_node_that_is_not_leader_takes_no_status_and_says_when_to_come_again(
    fleet: Fleet, agent: FakeAgent, sql: psycopg.Connection
) -> None:
    agent.leader = False

    answer = await fleet.report("any")

    assert answer.status_code == 503
    assert answer.json()["reason"] == "not_leader"
    assert int(answer.headers["Retry-After"]) > 0
    assert count(sql, "status_history") == 0


async def test_the_receipt_carries_the_epoch_of_the_lease(fleet: Fleet, agent: FakeAgent) -> None:
    agent.epoch = 42
    token = await fleet.enrol()

    assert (await fleet.report(token)).json()["epoch"] == 42


async def test_while_the_database_is_away_the_answer_is_come_again(
    fleet_without_database: Fleet,
) -> None:
    answer = await fleet_without_database.report("any")

    assert answer.status_code == 503
    assert answer.json()["reason"] == "database_away"
    assert int(answer.headers["Retry-After"]) > 0
    assert "nonexistent" not in answer.text
