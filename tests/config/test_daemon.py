"""The sandbox's Docker daemon as the tests share it, in a sandbox of its own."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.machines.daemon import Daemon, mounts_below
from sandbox.world import World
from tests.support.programs import docker_daemon


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The daemon of another sandbox than the one that the other tests use."""
    with tempfile.TemporaryDirectory(prefix="daemon-", dir="/tmp") as folder:
        monkeypatch.setenv("OVERLORD_CACHE", folder)
        daemon = Daemon(World.here())
        yield daemon
        daemon.stop()


def mounts(world: World) -> list[Path]:
    return mounts_below([world.docker_runtime], Path("/proc/self/mountinfo").read_text())


def on_the_hosts_network(daemon: Daemon) -> None:
    """Begin a container there: there is nothing in it to run, but Docker mounts for it."""
    image = daemon.world.cache / "empty.tar"
    tarfile.open(image, "w").close()
    daemon.docker("import", image, "empty")
    assert not daemon.docker.succeeds("run", "--rm", "--network=host", "empty", "/nothing")


def test_the_last_to_leave_stops_the_daemon_and_nothing_of_it_stays_mounted(
    daemon: Daemon,
) -> None:
    first, last = docker_daemon(), docker_daemon()
    with last:
        with first:
            on_the_hosts_network(daemon)
        assert daemon.answers()
        assert mounts(daemon.world)
    assert not daemon.answers()
    assert mounts(daemon.world) == []


def test_the_daemon_of_a_sandbox_that_is_up_is_left_running(daemon: Daemon) -> None:
    with docker_daemon():
        daemon.world.tokens.touch()
    assert daemon.answers()
