"""The agent's process, killed, unplugged and cut off, before the real API on a real PostgreSQL.

What is shown is shown by count: what the agent's own queue calls acknowledged is in the database,
each once, and what it made and did not have to drop by age is there in the end.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import random
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from device.agent.overlord_device.enrol import enrol
from device.agent.overlord_device.queue import DAY_S
from device.agent.overlord_device.settings import load
from device.agent.overlord_device.transport import HttpClient
from tests.support.api import ROOT, Api
from tests.support.device_process import ClockFile
from tests.support.rough_line import FAULTS, RoughLine, rough_line

SEED = 20261127


@dataclass(frozen=True)
class Kept:
    """What is in the queue's file.

    Args:
        states: state of each status by its id, in the order in which they were made.
        made: how many were ever put there.
        totals: the agent's own counts.
    """

    states: dict[str, int]
    made: int
    totals: dict[str, int]

    def of_state(self, state: int) -> list[str]:
        return [event_id for event_id, one in self.states.items() if one == state]


WAITING, ACKNOWLEDGED, REFUSED = 0, 1, 2


class TornDevice:
    """A device whose process, power and clock are in the test's hands."""

    def __init__(self, folder: Path, api: Api, line: RoughLine, device_id: str) -> None:
        self.folder = folder
        self.device_id = device_id
        self._api = api
        self._settings = folder / "agent.conf"
        self._settings.write_text(
            f"[agent]\nserver = {api.url}\ndevice_id = {device_id}\nstate_dir = {folder}\n"
        )
        enrol(load(self._settings), api.enrol_token, HttpClient(), replace=False)
        self._settings.write_text(
            f"[agent]\nserver = {line.url}\ndevice_id = {device_id}\nstate_dir = {folder}\n"
        )
        self.clock_path = folder / "clock.json"
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.set_clock()

    def clock(self) -> ClockFile:
        return ClockFile.read(self.clock_path)

    def set_clock(self, **changes: float | str) -> None:
        file = self.clock() if self.clock_path.exists() else ClockFile()
        dataclasses.replace(file, **changes).write(self.clock_path)  # type: ignore[arg-type]

    def start(self, period_s: float) -> None:
        module = [sys.executable, "-m", "tests.support.device_process"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*module, self._settings, self.clock_path, str(period_s)], cwd=ROOT, stderr=log
            )

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def unplug(self) -> None:
        """A power cut and the boot after it. The files are as they were: see the power cut's own
        test for what a disk forgets."""
        self.kill()
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.set_clock(boot_id=str(uuid.uuid4()), booted=now - self.clock().behind)

    def end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(30) == 0, self.log.read_text()[-3000:]

    def end_when_nothing_waits(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.kept().of_state(WAITING):
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.2)
        self.end()

    def kept(self) -> Kept:
        """Read beside the running agent, as its own commands do."""
        with contextlib.closing(sqlite3.connect(self.folder / "queue.db", timeout=30)) as db:
            states = dict(db.execute("SELECT event_id, state FROM events ORDER BY seq"))
            made = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0]
            totals = dict(db.execute("SELECT key, value FROM meta WHERE key LIKE 'total_%'"))
        return Kept(states, made, {key[6:]: int(value) for key, value in totals.items()})

    def stored(self) -> list[str]:
        """What the database has, in the order in which it came."""
        rows = self._api.sql(
            "SELECT event_id::text FROM status_history WHERE device_id = %s"
            " ORDER BY received_at, observed_at",
            self.device_id,
        )
        return [row[0] for row in rows]


@pytest.mark.timeout(300)
def test_killed_unplugged_and_lied_to_at_any_moment_it_loses_and_doubles_nothing(
    tmp_path: Path, api: Api
) -> None:
    draw = random.Random(SEED)
    ends: collections.Counter[str] = collections.Counter()
    with rough_line(api.url, SEED) as line:
        device = TornDevice(tmp_path, api, line, "pi-torn")
        line.chance = 0.5
        known: set[str] = set()
        for _ in range(40):
            device.start(period_s=0.05)
            time.sleep(draw.uniform(0.2, 1.3))
            end = draw.choice(["killed", "killed", "unplugged", "cut off", "clock set"])
            ends[end] += 1
            if end == "unplugged":
                device.unplug()
            elif end == "cut off":
                line.cut()
                time.sleep(draw.uniform(0.1, 0.5))
                device.kill()
                line.connect()
            else:
                if end == "clock set":
                    device.set_clock(wall_error=draw.choice([0.0, 3600.0, -3600.0]))
                    time.sleep(draw.uniform(0.1, 0.5))
                device.kill()
            if (tmp_path / "queue.db").exists():
                kept = device.kept()
                assert known <= kept.states.keys()
                assert set(kept.of_state(ACKNOWLEDGED)) <= set(device.stored())
                known = set(kept.states)
        line.chance = 0.0
        device.set_clock(wall_error=0.0)
        device.start(period_s=0.05)
        device.end_when_nothing_waits(60)

    kept, stored = device.kept(), device.stored()
    print(f"{kept.made} statuses made, {len(stored)} stored; {dict(ends)}; {dict(line.met)}")
    assert sorted(stored) == sorted(kept.states)
    assert set(kept.states.values()) == {ACKNOWLEDGED}
    assert kept.totals == {"acknowledged": kept.made}
    assert kept.made == len(kept.states) > 100
    assert set(FAULTS) <= set(line.met)
    assert "Traceback" not in device.log.read_text()


@pytest.mark.timeout(300)
def test_cut_off_for_eight_days_it_brings_the_last_seven_and_counts_the_rest(
    tmp_path: Path, api: Api
) -> None:
    draw = random.Random(SEED)
    with rough_line(api.url, SEED) as line:
        device = TornDevice(tmp_path, api, line, "pi-week")
        # Its clock is an hour behind the truth all the while.
        device.set_clock(behind=8 * DAY_S, wall_error=-3600.0)
        line.cut()
        device.start(period_s=60.0)
        for days_left in sorted(draw.uniform(0.2, 7.8) for _ in range(3))[::-1]:
            _until(device, days_left * DAY_S)
            device.kill()
            device.start(period_s=60.0)
        _until(device, 0.0)
        device.kill()
        away = device.kept()
        assert len(away.of_state(WAITING)) == len(away.states)

        line.chance = 0.2
        line.connect()
        device.start(period_s=60.0)
        device.end_when_nothing_waits(150)

    kept, stored = device.kept(), device.stored()
    print(f"{kept.made} made in 8 days: {kept.totals}; {len(stored)} stored; {dict(line.met)}")
    acknowledged = kept.of_state(ACKNOWLEDGED)
    assert stored == acknowledged
    assert len(stored) == kept.totals["acknowledged"] >= 10_079
    assert kept.made >= 8 * 1440
    # The server's word on one that turned seven days old on its way.
    late = kept.totals.get("refused", 0)
    assert late == len(kept.of_state(REFUSED)) <= 3
    assert kept.made == len(stored) + kept.totals["dropped_expired"] + late
    assert "dropped_overflow" not in kept.totals
    rows = api.rows("pi-week")
    assert all(abs(row[3] + 3600.0) < 30.0 for row in rows)
    times = [row[2] for row in rows]
    assert (times[-1] - times[0]).total_seconds() == pytest.approx(7 * DAY_S, abs=180)


def _until(device: TornDevice, behind_s: float) -> None:
    deadline = time.monotonic() + 120
    while device.clock().behind > behind_s:
        assert time.monotonic() < deadline, device.log.read_text()[-3000:]
        time.sleep(0.02)
