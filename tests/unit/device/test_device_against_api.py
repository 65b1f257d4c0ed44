"""The agent and the simulator against the real API on a real PostgreSQL."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dashboard.api.models import StatusReport
from device.agent.overlord_device import enrol, wire
from device.agent.overlord_device.backoff import Backoff
from device.agent.overlord_device.clock import ServerTime
from device.agent.overlord_device.facts import read_facts
from device.agent.overlord_device.queue import DAY_S, Queue
from device.agent.overlord_device.report import make_event
from device.agent.overlord_device.sender import Sender
from device.agent.overlord_device.settings import load
from device.agent.overlord_device.transport import HttpClient, Reply, TransportError
from device.simulator.fleet import Plan, play
from device.simulator.recorder import read_record
from device.simulator.verify import compare_csv
from tests.support.api import Api
from tests.unit.device.fakes import FakeClock


class UnreliableClient(HttpClient):
    """Loses requests before they arrive and answers after they were given."""

    def __init__(self) -> None:
        super().__init__(timeout_s=20.0)
        self.faults = random.Random(7)

    def request(self, method: str, url: str, **options: Any) -> Reply:
        if self.faults.random() < 0.1:
            raise TransportError("cut before")
        reply = super().request(method, url, **options)
        if self.faults.random() < 0.1:
            raise TransportError("cut after")
        return reply


class Agent:
    """The agent's parts on a simulated clock, enrolled at the real API."""

    def __init__(self, folder: Path, api: Api, device_id: str, clock: FakeClock) -> None:
        path = folder / "agent.conf"
        path.write_text(
            f"[agent]\nserver = {api.url}\ndevice_id = {device_id}\nstate_dir = {folder}\n"
        )
        settings = load(path)
        enrol.enrol(settings, api.enrol_token, HttpClient(), replace=False)
        self.clock = clock
        self.device_id = device_id
        self.server_time = ServerTime(clock)
        self.queue = Queue(settings.queue_file, clock, self.server_time)
        draw = random.Random(3).uniform
        self.sender = Sender(
            self.queue,
            UnreliableClient(),
            api.url,
            enrol.read_token(settings),
            clock,
            self.server_time,
            backoff=Backoff(uniform=draw),
            uniform=draw,
        )
        self.made: list[str] = []

    def report(self) -> None:
        event = make_event(
            self.device_id,
            read_facts(Path("/")),
            self.queue.counts(),
            "v1",
            1,
            self.clock,
            self.server_time,
        )
        self.queue.put(event)
        self.made.append(event.event_id)

    def drain(self) -> None:
        while self.sender.step() is not None:
            pass


def test_what_the_agent_sends_fits_the_apis_model(tmp_path: Path) -> None:
    clock = FakeClock()
    server_time = ServerTime(clock)
    queue = Queue(tmp_path / "queue.db", clock, server_time)
    event = make_event("pi-01", read_facts(tmp_path), queue.counts(), "v1", 1, clock, server_time)
    report = StatusReport.model_validate(wire.encode(event, clock, server_time))
    assert str(report.event_id) == event.event_id
    assert report.metrics["cpu_count"] >= 1
    assert wire.MAX_SKEW_S == DAY_S


@pytest.mark.parametrize(("device_id", "error"), [("pi-right", 0.0), ("pi-hour", -3600.0)])
def test_a_week_offline_reaches_the_database_whole_and_once(
    tmp_path: Path, api: Api, device_id: str, error: float
) -> None:
    now = time.time()
    clock = FakeClock(now - 7 * DAY_S + 600, error)
    device = Agent(tmp_path, api, device_id, clock)
    truth = []
    for _ in range(300):
        truth.append(clock.true)
        device.report()
        clock.advance(2010)
    clock.true = now
    device.drain()
    rows = api.rows(device_id)
    assert [row[1] for row in rows] == device.made
    # The real time goes on while the simulated one stands, so within seconds and not to the ms.
    assert [row[2].timestamp() for row in rows] == pytest.approx(truth, abs=20.0)
    assert all(abs(row[3] - error) < 20.0 for row in rows)
    counts = device.queue.counts()
    assert counts.acknowledged_total == 300
    assert counts.waiting == counts.refused_total == 0


def test_a_change_of_epoch_has_kept_statuses_sent_again_and_stores_none_twice(
    tmp_path: Path, api: Api
) -> None:
    clock = FakeClock(time.time())
    device = Agent(tmp_path, api, "pi-epoch", clock)
    api.agent.epoch = 1
    time.sleep(1.1)  # the API believes the agent's last answer for a second
    for _ in range(5):
        device.report()
        device.drain()
    with psycopg.connect(host=api.database, user="postgres", dbname="overlord") as sql:
        sql.execute(
            "DELETE FROM status_history WHERE device_id = 'pi-epoch' AND event_id = ANY(%s)",
            [device.made[3:5]],
        )
    api.agent.epoch = 2
    time.sleep(1.1)
    device.report()
    device.drain()
    api.agent.epoch = None
    assert sorted(row[1] for row in api.rows("pi-epoch")) == sorted(device.made)


async def test_a_simulated_fleet_is_stored_whole_and_once(tmp_path: Path, api: Api) -> None:
    plan = Plan(
        api.url,
        devices=25,
        duration_s=3.0,
        period_s=60.0,
        speed=200.0,
        outage_share=0.4,
        skew_s=3000.0,
        duplicate_share=0.1,
        shuffle=True,
        drain_s=40.0,
    )
    said: list[str] = []
    stats = await play(plan, api.enrol_token, tmp_path, say=said.append)
    export = tmp_path / "rows.csv"
    export.write_text("".join(f"{row[0]},{row[1]}\n" for row in api.rows("sim-%")))
    verdict = compare_csv(read_record(tmp_path / "record.jsonl"), export)
    assert verdict.good, verdict.report()
    assert verdict.acknowledged == stats.counts["statuses made"] == 250
    assert "p99" in said[-1]
