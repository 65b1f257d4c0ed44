"""The programs that check rendered files: from the cache, from PATH, or from a sandbox image."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from sandbox.lifecycle import alone
from sandbox.machines.daemon import Daemon
from sandbox.progress import Progress
from sandbox.world import World

SERVER = "overlord-sandbox/server:debian-12"
# Where a program that this machine lacks can be borrowed from: image, and path in it.
_IMAGES = {
    "nginx": ("overlord-sandbox/rootfs-services:latest", "/usr/sbin/nginx"),
    "cloud-init": (SERVER, "/usr/bin/cloud-init"),
    "sshd": (SERVER, "/usr/sbin/sshd"),
}


@functools.cache
def native(name: str) -> str | None:
    """Path of a program in the cache or on PATH."""
    places = [str(World.here().bin), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    return shutil.which(name, path=os.pathsep.join(places))


@contextmanager
def docker_daemon() -> Iterator[None]:
    """The sandbox's Docker daemon, for every process that is in such a block.

    The first to come starts it, the last to leave stops it, unless a sandbox is up.
    """
    world = World.here()
    daemon = Daemon(world)
    world.cache.mkdir(parents=True, exist_ok=True)
    # A lock goes with its process, so nobody who was killed is waited for.
    with (world.cache / "docker.users").open("w") as users:
        with _alone(world):
            if not daemon.answers():
                daemon.start()
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with _alone(world):
                if _nobody_else(users) and not world.tokens.exists():
                    daemon.stop()


def _alone(world: World) -> AbstractContextManager[None]:
    """Meanwhile no command of the sandbox runs, and no other user comes or goes."""
    return alone(world, Progress(Console()))


def _nobody_else(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def command(name: str, *arguments: str | Path, folder: Path | None = None) -> list[str]:
    """The command line of a program; fails the test where there is none.

    Args:
        name: name of the program.
        arguments: what it is given.
        folder: folder that it reads and writes, under the same path in a container.
    """
    words = [str(argument) for argument in arguments]
    if path := native(name):
        return [path, *words]
    world = World.here()
    if name not in _IMAGES or not Daemon(world).answers():
        pytest.fail(
            f"{name} is neither in {world.bin} nor on PATH, and no sandbox image has it. "
            "`make install` brings it."
        )
    image, path = _IMAGES[name]
    return [
        *("docker", f"--host=unix://{world.docker_socket}", "run", "--rm", "--network=host"),
        *(() if folder is None else (f"--volume={folder}:{folder}",)),
        # sshd wants its folder, and wants it to be root's.
        "--tmpfs=/run/sshd:mode=0755",
        f"--entrypoint={path}",
        image,
        *words,
    ]


def check(name: str, *arguments: str | Path, folder: Path | None = None) -> str:
    """Run a program; what it says, when it is content, and a failed test when it is not."""
    line = command(name, *arguments, folder=folder)
    result = subprocess.run(line, capture_output=True, text=True, check=False, timeout=90)
    output = result.stdout + result.stderr
    assert result.returncode == 0, f"{name} {' '.join(map(str, arguments))}\n{output}"
    return output


@contextmanager
def running(line: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs for as long as the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        if process.poll() is None:
            process.kill()
            process.wait()
