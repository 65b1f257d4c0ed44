"""The fleet at a glance, live, and in the past."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from dashboard.api import feed as feed_module
from dashboard.api.app import create_app
from dashboard.api.feed import Changes, Feed
from dashboard.api.settings import Settings
from dashboard.api.store.history import bucket_seconds
from tests.support.agent import FakeAgent
from tests.unit.dashboard.conftest import Clock, Fleet, bearer


async def test_the_fleet_is_one_answer_with_every_enrolled_device(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol("pi-01", name='Gate "north"\n', tags=["camera"])
    await fleet.enrol("pi-02")
    await fleet.enrol("pi-03")
    sql.execute("UPDATE devices SET retired_at = now() WHERE id = 'pi-03'")
    ahead = (fleet.clock.time + timedelta(hours=1)).isoformat()
    await fleet.report(
        token, event_time=ahead, sent_at=ahead, status="warning", config_version="c1"
    )

    answer = (await fleet.read("/api/fleet")).json()

    assert answer["online_within_seconds"] == 180
    first, second = answer["devices"]
    assert first["device_id"] == "pi-01"
    assert first["name"] == 'Gate "north"\n'
    assert first["status"] == "warning"
    assert first["clock_flagged"] is True
    assert first["config_version"] == "c1"
    assert datetime.fromisoformat(first["observed_at"]) == fleet.clock.time
    assert second == {
        "device_id": "pi-02",
        "name": "pi-02",
        "tags": [],
        "status": None,
        "message": "",
        "observed_at": None,
        "config_version": None,
        "clock_flagged": False,
    }


async def test_history_is_paged_by_the_devices_own_time_in_either_order(fleet: Fleet) -> None:
    token = await fleet.enrol()
    times = [fleet.clock.time - timedelta(hours=hour) for hour in range(10, 0, -1)]
    await fleet.report_many(
        token, [fleet.status(event_time=time.isoformat(), boot_id=None) for time in times]
    )

    page = (await fleet.read("/api/devices/pi-01/history", page=2, page_size=4)).json()
    newest = (
        await fleet.read(
            "/api/devices/pi-01/history",
            **{"order": "desc", "from": times[2].isoformat(), "to": times[5].isoformat()},
        )
    ).json()

    def when(answer: dict[str, Any]) -> list[datetime]:
        return [datetime.fromisoformat(item["event_time"]) for item in answer["items"]]

    assert page["total"] == 10
    assert when(page) == times[4:8]
    assert newest["total"] == 3
    assert when(newest) == [times[4], times[3], times[2]]


async def test_series_are_buckets_with_the_worst_status_and_each_metrics_range(
    fleet: Fleet,
) -> None:
    token = await fleet.enrol()
    start = fleet.clock.time.replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    reports = [
        fleet.status(
            event_time=(start + timedelta(minutes=minute)).isoformat(),
            status="critical" if minute == 7 else "ok",
            config_version="old" if minute < 60 else "new",
            metrics={"cpu": minute} | ({"rare": 5} if minute == 3 else {}),
        )
        for minute in [*range(20), *range(60, 80)]
    ]
    await fleet.report_many(token, reports)

    answer = await fleet.read(
        "/api/devices/pi-01/series",
        **{
            "from": start.isoformat(),
            "to": (start + timedelta(hours=2)).isoformat(),
            "points": 12,
        },
    )

    series = answer.json()
    assert series["step_seconds"] == 600
    assert series["times"] == [int(start.timestamp()) + offset for offset in (0, 600, 3600, 4200)]
    assert series["status"] == ["critical", "ok", "ok", "ok"]
    assert series["config_version"] == ["old", "old", "new", "new"]
    assert series["metrics"]["cpu"] == {
        "avg": [4.5, 14.5, 64.5, 74.5],
        "min": [0, 10, 60, 70],
        "max": [9, 19, 69, 79],
    }
    assert series["metrics"]["rare"]["avg"] == [5, None, None, None]


async def test_series_of_a_device_that_never_reported_are_empty(fleet: Fleet) -> None:
    await fleet.enrol()

    answer = await fleet.read("/api/devices/pi-01/series")

    assert answer.status_code == 200
    assert answer.json()["times"] == []


@pytest.mark.parametrize("hours", [0, -1, 24 * 401])
async def test_series_of_an_impossible_time_are_refused(fleet: Fleet, hours: int) -> None:
    end = fleet.clock.time
    answer = await fleet.read(
        "/api/devices/pi-01/series",
        **{"from": (end - timedelta(hours=hours)).isoformat(), "to": end.isoformat()},
    )
    assert answer.status_code == 422


@given(minutes=st.integers(1, 400 * 24 * 60), points=st.integers(1, 2000))
def test_buckets_are_at_most_as_many_as_asked_for_and_at_least_a_minute(
    minutes: int, points: int
) -> None:
    span = timedelta(minutes=minutes)
    step = bucket_seconds(span, points)
    assert step >= 60
    assert span.total_seconds() / step <= points


async def test_events_and_the_audit_log_are_read_slice_by_slice(fleet: Fleet) -> None:
    for number in range(5):
        await fleet.enrol(f"pi-{number}")

    first = (await fleet.read("/api/events", limit=3)).json()
    rest = (await fleet.read("/api/events", limit=3, before=first["next"])).json()
    own = (await fleet.read("/api/events", device_id="pi-2")).json()
    audit = (await fleet.read("/api/audit", limit=2)).json()

    found = [item["device_id"] for item in first["items"] + rest["items"]]
    assert found == [f"pi-{number}" for number in (4, 3, 2, 1, 0)]
    assert rest["next"] is None
    assert [item["kind"] for item in own["items"]] == ["enrolled"]
    assert [item["target"] for item in audit["items"]] == ["pi-4", "pi-3"]
    assert audit["next"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/fleet",
        "/api/stream",
        "/api/devices/pi-01/history",
        "/api/devices/pi-01/series",
        "/api/devices/pi-01/logs",
        "/api/events",
        "/api/audit",
        "/api/nodes",
        "/api/alerts",
        "/api/silences",
    ],
)
async def test_nothing_of_the_fleet_is_read_without_the_operator_token(
    fleet: Fleet, path: str
) -> None:
    device_token = await fleet.enrol("pi-01")
    for token in ("guess", device_token, fleet.settings.enrol_token):
        assert (await fleet.http.get(path, headers=bearer(token))).status_code == 401


class Page:
    """A page that listens to the stream."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> tuple[str, Any]:
        """Name and data of the next event; comments have the name `comment`."""
        name = ""
        async with asyncio.timeout(20):
            async for line in self._lines:
                if line.startswith(":"):
                    return "comment", line
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    return name, json.loads(line.removeprefix("data: "))
        return "end", None

    async def until(self, name: str) -> Any:
        """Data of the next event of a name."""
        while True:
            found, data = await self.next()
            assert found != "end", f"the stream ended before {name}"
            if found == name:
                return data


@pytest.fixture
async def served(settings: Settings, sql: psycopg.Connection) -> AsyncIterator[Fleet]:
    """An answer that does not end needs a real server."""
    clock = Clock()
    app = create_app(settings, now=clock)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        context = app.state.context
        yield Fleet(http, settings, clock, context)
        context.feed.close()
    server.should_exit = True
    await task


@asynccontextmanager
async def listening(fleet: Fleet) -> AsyncIterator[Page]:
    headers = bearer(fleet.settings.operator_token)
    async with fleet.http.stream("GET", "/api/stream", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["X-Accel-Buffering"] == "no"
        yield Page(answer.aiter_lines())


async def test_a_page_is_told_of_every_change_as_it_happens(served: Fleet) -> None:
    async with listening(served) as page:
        hello = await page.until("hello")
        assert hello["node"] == "vps-01"
        assert hello["leader"] is True

        token = await served.enrol("pi-01", name="Two\nlines")
        [device] = (await page.until("devices"))["devices"]
        assert device["name"] == "Two\nlines"
        assert device["status"] is None
        assert (await page.until("event"))["kind"] == "enrolled"

        await served.report(token, status="critical", message="on fire")
        [device] = (await page.until("devices"))["devices"]
        assert (device["status"], device["message"]) == ("critical", "on fire")
        event = await page.until("event")
        assert (event["kind"], event["detail"]["to"]) == ("status_changed", "critical")

        operator = bearer(served.settings.operator_token)
        await served.http.patch("/api/devices/pi-01", json={"name": "New"}, headers=operator)
        assert (await page.until("devices"))["devices"][0]["name"] == "New"
        await served.http.post("/api/devices/pi-01/retire", headers=operator)
        assert await page.until("retired") == {"device_id": "pi-01"}


async def test_many_changes_at_once_are_one_event(served: Fleet) -> None:
    tokens = {f"pi-{n}": await served.enrol(f"pi-{n}") for n in range(20)}
    async with listening(served) as page:
        await page.until("hello")
        await asyncio.gather(*(served.report(token, name) for name, token in tokens.items()))
        seen: set[str] = set()
        events = 0
        while len(seen) < 20:
            data = await page.until("devices")
            events += 1
            seen.update(device["device_id"] for device in data["devices"])
    assert events < 20


async def test_a_page_is_told_when_the_node_stops_to_lead(served: Fleet, agent: FakeAgent) -> None:
    async with listening(served) as page:
        assert (await page.until("hello"))["leader"] is True
        agent.leader = False
        assert (await page.until("hello"))["leader"] is False


async def test_on_a_standby_the_stream_shows_what_replication_brings(
    served: Fleet, agent: FakeAgent, sql: psycopg.Connection
) -> None:
    agent.leader = False
    async with listening(served) as page:
        await page.until("hello")
        sql.execute(
            "INSERT INTO devices (id, name, token_sha256) VALUES ('pi-77', 'x', sha256('x'))"
        )
        sql.execute(
            "INSERT INTO device_latest (device_id, event_id, event_time, observed_at, received_at,"
            " status, message, metrics) VALUES ('pi-77', gen_random_uuid(), now(), now(), %s,"
            " 'warning', 'replicated', '{}')",
            [served.clock.time],
        )
        data = await page.until("devices")
    assert data["devices"][0]["message"] == "replicated"


async def test_the_stream_ends_when_the_server_stops(served: Fleet) -> None:
    async with listening(served) as page:
        await page.until("hello")
        served.context.feed.close()  # as the server does when it is told to stop
        assert (await page.next())[0] == "end"
    headers = bearer(served.settings.operator_token)
    assert (await served.http.get("/api/stream", headers=headers)).status_code == 503


async def test_a_page_that_does_not_read_is_cut_off_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "COALESCE_SECONDS", 0.0)
    monkeypatch.setattr(feed_module, "MAX_LAG", 3)

    async def read(changes: Changes) -> list[bytes]:
        return [device.encode() for device in sorted(changes.devices)]

    feed = Feed(read)
    task = asyncio.create_task(feed.run())
    with feed.subscribe() as slow, feed.subscribe() as quick:
        for number in range(5):
            feed.mark(devices=[f"pi-{number}"])
            assert await asyncio.wait_for(quick.get(), 5) == f"pi-{number}".encode()
        assert feed.subscribers == 1
        left = [slow.get_nowait() for _ in range(slow.qsize())]
        assert left[-1] is None
    feed.close()
    await asyncio.wait_for(task, 5)


async def test_nothing_is_read_while_nobody_listens() -> None:
    async def read(_: Changes) -> list[bytes]:
        raise AssertionError("read for nobody")

    feed = Feed(read)
    feed.mark(devices=["pi-01"])
    feed.close()
    await asyncio.wait_for(feed.run(), 5)
