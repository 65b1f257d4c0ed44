"""A write on a node that may not take it: what the API tells nginx."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from dashboard.api.passing import HEADER, PeerApi
from dashboard.api.settings import Settings
from tests.support.agent import FakeAgent
from tests.unit.dashboard.conftest import Fleet, running_fleet

REDIRECT = {"x-accel-redirect": "@leader", "x-overlord-leader": "127.0.0.1:8000"}


async def post(fleet: Fleet, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Enrol a device; the status, and the headers that concern passing on."""
    token = {"Authorization": f"Bearer {fleet.settings.enrol_token}"}
    answer = await fleet.http.post(
        "/api/devices", json={"device_id": "pi-01"}, headers={**token, **headers}
    )
    return answer.status_code, {
        name: value for name, value in answer.headers.items() if name in REDIRECT
    }


@pytest.mark.parametrize(
    ("leader", "headers", "expected"),
    [
        (False, {HEADER: "1"}, (503, REDIRECT)),
        # Asked for by the peer's nginx, which has passed it on once.
        (False, {}, (503, {})),
        (True, {HEADER: "1"}, (201, {})),
    ],
)
async def test_nginx_is_told_where_the_write_goes_when_it_asks(
    settings: Settings,
    agent: FakeAgent,
    sql: object,
    leader: bool,
    headers: dict[str, str],
    expected: tuple[int, dict[str, str]],
) -> None:
    agent.leader = leader
    async with running_fleet(replace(settings, peer_api="localhost:8000")) as fleet:
        assert await post(fleet, headers) == expected
        passed_on = 1.0 if expected[1] else 0.0
        metrics = (await fleet.http.get("/metrics")).text
        assert f"overlord_api_passed_on_total {passed_on}" in metrics


async def test_a_read_is_answered_where_it_is_asked(fleet: Fleet, agent: FakeAgent) -> None:
    agent.leader = False
    operator = {"Authorization": f"Bearer {fleet.settings.operator_token}"}
    answer = await fleet.http.get("/api/devices", headers={HEADER: "1", **operator})
    assert answer.status_code == 200
    assert "X-Accel-Redirect" not in answer.headers


async def test_the_peers_name_is_looked_up_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Any] = [OSError("no such name"), "100.64.0.2", "100.64.0.3"]
    now = 0.0

    def lookup(host: str, port: str, *_: object, **__: object) -> list[Any]:
        assert (host, port) == ("vps-02", "8000")
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, 8000))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    peer = PeerApi("vps-02:8000", lambda: now)
    assert await peer.redirect() == {}
    now = 4.9
    assert await peer.redirect() == {}
    now = 5.0
    assert (await peer.redirect())["X-Overlord-Leader"] == "100.64.0.2:8000"
    now = 10.0
    assert (await peer.redirect())["X-Overlord-Leader"] == "100.64.0.3:8000"


async def test_without_a_peer_nothing_is_passed_on() -> None:
    assert await PeerApi(None).redirect() == {}
