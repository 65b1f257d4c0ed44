"""The device agent as a process of its own, on a clock that a test sets, and faster than life.

``python -m tests.support.device_process SETTINGS CLOCK PERIOD`` runs the agent of the package; its
clock, the length of its period and of its waits are all that differs from ``overlord-device run``.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

from device.agent.overlord_device import sender
from device.agent.overlord_device.backoff import Backoff
from device.agent.overlord_device.service import Agent
from device.agent.overlord_device.settings import load


@dataclass
class ClockFile:
    """What the test says about time.

    Args:
        wall_error: seconds that the wall clock is ahead of the truth.
        boot_id: another one after each power cut.
        booted: when this boot began, on the machine's own time since boot.
        behind: seconds that the whole of time is behind the machine's. The sampler does not wait
            while it is: it sleeps its periods away at once, until simulated time is real time.
        resting: the sampler makes one status at its start, and none after it.
    """

    wall_error: float = 0.0
    boot_id: str = "boot-1"
    booted: float = 0.0
    behind: float = 0.0
    resting: bool = False

    def write(self, path: Path) -> None:
        """Replace the file whole: the agent reads it at any moment."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)))
        new.replace(path)

    @classmethod
    def read(cls, path: Path) -> ClockFile:
        """What the file says now."""
        return cls(**json.loads(path.read_text()))


class FileClock:
    """The agent's clock, as the file has it at each look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def _now(self) -> tuple[ClockFile, float]:
        with self._lock:
            file = ClockFile.read(self._path)
        return file, time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        file, _ = self._now()
        return time.time() - file.behind + file.wall_error

    def boottime(self) -> float:
        file, boottime = self._now()
        return boottime - file.booted - file.behind

    def boot_id(self) -> str:
        return self._now()[0].boot_id

    def synchronised(self) -> bool | None:
        return None

    def resting(self) -> bool:
        """Whether no more statuses are to be made."""
        return self._now()[0].resting

    def skip(self, seconds: float) -> bool:
        """Let simulated time pass at once; False when it is real time already."""
        with self._lock:
            file = ClockFile.read(self._path)
            if file.behind <= 0.0:
                return False
            file.behind = max(0.0, file.behind - seconds)
            file.write(self._path)
            return True


class HurriedAgent(Agent):
    """Sleeps the sampler's periods away while its clock is behind."""

    def _sleep(self, name: str, wait_s: float, wake: threading.Event) -> None:
        assert isinstance(self._clock, FileClock)
        if name == "sampler" and self._clock.skip(wait_s):
            return
        resting = name == "sampler" and self._clock.resting()
        super()._sleep(name, 3600.0 if resting else wait_s, wake)


def main() -> int:
    """Run the agent until it is told to stop, or killed."""
    settings, clock, period = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # Waits of minutes make a torture of hours. Their lengths have tests of their own.
    quick = functools.partial(Backoff, 0.05, 0.4)
    with mock.patch.multiple(sender, Backoff=quick, REPLAY_PAUSE_S=0.05):
        agent = HurriedAgent(replace(load(settings), period_s=period), FileClock(clock))
        signal.signal(signal.SIGTERM, lambda *_: agent.stop())
        agent.run()
    return 0


if __name__ == "__main__":
    os.environ["NO_PROXY"] = "*"
    sys.exit(main())
