"""From the queue to the server: what is acknowledged is there, once, in order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from device.agent.overlord_device.backoff import Backoff
from device.agent.overlord_device.clock import ServerTime
from device.agent.overlord_device.queue import DAY_S, Event, Queue
from device.agent.overlord_device.sender import MAX_BATCH, Sender
from device.agent.overlord_device.transport import HttpClient
from tests.unit.device.fakes import FakeClock, FakeServer, make_status, serving


class Device:
    """A queue and a sender on a simulated clock."""

    def __init__(self, folder: Path, clock: FakeClock, server: FakeServer) -> None:
        self.clock = clock
        self.server = server
        self.folder = folder
        self.made: list[str] = []
        self._start()

    def restart(self) -> None:
        """The process starts anew; what it knew in memory is gone."""
        self.queue.close()
        self._start()

    def _start(self) -> None:
        self.server_time = ServerTime(self.clock)
        self.queue = Queue(self.folder / "queue.db", self.clock, self.server_time)
        draw = random.Random(1).uniform
        self.sender = Sender(
            self.queue,
            HttpClient(timeout_s=5.0),
            self.server.url,
            "token-of-the-test",
            self.clock,
            self.server_time,
            backoff=Backoff(uniform=draw),
            uniform=draw,
        )

    def report(self, count: int = 1, *, trusted: bool = True) -> list[Event]:
        events = []
        for _ in range(count):
            event = make_status(self.clock, trusted=trusted)
            self.queue.put(event)
            self.made.append(event.event_id)
            events.append(event)
            self.clock.advance(60)
        return events

    def drain(self, steps: int = 100_000) -> list[float]:
        """Send until nothing waits; returns the waits."""
        waits: list[float] = []
        for _ in range(steps):
            wait = self.sender.step()
            if wait is None:
                return waits
            waits.append(wait)
            self.clock.advance(wait)
        raise AssertionError(f"{self.queue.counts().waiting} still wait after {steps} steps")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server(clock: FakeClock) -> Iterator[FakeServer]:
    with serving(clock) as server:
        yield server


@pytest.fixture
def device(tmp_path: Path, clock: FakeClock, server: FakeServer) -> Device:
    return Device(tmp_path, clock, server)


def test_a_status_goes_out_as_the_api_wants_it(device: Device, server: FakeServer) -> None:
    device.report()
    device.drain()
    request = server.requests[0]
    assert request["path"] == "/api/status"
    assert request["headers"]["Authorization"] == "Bearer token-of-the-test"
    assert request["headers"]["User-Agent"].startswith("overlord-device/")
    assert server.ids == device.made


def test_nothing_leaves_the_queue_before_it_is_acknowledged(
    device: Device, server: FakeServer
) -> None:
    device.report(3)
    for answer in (
        (200, b"<html>It works!</html>"),
        (200, {}),
        (200, {"event_id": "another", "result": "recorded"}),
        (200, {"event_id": device.made[0], "result": "perhaps"}),
        (500, {}),
        (502, b"bad gateway"),
        (301, b""),
        (401, {"detail": "The token is not valid."}),
        (403, {"detail": "The token belongs to another device."}),
        (404, b""),
        (408, b""),
        (429, b""),
        (503, b""),
    ):
        server.behaviour.answer = answer
        for _ in range(2):
            wait = device.sender.step()
            assert wait is not None
        assert device.queue.counts().waiting == 3, answer
    server.behaviour.answer = None
    device.drain()
    assert server.ids == device.made


def test_a_week_offline_is_replayed_in_order_with_nothing_lost_or_doubled(
    device: Device, server: FakeServer
) -> None:
    server.behaviour.away = True
    server.behaviour.drop_before = 0.1
    server.behaviour.drop_after = 0.1
    server.behaviour.answer_twice = 0.1
    server.behaviour.busy = 0.1
    device.queue._database().execute("PRAGMA synchronous=OFF")  # 10,000 fsyncs are not the subject
    for minute in range(7 * 1440 - 5):
        device.report()
        if minute % 500 == 0:
            device.sender.step()
        if minute % 2000 == 1999:
            device.restart()
            device.queue._database().execute("PRAGMA synchronous=OFF")
    assert device.queue.counts().waiting == len(device.made) == 10_075
    server.behaviour.away = False
    device.drain()
    assert len(server.rows) == len(device.made)
    assert len(set(server.ids)) == len(device.made)
    assert server.ids == device.made
    counts = device.queue.counts()
    assert counts.acknowledged_total == len(device.made)
    assert counts.waiting == counts.refused_total == counts.dropped_expired_total == 0


def test_longer_than_a_week_offline_loses_only_what_is_older_and_says_how_much(
    device: Device, server: FakeServer
) -> None:
    server.behaviour.away = True
    device.queue._database().execute("PRAGMA synchronous=OFF")
    device.report(300)
    device.clock.advance(7 * DAY_S - 100 * 60)
    device.queue.expire()
    server.behaviour.away = False
    device.drain()
    counts = device.queue.counts()
    assert counts.dropped_expired_total + counts.refused_total + len(server.rows) == 300
    assert len(server.rows) == pytest.approx(100, abs=2)
    assert server.ids == device.made[-len(server.rows) :]


def test_a_server_without_batches_gets_the_replay_one_by_one(
    device: Device, server: FakeServer
) -> None:
    server.behaviour.batches = False
    device.report(150)
    device.drain()
    assert server.ids == device.made
    assert len(server.requests) == 151  # the one batch that told, then singles


def test_one_bad_status_does_not_hold_up_the_others(device: Device, server: FakeServer) -> None:
    events = device.report(30)
    server.behaviour.poison = {events[7].event_id}
    device.drain()
    assert server.ids == [e.event_id for e in events if e.event_id != events[7].event_id]
    assert device.queue.counts().refused_total == 1
    [(event_id, _, reason)] = device.queue.refused(5)
    assert event_id == events[7].event_id
    assert reason.startswith("invalid: ")


def test_a_batch_too_large_is_halved(device: Device, server: FakeServer) -> None:
    server.behaviour.max_batch_bytes = 1500
    device.report(MAX_BATCH)
    device.drain()
    assert server.ids == device.made


def test_replay_is_compressed_and_in_batches(device: Device, server: FakeServer) -> None:
    device.report(3 * MAX_BATCH)
    device.drain()
    assert server.ids == device.made
    assert len(server.requests) <= 6
    assert server.requests[0]["headers"]["Content-Encoding"] == "gzip"


def test_retry_after_is_honoured(device: Device, server: FakeServer) -> None:
    server.behaviour.busy = 1.0
    server.behaviour.retry_after = "47"
    device.report()
    for _ in range(3):
        wait = device.sender.step()
        assert wait is not None
        assert wait >= 47
    server.behaviour.busy = 0.0
    device.drain()
    assert server.ids == device.made


def test_a_server_away_is_logged_once_and_again_when_it_is_back(
    device: Device, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server.behaviour.away = True
    device.report()
    for _ in range(5):
        device.sender.step()
        device.clock.advance(10)
    assert caplog.text.count("not delivered") == 1
    assert "not delivered" not in device.queue.notes()["last_error"]
    server.behaviour.away = False
    device.drain()
    assert "answers again" in caplog.text
    assert device.queue.notes()["last_error"] == ""


@pytest.mark.parametrize("error", [3600.0, -3600.0])
def test_a_clock_an_hour_off_is_put_right_by_the_server_to_the_second(
    device: Device, server: FakeServer, clock: FakeClock, error: float
) -> None:
    clock.wall_error = error
    server.behaviour.away = True
    truth = []
    for _ in range(20):
        truth.append(clock.true)
        device.report(trusted=False)
    clock.wall_error = 0.0  # the time service sets it before anything could be sent
    server.behaviour.away = False
    device.drain()
    assert server.ids == device.made
    assert [row["observed"] for row in server.rows] == pytest.approx(truth, abs=1.5)


@pytest.mark.parametrize("error", [3 * DAY_S, -3 * DAY_S, -50 * 365 * DAY_S])
def test_a_clock_days_off_still_gets_its_statuses_through(
    device: Device, server: FakeServer, clock: FakeClock, error: float
) -> None:
    clock.wall_error = error
    truth = []
    for _ in range(20):
        truth.append(clock.true)
        device.report(trusted=False)
    device.drain()
    device.report(trusted=False)
    device.drain()
    assert server.ids == device.made
    assert [row["observed"] for row in server.rows][:20] == pytest.approx(truth, abs=2.5)
    assert all(row["metrics"]["clock_corrected"] == 1.0 for row in server.rows)
    assert device.queue.counts().refused_total == 0


def test_a_corrected_time_is_kept_so_that_a_lost_acknowledgement_doubles_nothing(
    device: Device, server: FakeServer, clock: FakeClock
) -> None:
    clock.wall_error = -3 * DAY_S
    device.report(3, trusted=False)
    device.server_time.learn(formatdate(clock.true, usegmt=True))
    server.behaviour.drop_after = 1.0
    for seconds in (1.25, 0.5, 90.75):
        device.sender.step()
        clock.advance(seconds)
        device.server_time.learn(formatdate(clock.true, usegmt=True))
    device.restart()
    server.behaviour.drop_after = 0.0
    device.drain()
    assert server.ids == device.made


def test_right_stamps_survive_a_reboot_into_a_wrong_clock(
    device: Device, server: FakeServer, clock: FakeClock
) -> None:
    truth = [clock.true]
    device.report(trusted=True)
    clock.reboot()
    clock.wall_error = -3600.0
    device.restart()
    truth.append(clock.true)
    device.report(trusted=False)
    # From an answer before, since without one nothing tells that this boot's clock is wrong.
    device.server_time.learn(formatdate(clock.true, usegmt=True))
    device.drain()
    assert [row["observed"] for row in server.rows] == pytest.approx(truth, abs=2.5)


def test_an_acknowledgement_lost_on_the_way_leads_to_a_duplicate_that_is_dropped(
    device: Device, server: FakeServer
) -> None:
    device.report(5)
    server.behaviour.drop_after = 1.0
    device.sender.step()
    device.restart()
    device.clock.advance(3600)
    server.behaviour.drop_after = 0.0
    device.drain()
    assert server.ids == device.made


def test_a_new_epoch_has_what_was_acknowledged_sent_again(
    device: Device, server: FakeServer
) -> None:
    device.report(10)
    device.drain()
    # The standby takes over and lacks the last three that the old primary acknowledged.
    lost = server.rows[-3:]
    for row in lost:
        server.rows.remove(row)
        server.keys.remove((row["device_id"], row["event_time"], row["event_id"]))
    server.behaviour.epoch = 2
    device.report()
    device.drain()
    assert sorted(server.ids) == sorted(device.made)
    assert len(server.ids) == 11
    before = len(server.requests)
    device.restart()
    device.report()
    device.drain()
    assert len(server.requests) == before + 1  # the same epoch: nothing is repeated


def test_an_epoch_that_changed_while_the_agent_was_down_is_noticed(
    device: Device, server: FakeServer
) -> None:
    device.report(4)
    device.drain()
    device.restart()
    server.rows.clear()
    server.keys.clear()
    server.behaviour.epoch = 2
    device.report()
    device.drain()
    assert sorted(server.ids) == sorted(device.made)


def test_the_first_epoch_seen_repeats_nothing(device: Device, server: FakeServer) -> None:
    server.behaviour.epoch = None
    device.report(5)
    device.drain()
    server.behaviour.epoch = 7
    device.report(2)
    device.drain()
    assert len(server.requests) == 2


def test_an_unreadable_record_is_put_aside_and_the_rest_goes_on(
    device: Device, server: FakeServer
) -> None:
    broken = make_status(device.clock)
    device.queue.put(Event(**{**vars(broken), "body": "{"}))
    device.report(2)
    device.drain()
    assert server.ids == device.made
    assert device.queue.counts().refused_total == 1
