"""The device registry."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.agent import FakeAgent
from tests.unit.dashboard.conftest import Fleet, bearer


async def ids(fleet: Fleet, **query: object) -> list[str]:
    answer = await fleet.read("/api/devices", **query)
    assert answer.status_code == 200, answer.text
    return [device["device_id"] for device in answer.json()["items"]]


async def test_enrolling_gives_a_token_that_is_stored_only_as_its_hash(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol("pi-01")

    rows = sql.execute("SELECT devices::text FROM devices").fetchall()
    rows += sql.execute("SELECT audit_log::text FROM audit_log").fetchall()
    rows += sql.execute("SELECT events::text FROM events").fetchall()

    assert len(rows) == 3
    assert all(token not in row[0] for row in rows)


async def test_a_device_id_is_enrolled_once(fleet: Fleet) -> None:
    await fleet.enrol("pi-01")

    answer = await fleet.http.post(
        "/api/devices", json={"device_id": "pi-01"}, headers=bearer(fleet.settings.enrol_token)
    )

    assert answer.status_code == 409
    assert "pi-01" in answer.json()["detail"]


async def test_enrolment_is_in_the_audit_log_with_who_and_what(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    await fleet.enrol("pi-01", tags=["camera"])

    rows = sql.execute("SELECT actor, action, target, detail->'tags' FROM audit_log").fetchall()

    assert rows == [("enroller", "device.enrol", "pi-01", ["camera"])]


async def test_enrolling_needs_the_enrol_token(fleet: Fleet) -> None:
    device_token = await fleet.enrol("pi-01")
    for token in ("guess", device_token):
        answer = await fleet.http.post(
            "/api/devices", json={"device_id": "pi-02"}, headers=bearer(token)
        )
        assert answer.status_code == 401


async def test_enrolling_is_refused_on_a_node_that_is_not_leader(
    fleet: Fleet, agent: FakeAgent
) -> None:
    agent.leader = False
    answer = await fleet.http.post(
        "/api/devices", json={"device_id": "pi-01"}, headers=bearer(fleet.settings.enrol_token)
    )
    assert answer.status_code == 503
    assert answer.json()["reason"] == "not_leader"


@pytest.mark.parametrize("path", ["/api/devices", "/api/devices/pi-01"])
async def test_reading_the_fleet_needs_the_operator_token(fleet: Fleet, path: str) -> None:
    device_token = await fleet.enrol("pi-01")

    assert (await fleet.http.get(path)).status_code == 401
    for token in (device_token, fleet.settings.enrol_token):
        assert (await fleet.http.get(path, headers=bearer(token))).status_code == 401


async def test_a_standby_still_answers_reads(fleet: Fleet, agent: FakeAgent) -> None:
    agent.leader = False

    assert (await fleet.read("/api/devices")).status_code == 200


async def test_devices_come_in_pages_with_the_total(fleet: Fleet) -> None:
    for number in range(5):
        await fleet.enrol(f"pi-{number}")

    answer = (await fleet.read("/api/devices", page=2, page_size=2)).json()

    assert [device["device_id"] for device in answer["items"]] == ["pi-2", "pi-3"]
    assert answer["total"] == 5
    assert (answer["page"], answer["page_size"]) == (2, 2)
    assert await ids(fleet, page=9) == []


async def test_devices_are_filtered_by_status_tag_and_connection(fleet: Fleet) -> None:
    north = await fleet.enrol("pi-north", tags=["north"])
    await fleet.enrol("pi-south", tags=["south"])
    await fleet.report(north, "pi-north", status="critical")

    assert await ids(fleet, status="critical") == ["pi-north"]
    assert await ids(fleet, tag="south") == ["pi-south"]
    assert await ids(fleet, online="true") == ["pi-north"]
    assert await ids(fleet, online="false") == ["pi-south"]
    assert await ids(fleet, status="critical", tag="south") == []


async def test_retired_devices_are_listed_only_when_asked_for(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    await fleet.enrol("pi-old")
    await fleet.enrol("pi-new")
    sql.execute("UPDATE devices SET retired_at = now() WHERE id = 'pi-old'")

    assert await ids(fleet) == ["pi-new"]
    assert await ids(fleet, state="retired") == ["pi-old"]
    assert await ids(fleet, state="all") == ["pi-new", "pi-old"]


async def test_devices_are_sorted_by_how_bad_they_are(fleet: Fleet) -> None:
    for status in ("warning", "ok", "critical"):
        token = await fleet.enrol(f"pi-{status}")
        await fleet.report(token, f"pi-{status}", status=status)
    await fleet.enrol("pi-silent")

    worst_first = await ids(fleet, sort="status", order="desc")

    assert worst_first == ["pi-critical", "pi-warning", "pi-ok", "pi-silent"]


async def test_a_search_finds_parts_of_ids_and_names_and_takes_wildcards_literally(
    fleet: Fleet,
) -> None:
    await fleet.enrol("pi-01", name="Gate 50% open")
    await fleet.enrol("pi-02", name="Door")

    assert await ids(fleet, search="GATE") == ["pi-01"]
    assert await ids(fleet, search="i-02") == ["pi-02"]
    assert await ids(fleet, search="50%") == ["pi-01"]
    assert await ids(fleet, search="%") == ["pi-01"]
    assert await ids(fleet, search="_") == []
    assert await ids(fleet, search="' OR 1=1 --") == []


@pytest.mark.parametrize(
    "query",
    [
        {"sort": "id; DROP TABLE devices"},
        {"order": "sideways"},
        {"page": 0},
        {"page_size": 1001},
        {"status": "fine"},
        {"search": "nul\u0000"},
    ],
)
async def test_a_wrong_query_is_refused(fleet: Fleet, query: dict[str, object]) -> None:
    assert (await fleet.read("/api/devices", **query)).status_code == 422


async def test_a_device_that_is_not_enrolled_is_not_found(fleet: Fleet) -> None:
    answer = await fleet.read("/api/devices/pi-99")

    assert answer.status_code == 404
    assert answer.json()["reason"] == "no_such_device"
