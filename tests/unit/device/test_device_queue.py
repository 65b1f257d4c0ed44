"""The queue on disk."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from device.agent.overlord_device.queue import DAY_S, MAX_IN_MEMORY
from tests.unit.device.fakes import FakeClock, make_queue, make_status

ROOT = Path(__file__).resolve().parents[3]

WRITER = """
import sys
from pathlib import Path
from tests.unit.device.fakes import FakeClock, make_queue, make_status
clock = FakeClock()
queue = make_queue(Path(sys.argv[1]), clock)
while True:
    event = make_status(clock)
    assert queue.put(event)
    sys.stdout.write("put " + event.event_id + "\\n")
    sys.stdout.flush()
    if clock.true % 3 == 0:
        first = queue.waiting(1)[0]
        queue.acknowledge([first.event_id])
        sys.stdout.write("ack " + first.event_id + "\\n")
        sys.stdout.flush()
    clock.advance(1)
"""


def test_what_was_put_before_a_kill_is_there_after_it_every_time(tmp_path: Path) -> None:
    put: list[str] = []
    acknowledged: set[str] = set()
    for round_number in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(20 + 7 * round_number)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.wait()
        for line in lines:
            word, _, event_id = line.rstrip("\n").partition(" ")
            if len(event_id) != 36:
                continue  # cut by the kill: never promised to anybody
            if word == "put":
                put.append(event_id)
            else:
                acknowledged.add(event_id)

        queue = make_queue(tmp_path, FakeClock())
        waiting = [event.event_id for event in queue.waiting(100_000)]
        queue.close()
        # The writer may have been killed between the commit and its word about it.
        expected = [event_id for event_id in put if event_id not in acknowledged]
        told = set(put)
        assert [e for e in waiting if e in told and e not in acknowledged] == [
            e for e in expected if e in set(waiting)
        ]
        missing = set(expected) - set(waiting)
        assert len(missing) <= round_number + 1  # acknowledged, then killed before saying so
        with sqlite3.connect(tmp_path / "queue.db") as db:
            states = dict(db.execute("SELECT event_id, state FROM events"))
        assert all(states[event_id] == 1 for event_id in missing)
        assert all(states[event_id] == 1 for event_id in acknowledged)
        assert told <= set(states)
    assert len(put) > 200


def test_statuses_come_out_in_the_order_they_went_in_even_when_the_clock_jumps_back(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    ids = []
    for jump in (0.0, 3600.0, -7200.0, 0.0, -400 * DAY_S):
        clock.wall_error = jump
        event = make_status(clock)
        queue.put(event)
        ids.append(event.event_id)
        clock.advance(60)
    assert [event.event_id for event in queue.waiting(10)] == ids


def test_the_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    queue.put(make_status(clock))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    queue.close()


def test_a_commit_is_synced_to_disk(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, FakeClock())
    assert queue._database().execute("PRAGMA synchronous").fetchone()[0] == 2
    assert queue._database().execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_status_older_than_seven_days_is_dropped_and_counted(tmp_path: Path) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    for _ in range(3):
        queue.put(make_status(clock))
    clock.advance(7 * DAY_S - 10)
    queue.put(make_status(clock))
    assert queue.expire() == 0
    clock.advance(20)
    assert queue.expire() == 3
    assert queue.counts().dropped_expired_total == 3
    assert queue.counts().waiting == 1


@pytest.mark.parametrize("jump", [400 * DAY_S, -400 * DAY_S, 3600.0])
def test_a_clock_that_jumps_drops_nothing(tmp_path: Path, jump: float) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock, keep_acknowledged_s=3600.0)
    for _ in range(5):
        queue.put(make_status(clock))
    queue.acknowledge([queue.waiting(1)[0].event_id])
    clock.wall_error = jump
    clock.reboot()
    assert queue.expire() == 0
    assert queue.counts().waiting == 4
    assert queue.counts().acknowledged_kept == 1


def test_after_a_reboot_ages_count_once_the_clock_is_known_to_be_right(tmp_path: Path) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    queue.put(make_status(clock, trusted=True))
    queue.put(make_status(clock, trusted=False))
    clock.reboot(after_s=8 * DAY_S)
    assert queue.expire() == 0
    clock.time_service = True
    assert queue.expire() == 1  # the one whose own stamp can be believed


def test_the_queue_is_bounded_by_number_and_the_oldest_go_first(tmp_path: Path) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock, max_waiting=50)
    events = [make_status(clock) for _ in range(60)]
    for event in events:
        queue.put(event)
    assert queue.expire() == 10
    assert [e.event_id for e in queue.waiting(100)] == [e.event_id for e in events[10:]]
    assert queue.counts().dropped_overflow_total == 10


def test_the_queue_is_bounded_on_disk_and_gives_up_what_was_delivered_first(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    bound = 256 * 1024
    queue = make_queue(tmp_path, clock, max_bytes=bound)
    delivered = [make_status(clock, padding=1000) for _ in range(60)]
    for event in delivered:
        queue.put(event)
    queue.acknowledge(event.event_id for event in delivered)
    wanted = [make_status(clock, padding=1000) for _ in range(100)]
    assert all(queue.put(event) for event in wanted)
    assert queue.counts().dropped_overflow_total == 0
    assert len(queue.waiting(1000)) == 100
    for _ in range(300):
        assert queue.put(make_status(clock, padding=1000))
    counts = queue.counts()
    assert counts.bytes_on_disk <= bound
    assert counts.waiting + counts.dropped_overflow_total == 400
    assert counts.dropped_overflow_total > 0
    queue.close()
    assert (tmp_path / "queue.db").stat().st_size <= bound


def test_a_full_disk_keeps_statuses_in_memory_and_saves_them_once_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    first = make_status(clock)
    assert queue.put(first)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow past its present size: what a full disk looks like to a writer.
    resource.setrlimit(resource.RLIMIT_FSIZE, (_largest(tmp_path), hard))
    try:
        while queue.put(make_status(clock, padding=3000)):
            pass
        held = make_status(clock)
        assert not queue.put(held)
        assert queue.counts().in_memory == 2
        assert queue.waiting(1000)[-1].event_id == held.event_id
        assert queue.waiting(1)[0].event_id == first.event_id
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "held in memory" in caplog.text
    assert queue.put(make_status(clock))
    assert queue.counts().in_memory == 0
    ids = [event.event_id for event in queue.waiting(1000)]
    queue.close()
    again = make_queue(tmp_path, clock)
    assert [event.event_id for event in again.waiting(1000)] == ids
    assert held.event_id in ids


def _largest(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.iterdir())


def test_a_disk_that_is_full_for_long_costs_the_oldest_in_memory_and_they_are_counted(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    other = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    queue._database().execute("PRAGMA busy_timeout=0")
    other.execute("BEGIN IMMEDIATE")
    for _ in range(MAX_IN_MEMORY + 5):
        assert not queue.put(make_status(clock))
    assert queue.counts().in_memory == MAX_IN_MEMORY
    assert queue.counts().dropped_overflow_total == 5
    other.execute("ROLLBACK")
    other.close()
    assert queue.put(make_status(clock))
    assert queue.counts().in_memory == 0
    assert queue.counts().dropped_overflow_total == 5
    queue.close()
    assert make_queue(tmp_path, clock).counts().dropped_overflow_total == 5


def test_acknowledged_in_memory_is_not_sent_again(tmp_path: Path) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    other = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    queue._database().execute("PRAGMA busy_timeout=0")
    other.execute("BEGIN IMMEDIATE")
    held = make_status(clock)
    queue.put(held)
    queue.acknowledge([held.event_id])
    other.execute("ROLLBACK")
    other.close()
    queue.put(make_status(clock))
    assert held.event_id not in [event.event_id for event in queue.waiting(10)]
    assert queue.counts().acknowledged_total == 1


def test_a_damaged_database_is_set_aside_and_the_agent_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "queue.db").write_bytes(os.urandom(8192))
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    assert queue.put(make_status(clock))
    assert (tmp_path / "queue.db.damaged").exists()
    assert "damaged" in caplog.text


def test_a_command_that_looks_at_a_damaged_queue_leaves_it_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_bytes(os.urandom(8192))
    queue = make_queue(tmp_path, FakeClock(), owner=False)
    assert queue.waiting(1) == []
    assert queue.counts().waiting == 0
    assert not (tmp_path / "queue.db.damaged").exists()


def test_a_database_damaged_while_running_is_set_aside_too(tmp_path: Path) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    for _ in range(200):
        queue.put(make_status(clock, padding=500))
    queue._database().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    queue._database().execute("PRAGMA cache_size=0")
    with (tmp_path / "queue.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(40_000))
    queue.waiting(1000)
    last = make_status(clock)
    assert queue.put(last)
    assert [event.event_id for event in queue.waiting(1000)] == [last.event_id]
    assert (tmp_path / "queue.db.damaged").exists()


def test_acknowledged_statuses_wait_again_when_asked_for_since_a_moment(tmp_path: Path) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    events = []
    for _ in range(10):
        events.append(make_status(clock))
        queue.put(events[-1])
        clock.advance(60)
    queue.acknowledge(event.event_id for event in events)
    assert queue.waiting(10) == []
    assert queue.resend_since(events[6].wall) == 4
    assert [e.event_id for e in queue.waiting(10)] == [e.event_id for e in events[6:]]


def test_acknowledged_statuses_are_kept_for_a_day_and_then_let_go(tmp_path: Path) -> None:
    clock = FakeClock()
    clock.time_service = True
    queue = make_queue(tmp_path, clock)
    queue.put(make_status(clock))
    queue.acknowledge([queue.waiting(1)[0].event_id])
    clock.advance(DAY_S - 60)
    queue.expire()
    assert queue.counts().acknowledged_kept == 1
    clock.advance(120)
    queue.expire()
    assert queue.counts().acknowledged_kept == 0
    assert queue.counts().acknowledged_total == 1


def test_a_queue_that_cannot_be_opened_starts_in_memory_and_moves_to_disk_later(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    blocked = tmp_path / "queue.db"
    blocked.mkdir()
    queue = make_queue(tmp_path, clock)
    assert not queue.put(make_status(clock))
    assert queue.counts().waiting == 1
    blocked.rmdir()
    assert queue.put(make_status(clock))
    assert queue.counts().in_memory == 0
    assert queue.counts().waiting == 2


def test_a_week_of_statuses_takes_less_than_half_of_the_default_bound(tmp_path: Path) -> None:
    clock = FakeClock()
    queue = make_queue(tmp_path, clock)
    queue._database().execute("PRAGMA synchronous=OFF")  # the test's disk is not the subject
    for _ in range(1000):
        queue.put(make_status(clock, padding=300))
    size = queue.counts().bytes_on_disk
    assert size / 1000 * 10_080 < 16 * 1024 * 1024
