"""Servers that run for a measurement, and what they use of the machine."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

START_SECONDS = 30.0

_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Server:
    """A process and all that it started.

    Args:
        pid: of the process.
    """

    pid: int

    def cpu_seconds(self) -> float:
        """Processor time so far, user and system, with that of children that have ended."""
        root = psutil.Process(self.pid)
        ended = root.cpu_times()
        total = ended.children_user + ended.children_system
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory_bytes(self) -> int:
        """Memory of its own: neither files nor what PostgreSQL's processes share."""
        root = psutil.Process(self.pid)
        total = 0
        for process in (root, *root.children(recursive=True)):
            with suppress(FileNotFoundError, ProcessLookupError):
                found = _ANONYMOUS.search(Path(f"/proc/{process.pid}/status").read_text())
                total += int(found[1]) * 1024 if found else 0
        return total


@contextmanager
def process(module: str, port: int, env: dict[str, str], log: Path) -> Iterator[Server]:
    """A server of this repository that listens on a port of loopback."""
    with log.open("w") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(port, running, log)
        yield Server(running.pid)
    finally:
        running.terminate()
        running.wait(timeout=20)


def _wait_for(port: int, running: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and running.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise click.ClickException(f"nothing answers on port {port}:\n{log.read_text()[-2000:]}")
