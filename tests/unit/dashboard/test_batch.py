"""Reporting many statuses at once."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from dashboard.api.admission import Admission
from dashboard.api.problems import ProblemError
from tests.unit.dashboard.conftest import Fleet, bearer
from tests.unit.dashboard.test_status import count


def day_of_reports(fleet: Fleet, number: int) -> list[dict[str, Any]]:
    """Reports of the last day, oldest first."""
    step = timedelta(days=1) / number
    return [
        fleet.status(event_time=(fleet.clock.time - step * age).isoformat())
        for age in range(number, 0, -1)
    ]


@pytest.mark.parametrize("packed", [True, False])
async def test_a_batch_is_recorded_whole_and_named_one_by_one(
    fleet: Fleet, sql: psycopg.Connection, packed: bool
) -> None:
    token = await fleet.enrol()
    reports = day_of_reports(fleet, 200)

    answer = await fleet.report_many(token, reports, packed=packed)

    assert answer.status_code == 200, answer.text
    assert [item["event_id"] for item in answer.json()["results"]] == [
        report["event_id"] for report in reports
    ]
    assert {item["result"] for item in answer.json()["results"]} == {"recorded"}
    assert count(sql, "status_history") == 200


async def test_sending_a_batch_again_doubles_nothing(fleet: Fleet, sql: psycopg.Connection) -> None:
    token = await fleet.enrol()
    reports = day_of_reports(fleet, 20)
    await fleet.report_many(token, reports[:15])

    answer = await fleet.report_many(token, reports)

    results = [item["result"] for item in answer.json()["results"]]
    assert results == ["duplicate"] * 15 + ["recorded"] * 5
    assert count(sql, "status_history") == 20


async def test_one_bad_report_does_not_refuse_the_others(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol("pi-01")
    await fleet.enrol("pi-02")
    old = (fleet.clock.time - timedelta(days=9)).isoformat()
    reports = [
        fleet.status(),
        fleet.status(event_time=old),
        fleet.status(status="fine"),
        fleet.status("pi-02"),
        {},
        {"event_id": 7},
        fleet.status(message="nul \u0000"),
        fleet.status(),
    ]

    answer = await fleet.report_many(token, reports)

    results = answer.json()["results"]
    assert [item["result"] for item in results] == [
        "recorded",
        *["refused"] * 6,
        "recorded",
    ]
    assert [item["reason"] for item in results[1:4]] == ["too_old", "invalid", "wrong_device"]
    assert "status" in results[2]["detail"]
    assert results[1]["event_id"] == reports[1]["event_id"]
    assert results[4]["event_id"] is results[5]["event_id"] is None
    assert count(sql, "status_history") == 2


async def test_a_batch_moves_the_latest_status_to_its_newest(fleet: Fleet) -> None:
    token = await fleet.enrol()
    reports = day_of_reports(fleet, 10)
    reports[4]["message"] = "in the middle"
    reports[-1]["message"] = "the newest"

    await fleet.report_many(token, list(reversed(reports)))

    device = (await fleet.read("/api/devices/pi-01")).json()
    assert device["latest"]["message"] == "the newest"


@pytest.mark.parametrize("reports", [[], [1], "all", [{}] * 501])
async def test_a_batch_of_the_wrong_form_is_refused(fleet: Fleet, reports: object) -> None:
    token = await fleet.enrol()
    answer = await fleet.http.post("/api/status", json={"reports": reports}, headers=bearer(token))
    assert answer.status_code == 422


async def test_a_batch_needs_a_token_even_when_nothing_in_it_is_valid(fleet: Fleet) -> None:
    await fleet.enrol()
    assert (await fleet.report_many("guess", [{}])).status_code == 401


async def test_a_few_kilobytes_that_unpack_to_gigabytes_are_refused(fleet: Fleet) -> None:
    token = await fleet.enrol()
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b"\0" * 1024 * 1024) for _ in range(100)) + packer.flush()
    assert len(bomb) < fleet.settings.max_body_bytes

    answer = await fleet.http.post(
        "/api/status", content=bomb, headers={**bearer(token), "Content-Encoding": "gzip"}
    )

    assert answer.status_code == 413
    assert answer.json()["reason"] == "too_large"


@pytest.mark.parametrize(
    "content",
    [b"not gzip", gzip.compress(b"{}")[:-4], gzip.compress(b"x" * 999)[:12]],
    ids=["not gzip", "no length at the end", "cut in the middle"],
)
async def test_a_body_that_is_not_whole_gzip_is_refused(fleet: Fleet, content: bytes) -> None:
    token = await fleet.enrol()
    answer = await fleet.http.post(
        "/api/status", content=content, headers={**bearer(token), "Content-Encoding": "gzip"}
    )
    assert answer.status_code == 400
    assert answer.json()["reason"] == "encoding"


async def test_another_encoding_is_named_as_not_understood(fleet: Fleet) -> None:
    token = await fleet.enrol()
    answer = await fleet.http.post(
        "/api/status", content=b"{}", headers={**bearer(token), "Content-Encoding": "br"}
    )
    assert answer.status_code == 415


async def test_under_a_flood_of_replays_live_statuses_are_taken_and_replays_come_again(
    fleet: Fleet,
) -> None:
    token = await fleet.enrol()
    old = (fleet.clock.time - timedelta(hours=3)).isoformat()

    answers = await asyncio.gather(
        *(fleet.report(token, event_time=old) for _ in range(30)),
        *(fleet.report(token) for _ in range(30)),
    )

    replayed, live = answers[:30], answers[30:]
    assert {answer.status_code for answer in live} == {200}
    refused = [answer for answer in replayed if answer.status_code == 429]
    assert refused
    assert all(answer.json()["reason"] == "replay_flood" for answer in refused)
    assert all(int(answer.headers["Retry-After"]) >= 2 for answer in refused)


def refusal(admission: Admission) -> ProblemError:
    with pytest.raises(ProblemError) as error, admission.replay():
        pass
    assert error.value.status == 429
    return error.value


def test_replays_have_so_many_places_and_no_more() -> None:
    admission = Admission(2, lambda: 0)
    with admission.replay(), admission.replay():
        refusal(admission)
    with admission.replay():
        pass


def test_while_live_requests_wait_no_replay_is_admitted() -> None:
    waiting = 1
    admission = Admission(8, lambda: waiting)
    refusal(admission)
    waiting = 0
    with admission.replay():
        pass


def test_those_refused_together_are_spread_over_the_time_the_flood_needs() -> None:
    draws = iter([0.0, 1.0] * 200)
    admission = Admission(1, lambda: 0, clock=lambda: 0.0, chance=lambda: next(draws))
    with admission.replay():
        first = [refusal(admission).retry_after for _ in range(2)]
        later = [refusal(admission).retry_after for _ in range(100)]

    assert first == [2.0, 20.0]
    assert min(filter(None, later)) == 2.0
    assert max(filter(None, later)) == 120.0
