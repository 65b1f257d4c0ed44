"""The agent and the simulator against the real API on a real PostgreSQL."""

from __future__ import annotations

import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvicorn

from dashboard.api.app import create_app
from dashboard.api.models import StatusReport
from dashboard.api.settings import DatabaseSettings, Settings
from dashboard.migrate import MigrationSettings, migrate
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
from tests.support.agent import FakeAgent, running_agent
from tests.support.postgres import running_postgres
from tests.unit.device.fakes import FakeClock


@dataclass
class Api:
    url: str
    enrol_token: str
    database: str
    agent: FakeAgent

    def rows(self, device: str = "%") -> list[tuple[Any, ...]]:
        with psycopg.connect(host=self.database, user="postgres", dbname="overlord") as sql:
            return sql.execute(
                "SELECT device_id, event_id::text, observed_at, clock_skew_seconds"
                " FROM status_history WHERE device_id LIKE %s ORDER BY observed_at",
                [device],
            ).fetchall()


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running_postgres() as postgres, running_agent() as agent:
        migration = MigrationSettings(
            host=str(postgres.socket),
            superuser_password=secrets.token_hex(16),
            app_password=secrets.token_hex(16),
            replication_password=secrets.token_hex(16),
            monitor_password=secrets.token_hex(16),
            gitea_password=secrets.token_hex(16),
        )
        assert migrate(migration)
        settings = Settings(
            node="vps-01",
            peer="vps-02",
            listen_host="127.0.0.1",
            listen_port=0,
            agent_url=agent.url,
            peer_agent_url="http://127.0.0.1:1",
            alertmanager_url="http://127.0.0.1:1",
            loki_url=None,
            database=DatabaseSettings(
                host=migration.host, password=migration.app_password, pool_size=4
            ),
            enrol_token=secrets.token_urlsafe(24),
            operator_token=secrets.token_urlsafe(24),
        )
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started:
                assert time.monotonic() < deadline, "the API did not start"
                time.sleep(0.02)
            yield Api(
                f"http://127.0.0.1:{listener.getsockname()[1]}",
                settings.enrol_token,
                migration.host,
                agent,
            )
        finally:
            server.should_exit = True
            thread.join()
            listener.close()


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
