"""What a fault is made of: steps as data, carried out by `chaos.hands`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verb = Literal["poweroff", "poweron", "reboot", "reset"]


@dataclass(frozen=True)
class OnNode:
    """A command as root on a node."""

    node: str
    argv: tuple[str, ...]


def shell(node: str, *lines: str) -> OnNode:
    """Lines of a shell that ends at the first one that fails."""
    return OnNode(node, ("sh", "-ec", "\n".join(lines)))


@dataclass(frozen=True)
class Power:
    """An action of the server's own power button, at Hetzner."""

    node: str
    verb: Verb


@dataclass(frozen=True)
class Freeze:
    """Stop every process of a node, or let them go on."""

    node: str
    frozen: bool


@dataclass(frozen=True)
class Vendor:
    """A vendor that misbehaves until the next FairWeather."""

    fault: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class FairWeather:
    """All vendors behave."""


@dataclass(frozen=True)
class WipeArbiter:
    """The arbiter loses its storage and starts again."""


@dataclass(frozen=True)
class Pause:
    """Let time pass between two steps, in seconds."""

    seconds: float


Step = OnNode | Power | Freeze | Vendor | FairWeather | WipeArbiter | Pause


@dataclass(frozen=True)
class Place:
    """Where a fault happens.

    Args:
        victim: the node that it happens to, and `other` the one that it does not.
        addresses: public addresses by node, IPv4 and IPv6.
        arbiter: address and port of the arbiter.
    """

    victim: str
    other: str
    addresses: Mapping[str, tuple[str, ...]]
    arbiter: tuple[str, int]
