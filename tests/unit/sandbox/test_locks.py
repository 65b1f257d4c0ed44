"""A lock goes with the Pulumi that was killed, and never before it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from sandbox.locks import release_stale_locks
from sandbox.world import World


def lock(world: World, name: str, pid: int, hostname: str) -> Path:
    folder = world.state / "pulumi" / ".pulumi" / "locks" / "organization" / "overlord" / "sandbox"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"pid": pid, "username": "u", "hostname": hostname}))
    return file


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lock_of_a_process_that_is_gone_is_released(tmp_path: Path) -> None:
    world = World(tmp_path)
    gone = ended_process()
    file = lock(world, "stale", gone, socket.gethostname())
    assert release_stale_locks(world) == [gone]
    assert not file.exists()


def test_a_lock_of_a_running_process_or_of_another_machine_stays(tmp_path: Path) -> None:
    world = World(tmp_path)
    files = [
        lock(world, "held", os.getpid(), socket.gethostname()),
        lock(world, "elsewhere", ended_process(), "another-machine"),
    ]
    damaged = files[0].with_name("damaged.json")
    damaged.write_text("{")
    assert release_stale_locks(world) == []
    assert all(file.exists() for file in [*files, damaged])
