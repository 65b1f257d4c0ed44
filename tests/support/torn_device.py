"""A device whose process, power, clock and disk are in a test's hands."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from device.agent.overlord_device.enrol import enrol
from device.agent.overlord_device.settings import load
from device.agent.overlord_device.transport import HttpClient
from tests.support.api import ROOT, Api
from tests.support.device_process import ClockFile
from tests.support.rough_line import RoughLine

WAITING, ACKNOWLEDGED, REFUSED = 0, 1, 2


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


class TornDevice:
    """The agent, enrolled at the API and reporting through the line.

    Args:
        folder: its state, its settings and its log.
    """

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

    def wait_for_statuses(self, number: int) -> None:
        """Until it has made so many more."""
        before = self.kept().made if self.queue_exists() else 0
        deadline = time.monotonic() + 60
        while not self.queue_exists() or self.kept().made < before + number:
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)

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

    def deliver(self, period_s: float, seconds: float) -> None:
        """Start once more, make a last status, send all that waits, and end."""
        made = self.kept().made
        self.set_clock(resting=True)
        self.start(period_s)
        deadline = time.monotonic() + seconds
        while (kept := self.kept()).made == made or kept.of_state(WAITING):
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.2)
        self.end()

    def queue_exists(self) -> bool:
        """Whether the agent has come so far as to make it."""
        path = self.folder / "queue.db"
        if not path.exists():
            return False
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as db:
            names = db.execute("SELECT name FROM sqlite_master").fetchall()
        return {("events",), ("meta",)} <= set(names)

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
