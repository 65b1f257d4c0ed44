"""What a command costs: its time, and the work of all that it started."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ORPHANS_END_SECONDS = 10.0
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Args:
        wall: seconds from start to end.
        cpu: seconds of processor time, user and system, of the command and its descendants.
    """

    wall: float
    cpu: float


def cost_of(argv: list[str], *, env: Mapping[str, str], cwd: Path, timeout: float) -> Cost:
    """Run a command to its end, and add up what its processes used.

    A plugin that Pulumi ends loses its parent, and its time would be lost with it. So this process
    takes such orphans over, and waits for them too. It must have no other child meanwhile.

    Raises:
        RuntimeError: the command failed; with the end of its output.
        subprocess.TimeoutExpired: it took longer than `timeout` seconds.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, started = _used(), time.monotonic()
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    wall = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: code {done.returncode}\n{done.stdout[-2000:]}")
    _await_orphans(argv)
    return Cost(wall, _used() - before)


def _await_orphans(argv: list[str]) -> None:
    deadline = time.monotonic() + ORPHANS_END_SECONDS
    with suppress(ChildProcessError):  # there is none left
        while time.monotonic() < deadline:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                time.sleep(0.01)
        raise RuntimeError(f"{' '.join(argv)}: left a process behind that does not end")


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
