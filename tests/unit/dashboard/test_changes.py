"""Changing the registry."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg
import pytest

from tests.support.agent import FakeAgent
from tests.unit.dashboard.conftest import Fleet, bearer


async def change(fleet: Fleet, device_id: str = "pi-01", **fields: object) -> httpx.Response:
    return await fleet.http.patch(
        f"/api/devices/{device_id}", json=fields, headers=bearer(fleet.settings.operator_token)
    )


async def act(fleet: Fleet, action: str, device_id: str = "pi-01") -> httpx.Response:
    return await fleet.http.post(
        f"/api/devices/{device_id}/{action}", headers=bearer(fleet.settings.operator_token)
    )


async def test_what_is_given_changes_and_the_rest_stays(fleet: Fleet) -> None:
    await fleet.enrol("pi-01", name="Gate", tags=["north"], address="100.64.0.7")

    renamed = (await change(fleet, name="Gate 2")).json()
    tagged = (await change(fleet, tags=["b", "a", "a"])).json()
    moved = (await change(fleet, address=None)).json()

    assert (renamed["name"], renamed["tags"]) == ("Gate 2", ["north"])
    assert (tagged["name"], tagged["tags"]) == ("Gate 2", ["a", "b"])
    assert (moved["name"], moved["address"]) == ("Gate 2", None)


async def test_a_change_is_audited_with_before_and_after(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    await fleet.enrol("pi-01", name="Gate")
    await change(fleet, name="Door")

    row = sql.execute("SELECT actor, detail FROM audit_log WHERE action = 'device.change'")

    assert row.fetchone() == ("operator", {"from": {"name": "Gate"}, "to": {"name": "Door"}})


async def test_a_retired_device_keeps_its_history_and_loses_its_token(fleet: Fleet) -> None:
    token = await fleet.enrol("pi-01")
    await fleet.report(token)

    retired = await act(fleet, "retire")

    assert retired.status_code == 200
    assert retired.json()["retired_at"]
    assert (await fleet.report(token)).status_code == 401
    assert (await fleet.read("/api/devices/pi-01/history")).json()["total"] == 1
    assert (await fleet.read("/api/fleet")).json()["devices"] == []
    events = (await fleet.read("/api/events")).json()["items"]
    assert events[0]["kind"] == "retired"


async def test_a_retired_device_is_not_changed_any_more(fleet: Fleet) -> None:
    await fleet.enrol("pi-01")
    await act(fleet, "retire")

    assert (await change(fleet, name="x")).status_code == 404
    assert (await act(fleet, "retire")).status_code == 404
    assert (await act(fleet, "token")).status_code == 404


async def test_a_new_token_replaces_the_old_one(fleet: Fleet, sql: psycopg.Connection) -> None:
    old = await fleet.enrol("pi-01")

    new = (await act(fleet, "token")).json()["token"]

    assert (await fleet.report(old)).status_code == 401
    assert (await fleet.report(new)).status_code == 200
    logged = sql.execute("SELECT count(*) FROM audit_log WHERE action = 'device.token'").fetchone()
    assert logged == (1,)


@pytest.mark.parametrize(
    "fields",
    [{}, {"name": ""}, {"name": None}, {"tags": ["UPPER"]}, {"tags": None}, {"address": "a b"},
     {"retired_at": None}, {"device_id": "pi-02"}],
)  # fmt: skip
async def test_a_wrong_change_is_refused(fleet: Fleet, fields: dict[str, Any]) -> None:
    await fleet.enrol("pi-01")

    assert (await change(fleet, **fields)).status_code == 422


async def test_only_the_operator_changes_and_only_on_the_leader(
    fleet: Fleet, agent: FakeAgent
) -> None:
    device_token = await fleet.enrol("pi-01")
    for token in (device_token, fleet.settings.enrol_token, "guess"):
        headers = bearer(token)
        patched = await fleet.http.patch("/api/devices/pi-01", json={"name": "x"}, headers=headers)
        retired = await fleet.http.post("/api/devices/pi-01/retire", headers=headers)
        renewed = await fleet.http.post("/api/devices/pi-01/token", headers=headers)
        assert {patched.status_code, retired.status_code, renewed.status_code} == {401}


async def test_a_standby_changes_nothing(fleet: Fleet, agent: FakeAgent) -> None:
    agent.leader = False
    answers = [await change(fleet, name="x"), await act(fleet, "retire"), await act(fleet, "token")]
    assert [answer.json()["reason"] for answer in answers] == ["not_leader"] * 3
