"""What the API asks of the services beside it."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from dashboard.api.settings import Settings
from tests.unit.dashboard.conftest import Fleet, bearer, running_fleet

SILENCE = {
    "matchers": [{"name": "alertname", "value": "NodeDown", "isRegex": False, "isEqual": True}],
    "startsAt": "2026-11-23T12:00:00Z",
    "endsAt": "2026-11-23T14:00:00Z",
    "comment": "moving the rack",
}
SILENCE_ID = "6f1f8a3e-5f6d-4c8e-9f1e-0c8a5c1d2e3f"


@dataclass
class Beside:
    """Alertmanager, Loki and both agents on one port, and what they were asked."""

    url: str
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)


@pytest.fixture
def beside() -> Iterator[Beside]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            found.asked.append((self.command, self.path, body))
            status, answer = found.answers.get(urlsplit(self.path).path, (404, None))
            content = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Beside(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
async def equipped(
    settings: Settings, sql: psycopg.Connection, beside: Beside
) -> AsyncIterator[Fleet]:
    """The API with everything beside it, the peer's agent aside."""
    with_all = replace(settings, alertmanager_url=beside.url, loki_url=beside.url)
    async with running_fleet(with_all) as fleet:
        yield fleet


async def test_alerts_are_passed_on_as_alertmanager_has_them(
    equipped: Fleet, beside: Beside
) -> None:
    alerts = [{"fingerprint": "a1", "labels": {"alertname": "NodeDown"}}]
    beside.answers["/api/v2/alerts"] = (200, alerts)

    assert (await equipped.read("/api/alerts")).json() == alerts


async def test_expired_silences_are_left_out(equipped: Fleet, beside: Beside) -> None:
    silences = [{"id": state, "status": {"state": state}} for state in ("active", "expired")]
    beside.answers["/api/v2/silences"] = (200, silences)

    assert [item["id"] for item in (await equipped.read("/api/silences")).json()] == ["active"]


async def test_a_silence_is_made_in_the_operators_name_and_audited(
    equipped: Fleet, beside: Beside
) -> None:
    beside.answers["/api/v2/silences"] = (200, {"silenceID": SILENCE_ID})

    answer = await equipped.http.post(
        "/api/silences", json=SILENCE, headers=bearer(equipped.settings.operator_token)
    )

    assert answer.json() == {"silenceID": SILENCE_ID}
    [(method, path, body)] = beside.asked
    assert (method, path) == ("POST", "/api/v2/silences")
    assert body == {**SILENCE, "createdBy": "operator"}
    [entry] = (await equipped.read("/api/audit")).json()["items"]
    assert (entry["action"], entry["target"]) == ("silence.add", SILENCE_ID)


async def test_a_silence_is_ended_and_audited(equipped: Fleet, beside: Beside) -> None:
    beside.answers[f"/api/v2/silence/{SILENCE_ID}"] = (200, None)
    headers = bearer(equipped.settings.operator_token)

    ended = await equipped.http.delete(f"/api/silences/{SILENCE_ID}", headers=headers)
    unknown = await equipped.http.delete(f"/api/silences/{SILENCE_ID[:-1]}0", headers=headers)
    strange = await equipped.http.delete("/api/silences/..%2Fstatus", headers=headers)

    assert ended.status_code == 204
    assert unknown.status_code == 404
    assert strange.status_code in {404, 422}
    assert [path for _, path, _ in beside.asked] == [
        f"/api/v2/silence/{SILENCE_ID}",
        f"/api/v2/silence/{SILENCE_ID[:-1]}0",
    ]
    [entry] = (await equipped.read("/api/audit")).json()["items"]
    assert entry["action"] == "silence.end"


@pytest.mark.parametrize(
    "change",
    [{"matchers": []}, {"comment": ""}, {"endsAt": "later"}, {"createdBy": "somebody"}],
)
async def test_a_wrong_silence_never_reaches_alertmanager(
    equipped: Fleet, beside: Beside, change: dict[str, object]
) -> None:
    answer = await equipped.http.post(
        "/api/silences",
        json={**SILENCE, **change},
        headers=bearer(equipped.settings.operator_token),
    )
    assert answer.status_code == 422
    assert beside.asked == []


async def test_a_refusal_of_alertmanager_is_passed_on_in_its_words(
    equipped: Fleet, beside: Beside
) -> None:
    beside.answers["/api/v2/silences"] = (400, "end time can't be in the past")

    answer = await equipped.http.post(
        "/api/silences", json=SILENCE, headers=bearer(equipped.settings.operator_token)
    )

    assert answer.status_code == 502
    assert "in the past" in answer.json()["detail"]


async def test_a_service_that_is_away_is_named(fleet: Fleet) -> None:
    alerts = await fleet.read("/api/alerts")
    logs = await fleet.read("/api/devices/pi-01/logs")

    assert (alerts.status_code, logs.status_code) == (503, 503)
    assert alerts.json()["detail"] == "Alertmanager does not answer."
    assert logs.json()["detail"] == "Loki is not part of this node's stack."


async def test_logs_are_the_devices_own_newest_first(equipped: Fleet, beside: Beside) -> None:
    streams = [
        {"stream": {"unit": "ssh"}, "values": [["1795435200000000000", "older"]]},
        {"stream": {"unit": "cron"}, "values": [["1795435260000000000", "newer"]]},
    ]
    beside.answers["/loki/api/v1/query_range"] = (200, {"data": {"result": streams}})

    answer = await equipped.read("/api/devices/pi-01/logs", contains='a "quoted" \\ text')

    assert [item["line"] for item in answer.json()["items"]] == ["newer", "older"]
    assert answer.json()["items"][0]["labels"] == {"unit": "cron"}
    [(_, path, _)] = beside.asked
    query = parse_qs(urlsplit(path).query)
    assert query["query"] == ['{device="pi-01"} |= "a \\"quoted\\" \\\\ text"']
    assert query["direction"] == ["backward"]


async def test_nodes_are_shown_even_when_one_does_not_answer(
    equipped: Fleet, beside: Beside
) -> None:
    own, peer = (await equipped.read("/api/nodes")).json()["nodes"]

    assert (own["node"], own["self"]) == ("vps-01", True)
    assert own["status"] == {"leader": True, "epoch": None}
    assert (peer["node"], peer["self"], peer["status"]) == ("vps-02", False, None)
    assert peer["error"] == "The agent of vps-02 does not answer."


async def test_prometheus_finds_every_enrolled_device_that_has_an_address(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    await fleet.enrol("pi-01", address="100.64.0.7", tags=["north", "camera"])
    await fleet.enrol("pi-02", address="fd7a:115c:a1e0::7")
    await fleet.enrol("pi-03")
    await fleet.enrol("pi-04", address="pi-04.tailnet.example")
    sql.execute("UPDATE devices SET retired_at = now() WHERE id = 'pi-04'")

    answer = await fleet.http.get("/sd/devices", params={"port": 9100})

    assert answer.json() == [
        {"targets": ["100.64.0.7:9100"], "labels": {"device": "pi-01", "tags": ",camera,north,"}},
        {"targets": ["[fd7a:115c:a1e0::7]:9100"], "labels": {"device": "pi-02", "tags": ""}},
    ]


async def test_metrics_count_the_fleet_and_say_when_each_device_was_seen(
    fleet: Fleet, sql: psycopg.Connection
) -> None:
    token = await fleet.enrol("pi-01")
    await fleet.enrol("pi-02")
    await fleet.report(token, status="critical")

    text = (await fleet.http.get("/metrics")).text

    assert 'overlord_fleet_devices{online="true",status="critical"} 1.0' in text
    assert 'overlord_fleet_devices{online="false",status="none"} 1.0' in text
    assert 'overlord_fleet_devices{online="true",status="ok"} 0.0' in text
    assert 'overlord_device_seen_timestamp_seconds{device="pi-02"}' in text
    sql.execute("UPDATE devices SET retired_at = now() WHERE id = 'pi-02'")
    assert 'device="pi-02"' not in (await fleet.http.get("/metrics")).text
