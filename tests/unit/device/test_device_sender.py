"""From the queue to the server: what is acknowledged is there, once, in order."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.agent.overlord_device.backoff import Backoff
from device.agent.overlord_device.clock import ServerTime
from device.agent.overlord_device.queue import DAY_S, Event, Queue
from device.agent.overlord_device.sender import MAX_BATCH, Sender
from device.agent.overlord_device.transport import HttpClient, Reply
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


def test_a_disk_that_takes_nothing_does_not_have_the_same_statuses_sent_over_and_over(
    device: Device, server: FakeServer
) -> None:
    on_disk = device.report(3 * MAX_BATCH)
    server.behaviour.poison = {on_disk[5].event_id}
    other = sqlite3.connect(device.folder / "queue.db", isolation_level=None)
    device.queue._database().execute("PRAGMA busy_timeout=0")
    other.execute("BEGIN IMMEDIATE")
    device.report(2)
    device.drain()
    assert [report["event_id"] for report in _sent(server)] == device.made
    counts = device.queue.counts()
    assert (counts.waiting, counts.acknowledged_total, counts.refused_total) == (0, 601, 1)

    other.execute("ROLLBACK")
    other.close()
    device.report()
    device.drain()
    device.restart()
    counts = device.queue.counts()
    assert (counts.waiting, counts.acknowledged_total, counts.refused_total) == (0, 602, 1)
    assert len(_sent(server)) == len(server.rows) + 1 == 603


def test_a_kill_while_the_disk_takes_nothing_costs_a_second_post_and_nothing_else(
    device: Device, server: FakeServer
) -> None:
    device.report(5)
    other = sqlite3.connect(device.folder / "queue.db", isolation_level=None)
    device.queue._database().execute("PRAGMA busy_timeout=0")
    other.execute("BEGIN IMMEDIATE")
    device.drain()
    device.queue._drop_connection()  # no word of what was acknowledged reaches the disk
    other.execute("ROLLBACK")
    other.close()
    device._start()
    assert device.queue.counts().waiting == 5
    device.drain()
    assert server.ids == device.made
    assert device.queue.counts().acknowledged_total == 5


def _sent(server: FakeServer) -> list[dict[str, Any]]:
    return [
        report for one in server.requests for report in one["body"].get("reports", [one["body"]])
    ]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_that_is_not_the_apis_loses_nothing(
    device: Device, server: FakeServer, status: int
) -> None:
    """A captive portal, a proxy that is set up wrongly: it has no say in what is dropped."""
    device.report(2)
    for body in (b"<html>Sign in to the network</html>", {"detail": "No."}):
        server.behaviour.answer = (status, body)
        for _ in range(6):
            device.sender.step()
        assert device.queue.counts().waiting == 2
    server.behaviour.answer = None
    device.drain()
    assert server.ids == device.made


def test_what_is_sent_again_after_a_failover_is_counted_once(
    device: Device, server: FakeServer
) -> None:
    device.report(5)
    device.drain()
    server.behaviour.epoch = 2
    device.report(1)
    device.drain()
    assert len(_sent(server)) == 11
    assert device.queue.counts().acknowledged_total == 6


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_RECEIPTS = st.fixed_dictionaries(
    {},
    optional={
        "results": _JSON
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "event_id": st.sampled_from(["pi-01", ""]) | _JSON,
                    "result": st.sampled_from(["recorded", "refused", "no"]) | _JSON,
                    "reason": _JSON,
                },
            ),
            max_size=4,
        ),
        "event_id": _JSON,
        "result": st.sampled_from(["recorded", "duplicate", "refused"]) | _JSON,
        "epoch": _JSON,
        "watermark": _JSON | st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z"]),
        "reason": st.sampled_from(["invalid", "clock_off", ""]) | _JSON,
        "errors": _JSON,
        "detail": _JSON,
    },
)
_BODIES = (
    st.binary(max_size=60)
    | (_JSON | _RECEIPTS).map(lambda value: json.dumps(value).encode())
    | st.just(b"[" * 2000)
)
_HEADERS = st.dictionaries(
    st.sampled_from(["date", "retry-after"]),
    st.text(max_size=30)
    | st.sampled_from(["Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", "-1"]),
)


class _Answering(HttpClient):
    """Answers at once, without a server."""

    def __init__(self, replies: list[Reply]) -> None:
        super().__init__()
        self._replies = replies

    def request(self, method: str, url: str, **_: Any) -> Reply:
        return self._replies.pop(0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            Reply, st.sampled_from([200, 201, 204, 301, 401, 404, 429, 503]), _HEADERS, _BODIES
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_a_server_answers_the_sender_goes_on_and_lets_nothing_go(
    replies: list[Reply],
) -> None:
    """No id in these answers is one of the queue's, so none of them settles anything."""
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as folder:
        server_time = ServerTime(clock)
        queue = Queue(Path(folder) / "queue.db", clock, server_time)
        client = _Answering(list(replies))
        sender = Sender(queue, client, "https://fleet.example.com", "t", clock, server_time)
        for _ in range(3):
            queue.put(make_status(clock))
        for _ in replies:
            wait = sender.step()
            assert wait is not None
            assert 0.0 <= wait <= 4000.0
        assert queue.counts().waiting == 3
        queue.close()


def test_the_time_is_taken_from_the_api_alone(
    device: Device, server: FakeServer, clock: FakeClock
) -> None:
    """Else a gateway with a dead battery would have statuses stamped anew, and so doubled."""
    clock.advance(0.25)  # less than a Date can say
    device.report(2)
    server.behaviour.drop_after = 1.0
    device.sender.step()
    server.behaviour.drop_after = 0.0
    server.behaviour.answer = (502, b"<html>The router is starting</html>")
    server.behaviour.date_error = -400 * DAY_S
    device.sender.step()
    device.sender.step()
    server.behaviour.date_error = 0.0
    server.behaviour.answer = None
    device.drain()
    assert server.ids == device.made
    assert all("clock_corrected" not in row["metrics"] for row in server.rows)
