"""The long-running programs of the sandbox: started with a log, stopped by process id."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from sandbox.commands import SandboxError, tail
from sandbox.world import World

MARKER = "OVERLORD_SANDBOX_STATE"
"""Environment variable that names the state folder in every process that the sandbox starts.

It finds what a pid file misses: a child of a killed parent, or a process whose starter was killed
before it could write the file.
"""


class Processes:
    """The processes of one world, by name."""

    def __init__(self, world: World) -> None:
        self.world = world

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start a process in its own session, unless it runs already. Output goes to its log."""
        if self.find(name):
            return
        self.world.processes.mkdir(parents=True, exist_ok=True)
        log = self.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            started = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {}), MARKER: str(self.world.state)},
                cwd=cwd,
                start_new_session=True,
            )
        created = psutil.Process(started.pid).create_time()
        record = {"pid": started.pid, "created": created, "argv": [str(word) for word in argv]}
        self._record(name).write_text(json.dumps(record))

    def find(self, name: str) -> psutil.Process | None:
        """Return the process if it runs. A process id that was given away again does not count."""
        try:
            record = json.loads(self._record(name).read_text())
            process = psutil.Process(record["pid"])
            # The clock may be set while the process runs, and its age shifts by as much.
            same = abs(process.create_time() - record["created"]) < 2
            alive = same and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
            return None
        return process if alive else None

    def log(self, name: str) -> Path:
        """Return the file that the process writes to."""
        return self.world.log / f"{name}.log"

    def names(self) -> list[str]:
        """Name every process that was started and not stopped, dead ones included."""
        return sorted(file.stem for file in self.world.processes.glob("*.json"))

    def wait(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until the process is of use. Raises SandboxError if it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.find(name):
                raise self._failure(name, "ended while starting")
            if time.monotonic() > deadline:
                raise self._failure(name, f"was not ready within {seconds:.0f} s")
            time.sleep(0.1)

    def stop(self, name: str, seconds: float = 10) -> None:
        """End a process: first politely, then by force."""
        process = self.find(name)
        if process:
            _end(process, seconds)
        self._record(name).unlink(missing_ok=True)

    def strays(self) -> Iterator[psutil.Process]:
        """Find every process that carries this world's marker, whoever its parent is."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARKER) == str(self.world.state):
                    yield process

    def other_worlds(self) -> set[str]:
        """Name the state folders of other sandboxes that are up on this machine."""
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                state = process.environ().get(MARKER)
                if state and state != str(self.world.state) and Path(state, "tokens.json").exists():
                    found.add(state)
        return found

    def stop_strays(self, seconds: float = 5) -> int:
        """End whatever of this world still runs, this process aside. Returns how many."""
        strays = [process for process in self.strays() if process.pid != os.getpid()]
        for process in strays:
            _end(process, seconds)
        return len(strays)

    def _failure(self, name: str, what: str) -> SandboxError:
        log = self.log(name)
        lines = tail(log.read_text(errors="replace")) if log.exists() else ""
        return SandboxError(
            f"{name} {what}. Its last lines:\n{lines}", f"read {log}, then run `make up` again"
        )

    def _record(self, name: str) -> Path:
        return self.world.processes / f"{name}.json"


def _end(process: psutil.Process, seconds: float) -> None:
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        if not _ended(process, seconds):
            process.kill()
            _ended(process, seconds)


def _ended(process: psutil.Process, seconds: float) -> bool:
    """Wait for the end of a process. psutil would wait for its parent, too, to take note of it."""
    deadline = time.monotonic() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
