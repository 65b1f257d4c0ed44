"""Our own Docker daemon.

It never shares one with the machine: no chain of iptables, no default bridge, no image and no
setting of another daemon is touched, and ``destroy`` may remove everything it finds inside.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from sandbox.commands import SandboxError, run, succeeds
from sandbox.machines.processes import Processes
from sandbox.world import World

PROCESS = "dockerd"
START_SECONDS = 60
STOP_SECONDS = 30
LONGEST_SOCKET_PATH = 107


def cgroup_parent(world: World) -> str:
    """Name the control group of all servers of this world."""
    return f"overlord-{hashlib.sha256(os.fsencode(world.cache)).hexdigest()[:8]}"


def daemon_command(world: World) -> list[str]:
    """Build the command line of dockerd."""
    runtime = world.docker_runtime
    return [
        "dockerd",
        f"--config-file={runtime / 'daemon.json'}",
        f"--data-root={world.docker_data}",
        f"--exec-root={runtime / 'exec'}",
        f"--pidfile={runtime / 'docker.pid'}",
        f"--host=unix://{world.docker_socket}",
        # Servers have no way out and need no translation of addresses: network.py has the rules.
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{cgroup_parent(world)}",
        "--shutdown-timeout=5",
    ]


class Docker:
    """The client, bound to our daemon."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.env = {
            "DOCKER_HOST": f"unix://{world.docker_socket}",
            "DOCKER_CONFIG": str(world.docker_runtime / "client"),
            "DOCKER_BUILDKIT": "0",  # the classic builder is all that Debian's package has
        }

    def __call__(
        self, *arguments: str | Path, stdin: str | None = None, seconds: float = 120
    ) -> str:
        """Run a command of the client and return its output without the last newline."""
        return run(["docker", *arguments], env=self.env, stdin=stdin, seconds=seconds).strip()

    def succeeds(self, *arguments: str) -> bool:
        """Tell whether a command of the client ends well."""
        return succeeds(["docker", *arguments], env=self.env)

    def lines(self, *arguments: str) -> list[str]:
        """Run a command and return its lines of output."""
        return self(*arguments).splitlines()

    def image_label(self, image: str, label: str) -> str | None:
        """Return a label of a local image; None if there is no such image or label."""
        template = f'{{{{index .Config.Labels "{label}"}}}}'
        try:
            return self("image", "inspect", "--format", template, image) or None
        except SandboxError:
            return None


class Daemon:
    """Starts and stops dockerd."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes = Processes(world)
        self.docker = Docker(world)

    def answers(self) -> bool:
        """Tell whether the daemon is of use."""
        return self.world.docker_socket.exists() and self.docker.succeeds("version")

    def start(self) -> None:
        """Start the daemon unless it runs, and wait until it answers."""
        length = len(os.fsencode(self.world.docker_socket))
        if length > LONGEST_SOCKET_PATH:
            raise SandboxError(
                f"{self.world.docker_socket} is {length} bytes long, a socket's path may have "
                f"{LONGEST_SOCKET_PATH}",
                "set OVERLORD_CACHE to a folder with a shorter path",
            )
        runtime = self.world.docker_runtime
        (runtime / "client").mkdir(parents=True, exist_ok=True)
        # Else dockerd reads the machine's own /etc/docker/daemon.json.
        (runtime / "daemon.json").write_text("{}\n")
        if not self.processes.find(PROCESS):
            self.clear_leftovers()
        self.processes.start(PROCESS, daemon_command(self.world))
        self.processes.wait(PROCESS, self.answers, START_SECONDS)

    def stop(self) -> None:
        """Stop the daemon; containers that still run end with it, and nothing stays mounted."""
        self.processes.stop(PROCESS, STOP_SECONDS)
        self.clear_leftovers()

    def clear_leftovers(self) -> None:
        """Take away what a daemon left running, mounted and written.

        One that ends well leaves a mount, one that was killed leaves everything. A new daemon would
        believe the files, and wait for the old one's containers in vain.
        Servers are off after this; their disks and the images are untouched.
        """
        runtime = self.world.docker_runtime
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                # containerd and its shims name the folder in their arguments.
                if any(str(runtime / "exec") in word for word in process.cmdline()):
                    process.kill()
        remove_cgroups(self.world)
        unmount_leftovers(self.world)
        (runtime / "docker.pid").unlink(missing_ok=True)
        shutil.rmtree(runtime / "exec", ignore_errors=True)

    def remove_everything(self) -> None:
        """Remove containers, volumes and networks. Images stay: they are the cache."""
        docker = self.docker
        if containers := docker.lines("ps", "--all", "--quiet"):
            docker("rm", "--force", "--volumes", *containers, seconds=300)
        if volumes := docker.lines("volume", "ls", "--quiet"):
            docker("volume", "rm", "--force", *volumes)
        if networks := docker.lines("network", "ls", "--quiet", "--filter", "type=custom"):
            docker("network", "rm", *networks)


def mounts_below(folders: Sequence[Path], mountinfo: str) -> list[Path]:
    """Pick the mount points below the folders from /proc/self/mountinfo, deepest first."""
    points = [
        Path(line.split()[4].encode().decode("unicode_escape")) for line in mountinfo.splitlines()
    ]
    found = {point for point in points if any(point.is_relative_to(folder) for folder in folders)}
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def unmount_leftovers(world: World) -> None:
    """Unmount what a daemon left mounted."""
    folders = [world.docker_data, world.docker_runtime]
    for point in mounts_below(folders, Path("/proc/self/mountinfo").read_text()):
        succeeds(["umount", "--lazy", point])


def remove_cgroups(world: World, seconds: float = 10) -> None:
    """End whatever a killed daemon left running, then remove the control groups themselves."""
    deadline = time.monotonic() + seconds
    for parent in Path("/sys/fs/cgroup").glob(f"**/{cgroup_parent(world)}"):
        while (left := _processes_in(parent)) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        for folder, _, _ in os.walk(parent, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def _processes_in(group: Path) -> list[int]:
    found: list[int] = []
    for file in group.rglob("cgroup.procs"):
        with suppress(OSError):
            found += [int(pid) for pid in file.read_text().split()]
    return found
