"""Reporting many statuses at once."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.api.admission import Admission
from dashboard.api.faultless import PlainReport, begins_batch, faultless_batch
from dashboard.api.models import InvalidReport, StatusBatch, StatusReport
from dashboard.api.problems import ProblemError
from tests.support.agent import FakeAgent
from tests.unit.dashboard.conftest import Fleet, bearer
from tests.unit.dashboard.test_status import count


def day_of_reports(fleet: Fleet, number: int) -> list[dict[str, Any]]:
    """Reports of the last day, oldest first."""
    step = timedelta(days=1) / number
    return [
        fleet.status(event_time=(fleet.clock.time - step * age).isoformat())
        for age in range(number, 0, -1)
    ]


def old_reports(fleet: Fleet, number: int) -> list[dict[str, Any]]:
    """Reports of three days ago, oldest first."""
    return [
        fleet.status(event_time=(fleet.clock.time - timedelta(days=3, minutes=age)).isoformat())
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
        fleet.status(message="half a character \ud800"),
        fleet.status(),
    ]

    answer = await fleet.report_many(token, reports)

    results = answer.json()["results"]
    assert [item["result"] for item in results] == [
        "recorded",
        *["refused"] * 7,
        "recorded",
    ]
    assert [item["reason"] for item in results[1:4]] == ["too_old", "invalid", "wrong_device"]
    assert "status" in results[2]["detail"]
    assert "must not hold control characters" in results[6]["detail"]
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


async def test_an_event_that_comes_twice_in_a_batch_is_recorded_once(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol()
    reports = old_reports(fleet, 5)

    answer = await fleet.report_many(token, [*reports, reports[2]])

    assert {item["result"] for item in answer.json()["results"]} == {"recorded"}
    assert count(sql, "status_history") == 5


async def test_the_same_events_in_many_batches_at_once_are_each_recorded_once(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol()
    reports = [fleet.status(message=f"{number}") for number in range(60)]
    parts = [random.Random(seed).sample(reports, 40) for seed in range(12)]

    answers = await asyncio.gather(*(fleet.report_many(token, part) for part in parts))

    assert {answer.status_code for answer in answers} == {200}
    recorded = Counter(
        item["event_id"]
        for answer in answers
        for item in answer.json()["results"]
        if item["result"] == "recorded"
    )
    sent = {report["event_id"] for part in parts for report in part}
    assert recorded == dict.fromkeys(sent, 1)
    assert count(sql, "status_history") == len(sent)


async def test_what_comes_in_a_batch_is_kept_as_what_comes_alone(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol()
    ahead = fleet.clock.time + timedelta(hours=1)
    zone = timezone(timedelta(hours=-9))
    whole: dict[str, Any] = {
        "event_time": ahead.astimezone(zone).isoformat(),
        "sent_at": ahead.isoformat(),
        "status": "critical",
        "message": "\ttab, line\nand 'quotes' \\N \\. 火",
        "uptime_seconds": 2**40,
        "config_version": "abc",
        "agent_version": "1.0",
        "kernel": "6.12",
        "boot_id": "8f14e45f-ceea-467f-a8f7-3c1f2d0b9c11",
        "metrics": {"small": -1e-300, "large": 1e300, "whole": 7},
    }
    least: dict[str, Any] = {}
    for fields in (whole, least):
        await fleet.report(token, **fields)
        await fleet.report_many(token, [fleet.status(**fields), fleet.status(**fields)])

    kept = sql.execute(
        "SELECT count(*) FROM status_history GROUP BY to_jsonb(status_history) - 'event_id'"
    ).fetchall()
    assert kept == [(3,), (3,)]


async def test_a_batch_that_ends_in_another_status_is_an_event(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol()
    await fleet.report(token, event_time=(fleet.clock.time - timedelta(days=2)).isoformat())
    reports = day_of_reports(fleet, 4)
    reports[1]["status"] = reports[-1]["status"] = "critical"

    await fleet.report_many(token, reports)

    rows = sql.execute(
        "SELECT detail->>'from', detail->>'to' FROM events WHERE kind = 'status_changed'"
        " ORDER BY id"
    ).fetchall()
    assert rows == [(None, "ok"), ("ok", "critical")]


async def test_of_events_that_cannot_have_happened_yet_the_last_is_the_latest(fleet: Fleet) -> None:
    token = await fleet.enrol()
    reports = [
        fleet.status(
            event_time=(fleet.clock.time + timedelta(seconds=ahead)).isoformat(),
            message=f"{ahead} s ahead",
        )
        for ahead in (1, 3, 2)
    ]

    await fleet.report_many(token, reports)

    device = (await fleet.read("/api/devices/pi-01")).json()
    assert device["latest"]["message"] == "3 s ahead"


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


async def refusal(admission: Admission) -> ProblemError:
    with pytest.raises(ProblemError) as error:
        async with admission.replay():
            pass
    assert error.value.status == 429
    return error.value


@dataclass
class Replayer:
    """A replay that stays in its place until told to go."""

    admission: Admission
    admitted: bool = False

    def __post_init__(self) -> None:
        self._leave = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self.admission.replay():
            self.admitted = True
            await self._leave.wait()

    async def leave(self) -> None:
        self._leave.set()
        await self._task


async def settled() -> None:
    """Every task has gone as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_replays_have_so_many_places_and_the_next_in_line_gets_the_one_that_is_free() -> None:
    admission = Admission(2, lambda: 0)
    replays = [Replayer(admission) for _ in range(4)]
    await settled()
    assert [replay.admitted for replay in replays] == [True, True, False, False]

    await replays[1].leave()
    await settled()

    assert [replay.admitted for replay in replays] == [True, True, True, False]
    for replay in (replays[0], *replays[2:]):
        await replay.leave()


async def test_where_many_wait_already_a_replay_is_told_at_once_to_come_again() -> None:
    admission = Admission(1, lambda: 0)
    replays = [Replayer(admission) for _ in range(5)]
    await settled()

    await refusal(admission)

    for replay in replays:
        await replay.leave()


async def test_a_replay_waits_for_live_requests_and_goes_on_after_them() -> None:
    waiting = 1
    admission = Admission(8, lambda: waiting)
    replay = Replayer(admission)
    await settled()
    assert not replay.admitted

    waiting = 0

    await replay.leave()
    assert replay.admitted


async def test_behind_live_requests_without_end_a_replay_is_told_to_come_again() -> None:
    waiting = 1
    admission = Admission(1, lambda: waiting, patience=0.05)
    await refusal(admission)
    waiting = 0
    async with admission.replay():
        pass


async def test_those_refused_together_are_spread_over_the_time_that_all_of_them_take() -> None:
    draws = iter([0.0, 1.0] * 1000)
    now = 0.0
    admission = Admission(1, lambda: 0, clock=lambda: now, chance=lambda: next(draws))
    for _ in range(200):
        async with admission.replay():
            now += 0.5  # so long does each take
    replays = [Replayer(admission) for _ in range(5)]
    await settled()

    waits = [(await refusal(admission)).retry_after or 0 for _ in range(100)]
    more = [(await refusal(admission)).retry_after or 0 for _ in range(400)]

    assert min(waits) == min(more) == 2
    assert waits[1] == 4
    assert max(waits) == pytest.approx(50, rel=0.01)
    assert max(more) == 120
    for replay in replays:
        await replay.leave()


async def test_a_replay_that_waited_is_not_taken_when_the_lease_has_ended_meanwhile(
    fleet: Fleet, agent: FakeAgent, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol()
    in_its_way = Replayer(fleet.context.admission)
    answer = asyncio.create_task(fleet.report_many(token, old_reports(fleet, 3)))
    while not fleet.context.admission.waiting:
        await asyncio.sleep(0.01)

    agent.leader = False
    while (await fleet.context.leadership.current()).leader:
        await asyncio.sleep(0.01)
    await in_its_way.leave()

    assert (await answer).json()["reason"] == "not_leader"
    assert count(sql, "status_history") == 0


REPORTS = st.fixed_dictionaries(
    {
        "device_id": st.sampled_from(["pi-01", "pi-02", "Not an id", ""]),
        "event_id": st.one_of(st.uuids().map(str), st.text(max_size=3)),
        "event_time": st.one_of(
            st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
            st.sampled_from(["2026-11-27T12:00:00.1234567Z", "2026-11-27T23:59:59.9999999+05:30"]),
            st.integers(-(2**40), 2**40),
            st.text(max_size=5),
        ),
        "status": st.sampled_from(["ok", "warning", "critical", "fine", None]),
    },
    optional={
        "sent_at": st.none() | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "message": st.text(max_size=502) | st.integers(),
        "uptime_seconds": st.one_of(
            st.none(), st.integers(), st.floats(allow_nan=False), st.booleans(), st.just("77")
        ),
        "kernel": st.none() | st.text(),
        "boot_id": st.none() | st.uuids().map(str),
        "metrics": st.dictionaries(st.text(max_size=3), st.floats() | st.text(max_size=2)),
        "surprise": st.none(),
    },
)


@given(st.lists(REPORTS, min_size=1, max_size=3))
def test_a_batch_is_parsed_in_one_go_to_the_same_as_report_by_report_or_not_at_all(
    reports: list[dict[str, Any]],
) -> None:
    body = json.dumps({"reports": reports}).encode()

    at_once = faultless_batch(body)

    one_by_one = StatusBatch.model_validate(json.loads(body))
    if any(isinstance(item, InvalidReport) for item in one_by_one.reports):
        assert at_once is None
    elif at_once is not None:
        assert [fields(report) for report in at_once.reports] == [
            fields(report) for report in one_by_one.reports
        ]


def fields(report: object) -> dict[str, Any]:
    return {name: getattr(report, name) for name in StatusReport.model_fields}


def test_the_two_forms_of_a_report_have_the_same_fields() -> None:
    assert set(PlainReport.__struct_fields__) == set(StatusReport.model_fields)


@pytest.mark.parametrize(
    "report",
    [
        b"[" * 100_000,
        b'{"event_time":' + b"[" * 100_000,
        b'{"message":"\xff"}',
        b'{"message":"\\ud8',
    ],
    ids=["list", "time", "not utf-8", "cut short"],
)
async def test_a_batch_that_is_no_json_is_a_client_error(fleet: Fleet, report: bytes) -> None:
    token = await fleet.enrol()
    headers = {**bearer(token), "Content-Type": "application/json"}

    answer = await fleet.http.post("/api/status", content=b'{"reports":[' + report, headers=headers)

    assert answer.status_code in (400, 422)


def test_a_batch_of_usual_reports_is_parsed_in_one_go() -> None:
    report = {
        "device_id": "pi-01",
        "event_id": "8f14e45f-ceea-467f-a8f7-3c1f2d0b9c11",
        "event_time": "2026-11-23T12:00:00+01:00",
        "status": "ok",
        "message": "two\nlines",
        "metrics": {"load_1m": 1},
    }
    body = json.dumps({"reports": [report] * 500}, indent=1).encode()

    assert begins_batch(body)
    batch = faultless_batch(body)
    assert batch is not None
    assert len(batch.reports) == 500
