"""What a killed Pulumi left: locks on the sandbox's stacks, and plugins without an engine.

Pulumi's file backend keeps a lock as a file that names the process, and a kill leaves it there. On
the sandbox's own machine it can be told whether that process still lives. The plugin that serves
dynamic providers does not notice that its engine is gone.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path

import psutil

from sandbox.world import World


def release_stale_locks(world: World) -> list[int]:
    """Remove the locks whose process is gone; returns the ids of those processes."""
    released = []
    for file in sorted(world.pulumi_state.glob(".pulumi/locks/**/*.json")):
        pid = holder(file)
        if pid is not None and not psutil.pid_exists(pid):
            file.unlink()
            released.append(pid)
    return released


def end_orphaned_plugins(world: World) -> list[int]:
    """End the sandbox's plugins whose engine is gone; returns their process ids."""
    plugin = str(world.bin / "pulumi-resource-")
    ended: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.startswith(plugin) for word in words[:2]) and not _has_engine(process):
            with suppress(psutil.NoSuchProcess):
                ended += [*process.children(recursive=True), process]
    for process in ended:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, deaf = psutil.wait_procs(ended, timeout=3)
    for process in deaf:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return [process.pid for process in ended]


def _has_engine(process: psutil.Process) -> bool:
    try:
        return any(parent.name() == "pulumi" for parent in process.parents())
    except psutil.NoSuchProcess:
        return False


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
