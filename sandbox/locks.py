"""Locks that a killed Pulumi left on the sandbox's stacks.

Pulumi's file backend keeps a lock as a file that names the process, and a kill leaves it there. On
the sandbox's own machine it can be told whether that process still lives.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

import psutil

from sandbox.world import World


def release_stale_locks(world: World) -> list[int]:
    """Remove the locks whose process is gone; returns the ids of those processes."""
    released = []
    for file in sorted((world.state / "pulumi").glob(".pulumi/locks/**/*.json")):
        pid = holder(file)
        if pid is not None and not psutil.pid_exists(pid):
            file.unlink()
            released.append(pid)
    return released


def holder(lock: Path) -> int | None:
    """The process on this machine that holds a lock, or None where the file does not say."""
    try:
        document = json.loads(lock.read_text())
    except (OSError, ValueError):
        return None
    if document.get("hostname") != socket.gethostname():
        return None
    pid = document.get("pid")
    return pid if isinstance(pid, int) else None
