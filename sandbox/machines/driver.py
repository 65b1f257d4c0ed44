"""What the emulated cloud asks of whatever runs its servers.

The emulated Hetzner API decides *what* should exist; a driver makes it exist. Docker does so in
the sandbox (``docker.py``), a fake does so in the contract tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol


class MachineError(Exception):
    """A machine could not be created, changed or reached. The message names the machine."""


@dataclass(frozen=True)
class MachineSpec:
    """Everything needed to boot one server. Memory and disk are in GB."""

    id: int
    name: str
    server_type: str
    cores: int
    memory_gb: float
    disk_gb: int
    image: str
    """Image name as the vendor spells it, such as ``debian-12``."""
    location: str
    ipv4: str | None
    ipv6: str | None
    """The server's /64 network, in CIDR notation."""
    user_data: str
    ssh_keys: tuple[str, ...]
    """Public keys in OpenSSH's format."""
    labels: Mapping[str, str]


@dataclass(frozen=True)
class FirewallRule:
    """One inbound allow rule. What no rule allows is dropped."""

    protocol: Literal["tcp", "udp", "icmp", "esp", "gre"]
    port: str | None
    """A port (``"80"``) or a range (``"80-85"``); None for protocols without ports."""
    source_ips: tuple[str, ...]
    """Networks in CIDR notation."""


class MachineDriver(Protocol):
    """Calls may block; the caller runs them in a thread. They raise MachineError."""

    def create(self, spec: MachineSpec) -> None:
        """Create the machine and start it. Returns once started; the boot goes on by itself."""

    def delete(self, machine_id: int) -> None:
        """Remove the machine with its volumes. A machine that is gone already is no error."""

    def power_on(self, machine_id: int) -> None:
        """Start a machine that is off."""

    def power_off(self, machine_id: int) -> None:
        """Stop the machine at once, like pulling the plug."""

    def shutdown(self, machine_id: int) -> None:
        """Ask the machine to shut down (ACPI). Returns before it has."""

    def reboot(self, machine_id: int) -> None:
        """Reboot softly."""

    def reset(self, machine_id: int) -> None:
        """Reboot hard, like the reset button."""

    def state(self, machine_id: int) -> Literal["running", "off"]:
        """Tell whether the machine runs."""

    def set_firewall(self, machine_id: int, rules: tuple[FirewallRule, ...] | None) -> None:
        """Let in what the rules allow. No rules drop everything; None means no firewall."""

    def resize(self, machine_id: int, cores: int, memory_gb: float) -> None:
        """Change the limits of a machine."""
