"""Gathers the facts of a node."""

import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from overlord.errors import OverlordError
from overlord.facts import certificate, postgres, system
from overlord.facts.logins import Logins, read_logins
from overlord.facts.processes import out_of_place
from overlord.facts.services import (
    Container,
    DockerUnavailableError,
    ExpectedService,
    read_containers,
    trouble,
)
from overlord.facts.system import Disk, Memory
from overlord.facts.tailnet import Tailnet, read_tailnet
from overlord.integrity import FileCheck, read_file_check
from overlord.journal import BootState, read_boot_state
from overlord.layout import expected_of
from overlord.node import Role, read_boot_settings, read_node
from overlord.paths import Paths
from overlord.releases import Event, Releases, cut_short
from overlord.runner import Runner


@dataclass(frozen=True)
class SlowFacts:
    """What changes slowly or costs a process to find out."""

    tailnet: Tailnet
    clock_synchronised: bool | None
    """None when nobody can say."""
    container: bool
    """This machine shares its kernel and clock with a host."""
    firewall: bool
    """Whether ufw's rules are in the kernel."""
    metadata_guarded: bool
    certificate_days: float | None
    certificate_source: str | None
    """acme, origin or self-signed; None before the first."""
    certificate_error: str | None
    """Why the last renewal failed."""
    reboot_required: bool
    logins: Logins | None
    """None while fail2ban does not answer."""
    processes_out_of_place: tuple[str, ...]
    file_check: FileCheck | None
    """None before the first."""


@dataclass(frozen=True)
class Facts(SlowFacts):
    """A node at one moment."""

    time: float
    """Seconds since the epoch."""
    node: str
    peer: str
    role: Role
    environment: str
    public_name: str
    release: str | None
    boot: BootState
    expected: tuple[ExpectedService, ...]
    containers: tuple[Container, ...]
    docker: bool
    """Whether dockerd answers."""
    postgres: bool
    disk: Disk
    memory: Memory
    last_change: Event | None
    cut_short: str | None
    """Release whose apply did not come to its end."""
    compose_address: str | None = None
    """Tailnet address that the stack was started with."""
    errors: tuple[str, ...] = field(default=())
    """Facts that could not be had, and why."""

    @property
    def service_trouble(self) -> dict[str, str]:
        """What is wrong, by service."""
        return trouble(self.expected, self.containers)

    def as_json(self) -> dict[str, Any]:
        """For people and programs."""
        return {**asdict(self), "service_trouble": self.service_trouble}


def observe_slow(paths: Paths, runner: Runner) -> SlowFacts:
    """Facts that cost a process each; about 0.2 s."""
    container = system.is_container(runner)
    return SlowFacts(
        tailnet=read_tailnet(runner),
        # A container has no clock of its own to keep.
        clock_synchronised=None if container else system.clock_synchronised(runner),
        container=container,
        firewall=system.firewall_up(runner),
        metadata_guarded=system.metadata_guarded(runner),
        certificate_days=certificate.days_left(paths.shown_certificate, datetime.now(UTC)),
        certificate_source=certificate.shown_source(paths),
        certificate_error=certificate.last_error(paths),
        reboot_required=(paths.root / "run/reboot-required").exists(),
        logins=read_logins(runner),
        processes_out_of_place=out_of_place(paths.root),
        file_check=read_file_check(paths),
    )


def observe(paths: Paths, slow: SlowFacts) -> Facts:
    """All facts. A fact that cannot be had is in `errors`, and the rest is there."""
    errors: list[str] = []
    name, peer, environment, public_name = "", "", "", ""
    role: Role = "standby"
    expected: tuple[ExpectedService, ...] = ()
    try:
        boot = read_boot_settings(paths)
        name = boot.node
        node = read_node(paths, boot)
        peer, role = node.peer, node.role
        environment, public_name = node.environment, node.public_name
        expected = expected_of(paths, name)
    except OverlordError as error:
        errors.append(error.what)
    containers: tuple[Container, ...] = ()
    docker = True
    try:
        containers = read_containers(paths.docker_socket)
    except DockerUnavailableError as error:
        docker = False
        errors.append(str(error))
    releases = Releases(paths)
    history = releases.history()
    return Facts(
        **vars(slow),
        time=time.time(),
        node=name,
        peer=peer,
        role=role,
        environment=environment,
        public_name=public_name,
        release=releases.current(),
        boot=read_boot_state(paths),
        expected=expected,
        containers=containers,
        docker=docker,
        postgres=postgres.answers(paths.database_socket),
        disk=system.read_disk(paths.root / "var/lib/docker"),
        memory=system.read_memory(paths.root),
        last_change=history[-1] if history else None,
        cut_short=cut_short(paths),
        compose_address=_compose_address(paths),
        errors=tuple(errors),
    )


def _compose_address(paths: Paths) -> str | None:
    try:
        return paths.compose_env.read_text().strip().partition("=")[2] or None
    except OSError:
        return None
