"""What the sandbox needs of the machine it runs on."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from sandbox.commands import SandboxError, run
from sandbox.machines.docker import NEEDED, capabilities, own_bounding_set
from sandbox.world import World

GIB = 2**30
TUN = Path("/dev/net/tun")
DISK_TO_INSTALL = 20 * GIB
DISK_TO_RUN = 8 * GIB
MEMORY = 6 * GIB
APT_SECONDS = 900


@dataclass(frozen=True)
class Program:
    """A program of the distribution."""

    name: str
    package: str
    reason: str


PROGRAMS = (
    Program("dockerd", "docker.io", "runs servers as containers"),
    Program("docker", "docker.io", "runs servers as containers"),
    Program("docker-registry", "docker-registry", "serves images to the servers"),
    Program("mmdebstrap", "mmdebstrap", "makes the Debian that servers boot"),
    Program("iptables", "iptables", "keeps the servers' packets on this machine"),
    Program("ip", "iproute2", "routes and addresses of the servers' network"),
    Program("nsenter", "util-linux", "applies a firewall inside a server's network"),
    Program("npm", "npm", "fetches the runtime of Cloudflare Workers"),
    Program("ssh", "openssh-client", "logs in on a server"),
)


def missing_programs() -> list[Program]:
    """List what is not installed. System programs may be off an ordinary user's PATH."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return [program for program in PROGRAMS if not shutil.which(program.name, path=path)]


def install_programs(world: World, programs: list[Program]) -> None:
    """Install the packages of the programs with apt-get."""
    packages = sorted({program.package for program in programs})
    if not shutil.which("apt-get"):
        names = ", ".join(program.name for program in programs)
        raise SandboxError(f"these programs are missing: {names}", "install them and run it again")
    log = world.logs_of_install / "apt.log"
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        run(["apt-get", "-q", *arguments], env=env, log=log, seconds=APT_SECONDS)


def check_machine(world: World, disk: int) -> None:
    """Raise SandboxError where this machine cannot run the sandbox; `disk` in bytes."""
    if platform.system() != "Linux":
        raise SandboxError(
            f"the sandbox boots Linux containers, this is {platform.system()}",
            "run it on a Linux machine or in a virtual one",
        )
    if os.geteuid():
        raise SandboxError(
            "the sandbox makes networks and starts a Docker daemon, which takes root",
            "run it with sudo, or as root on a machine of its own",
        )
    if lacking := NEEDED - set(capabilities(own_bounding_set())):
        raise SandboxError(
            f"root lacks capabilities here: {', '.join(sorted(lacking))}",
            "leave the container this runs in, or start that with more capabilities",
        )
    if not TUN.exists():
        raise SandboxError(f"{TUN} is missing, and the tailnet needs it", "run `modprobe tun`")
    world.cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(world.cache).free
    if free < disk:
        raise SandboxError(
            f"{world.cache} has {free / GIB:.1f} GiB free, {disk / GIB:.0f} are needed",
            "free some, or set OVERLORD_CACHE to a folder on a larger disk",
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory < MEMORY:
        raise SandboxError(
            f"this machine has {memory / GIB:.1f} GiB of memory, the pair needs {MEMORY / GIB:.0f}",
            "use a larger machine",
        )
