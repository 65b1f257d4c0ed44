"""The machine: disk, memory, clock, kind of host."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from overlord.runner import Command, Runner

DETECT_CONTAINER = Command(("systemd-detect-virt", "--container"), timeout=10, quiet=True)
CLOCK_SYNCHRONISED = Command(
    ("timedatectl", "show", "--property=NTPSynchronized", "--value"), timeout=10, quiet=True
)
FIREWALL_RULE = Command(
    ("iptables", "-w", "10", "-C", "INPUT", "-j", "ufw-before-input"), timeout=15, quiet=True
)
GUARD_RULE = Command(
    ("iptables", "-w", "10", "-C", "DOCKER-USER", "-d", "169.254.0.0/16", "-j", "REJECT"),
    timeout=15,
    quiet=True,
)


@dataclass(frozen=True)
class Disk:
    """Space of a filesystem, in bytes."""

    path: str
    total: int
    free: int
    """For unprivileged users, as df shows it."""

    @property
    def used_ratio(self) -> float:
        """0 to 1."""
        return 1 - self.free / self.total if self.total else 0.0


@dataclass(frozen=True)
class Memory:
    """Memory in bytes."""

    total: int
    available: int


def read_disk(path: Path) -> Disk:
    """Space of the filesystem that holds a path, or its nearest parent that exists."""
    while not path.exists():
        path = path.parent
    stat = os.statvfs(path)
    return Disk(str(path), stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize)


def read_memory(root: Path) -> Memory:
    """Memory of the machine."""
    return parse_memory((root / "proc/meminfo").read_text())


def parse_memory(text: str) -> Memory:
    """From /proc/meminfo, which counts in KiB."""
    fields = {
        name: int(amount) * 1024 for name, amount in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)
    }
    return Memory(fields.get("MemTotal", 0), fields.get("MemAvailable", 0))


def is_container(runner: Runner) -> bool:
    """Whether this machine shares its kernel, and so its clock and some sysctls, with a host."""
    return runner.run(DETECT_CONTAINER).code == 0


def clock_synchronised(runner: Runner) -> bool | None:
    """Whether the kernel says that the clock follows a time server; None if nobody can say."""
    result = runner.run(CLOCK_SYNCHRONISED)
    return {"yes": True, "no": False}.get(result.output.strip())


def firewall_up(runner: Runner) -> bool:
    """Whether ufw's rules are in the kernel."""
    return runner.run(FIREWALL_RULE).code == 0


def metadata_guarded(runner: Runner) -> bool:
    """Whether containers are kept from the metadata address."""
    return runner.run(GUARD_RULE).code == 0
