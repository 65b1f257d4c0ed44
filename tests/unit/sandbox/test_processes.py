"""Processes are found again, stopped by id, and never mistaken for another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sandbox.commands import SandboxError
from sandbox.machines.processes import Processes
from sandbox.world import World

SLEEP = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(60)"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(World(tmp_path))
    yield processes
    processes.stop_strays(seconds=2)


def test_a_process_runs_once_and_can_be_stopped(processes: Processes) -> None:
    processes.start("one", SLEEP)
    first = processes.find("one")
    processes.start("one", SLEEP)
    assert first is not None
    assert processes.find("one") == first
    processes.stop("one")
    assert processes.find("one") is None
    assert processes.names() == []


def test_waiting_ends_when_the_process_is_of_use(processes: Processes) -> None:
    processes.start("one", SLEEP)
    processes.wait("one", lambda: "awake" in processes.log("one").read_text(), 20)


def test_a_process_that_dies_while_starting_shows_its_last_words(processes: Processes) -> None:
    processes.start("one", [sys.executable, "-c", "raise SystemExit('no such colour')"])
    with pytest.raises(SandboxError, match="no such colour"):
        processes.wait("one", lambda: False, 20)


def test_an_id_that_was_given_away_again_is_not_stopped(processes: Processes) -> None:
    processes.start("one", SLEEP)
    record = processes.world.processes / "one.json"
    document = json.loads(record.read_text())
    victim = psutil.Process(document["pid"])
    record.write_text(json.dumps({**document, "created": document["created"] - 1000}))
    processes.stop("one")
    assert victim.is_running()


def test_a_process_without_a_record_is_found_by_its_marker(processes: Processes) -> None:
    processes.start("one", SLEEP)
    (processes.world.processes / "one.json").unlink()
    assert processes.find("one") is None
    assert processes.stop_strays(seconds=5) == 1
    assert not list(processes.strays())


def test_stopping_does_not_wait_for_the_parent_to_take_note_of_it(processes: Processes) -> None:
    start = (
        "import sys, time; from pathlib import Path;"
        "from sandbox.machines.processes import Processes; from sandbox.world import World;"
        "Processes(World(Path(sys.argv[1]))).start('one', sys.argv[2:]);"
        "print('started', flush=True); time.sleep(60)"
    )
    line = [sys.executable, "-c", start, str(processes.world.cache), *SLEEP]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"started\n"
            began = time.monotonic()
            processes.stop("one", seconds=20)
            assert time.monotonic() - began < 15
        finally:
            parent.kill()


def test_processes_of_others_are_left_alone(processes: Processes) -> None:
    other = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL, env=dict(os.environ))
    try:
        time.sleep(0.1)
        assert processes.stop_strays() == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_another_sandbox_that_is_up_is_seen(processes: Processes, tmp_path: Path) -> None:
    other = Processes(World(tmp_path / "other"))
    other.start("one", SLEEP)
    try:
        assert str(other.world.state) not in processes.other_worlds(), "no tokens: not up"
        other.world.tokens.write_text("{}")
        assert str(other.world.state) in processes.other_worlds()
        assert str(other.world.state) not in other.other_worlds()
    finally:
        other.stop_strays(seconds=2)
