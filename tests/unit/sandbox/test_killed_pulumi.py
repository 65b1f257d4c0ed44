"""Locks and plugins go with the Pulumi that was killed, and never before it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from sandbox.killed_pulumi import end_orphaned_plugins, release_stale_locks
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


def started_plugin(world: World, engine: str | None) -> subprocess.Popen[bytes]:
    """A plugin that waits, below an engine of that program name or below none."""
    world.bin.mkdir(parents=True, exist_ok=True)
    plugin = world.bin / "pulumi-resource-test"
    plugin.write_text("#!/bin/sh\nsleep 60\n")
    plugin.chmod(0o755)
    if engine is None:
        return subprocess.Popen(["/bin/sh", plugin], start_new_session=True)
    shell = world.bin / engine
    shell.write_text(f"#!/bin/sh\n/bin/sh {plugin}\n:\n")
    shell.chmod(0o755)
    return subprocess.Popen([shell], start_new_session=True)


def test_a_plugin_without_an_engine_is_ended_with_its_children(tmp_path: Path) -> None:
    orphan = started_plugin(World(tmp_path), None)
    assert orphan.pid in end_orphaned_plugins(World(tmp_path))
    assert not psutil.pid_exists(orphan.pid)
    orphan.wait()


def test_a_plugin_of_a_running_engine_is_left_alone(tmp_path: Path) -> None:
    engine = started_plugin(World(tmp_path), "pulumi")
    try:
        deadline = time.monotonic() + 10
        while not psutil.Process(engine.pid).children(recursive=True):
            assert time.monotonic() < deadline, "the plugin did not start"
            time.sleep(0.01)
        assert end_orphaned_plugins(World(tmp_path)) == []
        assert engine.poll() is None
    finally:
        for process in psutil.Process(engine.pid).children(recursive=True):
            process.kill()
        engine.wait()
