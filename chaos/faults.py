"""What can happen to the pair: each fault as data, carried out by `chaos.hands`.

A cut is made inside a node's own network namespace, below everything that runs there. Random loss
is iptables' `statistic` match, since kernels without netem have nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

CHAIN = "OVERLORD-CHAOS"
LOSS = 0.3
FREEZE_SECONDS = (25.0, 40.0)
"""Longer than any lease."""
HOLD_SECONDS = (15.0, 40.0)

Verb = Literal["poweroff", "poweron", "reboot", "reset"]


@dataclass(frozen=True)
class OnNode:
    """A command as root on a node."""

    node: str
    argv: tuple[str, ...]


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


Step = OnNode | Power | Freeze | Vendor | FairWeather


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


@dataclass(frozen=True)
class Fault:
    """Something that happens, and how it ends.

    Args:
        name: as the table shows it.
        begin: the steps that make it happen.
        end: the steps that end it; a fault that is over at once has none.
        hold: how long it lasts, in seconds, from and to.
    """

    name: str
    begin: Callable[[Place], Sequence[Step]]
    end: Callable[[Place], Sequence[Step]] = lambda _: ()
    hold: tuple[float, float] = (0.0, 0.0)


def _iptables(node: str, *rules: Sequence[str]) -> list[Step]:
    """Rules in a chain of our own, before everything else; both families."""
    steps: list[Step] = []
    for program in ("iptables", "ip6tables"):
        six = program == "ip6tables"
        mine = [rule for rule in rules if (":" in " ".join(rule)) == six]
        if not mine:
            continue
        steps.append(OnNode(node, (program, "-w", "-N", CHAIN)))
        steps += [OnNode(node, (program, "-w", "-A", CHAIN, *rule)) for rule in mine]
        steps += [
            OnNode(node, (program, "-w", "-I", way, "1", "-j", CHAIN))
            for way in ("INPUT", "OUTPUT")
        ]
    return steps


def _heal(node: str) -> list[Step]:
    script = "; ".join(
        f"{program} -w -D {way} -j {CHAIN}"
        for program in ("iptables", "ip6tables")
        for way in ("INPUT", "OUTPUT")
    )
    flush = "; ".join(f"{program} -w -F {CHAIN}; {program} -w -X {CHAIN}" for program in
                      ("iptables", "ip6tables"))  # fmt: skip
    return [OnNode(node, ("sh", "-c", f"({script}; {flush}) 2>/dev/null; true"))]


_DROP = ("-j", "DROP")


def _peer_rules(
    place: Place, ways: Sequence[Literal["-s", "-d"]], target: Sequence[str]
) -> list[tuple[str, ...]]:
    """A rule for each way and each of the other node's addresses."""
    return [(way, address, *target) for way in ways for address in place.addresses[place.other]]


def _arbiter_rule(place: Place) -> tuple[str, ...]:
    address, port = place.arbiter
    return ("-d", address, "-p", "tcp", "--dport", str(port), *_DROP)


def cut_from_peer(place: Place, ways: Sequence[Literal["-s", "-d"]]) -> list[Step]:
    """The victim hears nothing of the other node (-s), or is not heard by it (-d)."""
    return _iptables(place.victim, *_peer_rules(place, ways, _DROP))


def lossy(place: Place) -> list[Step]:
    """A third of all packets between the nodes is lost, both ways."""
    match = ("-m", "statistic", "--mode", "random", "--probability", str(LOSS), *_DROP)
    return _iptables(place.victim, *_peer_rules(place, ("-s", "-d"), match))


def cut_from_arbiter(place: Place, nodes: Sequence[str]) -> list[Step]:
    """Nodes that cannot reach the arbiter."""
    return [step for node in nodes for step in _iptables(node, _arbiter_rule(place))]


def _kill(pattern: str) -> Callable[[Place], Sequence[Step]]:
    # The first character in brackets, so that the pattern does not match itself.
    word = f"[{pattern[0]}]{pattern[1:]}"
    return lambda place: [
        OnNode(place.victim, ("sh", "-c", f"pkill -KILL -f '{word}' || echo nothing to kill"))
    ]


def _both(place: Place) -> tuple[str, str]:
    return place.victim, place.other


FAULTS: tuple[Fault, ...] = (
    Fault(
        "power off",
        lambda p: [Power(p.victim, "poweroff")],
        lambda p: [Power(p.victim, "poweron")],
        HOLD_SECONDS,
    ),
    Fault("reboot", lambda p: [Power(p.victim, "reboot")]),
    Fault("reset", lambda p: [Power(p.victim, "reset")]),
    Fault(
        "both power off",
        lambda p: [Power(p.victim, "poweroff"), Power(p.other, "poweroff")],
        lambda p: [Power(p.other, "poweron"), Power(p.victim, "poweron")],
        (2.0, 10.0),
    ),
    Fault(
        "freeze and thaw",
        lambda p: [Freeze(p.victim, frozen=True)],
        lambda p: [Freeze(p.victim, frozen=False)],
        FREEZE_SECONDS,
    ),
    Fault("kill -9 PostgreSQL", _kill("postgres -c config_file")),
    Fault("kill -9 agent", _kill("overlord.agent")),
    Fault("kill -9 API", _kill("dashboard.api")),
    Fault("kill -9 nginx", _kill("nginx: master")),
    Fault("kill -9 dockerd", _kill("dockerd ")),
    Fault("kill -9 tailscaled", _kill("tailscaled ")),
    Fault(
        "cut from the peer",
        lambda p: cut_from_peer(p, ("-s", "-d")),
        lambda p: _heal(p.victim),
        HOLD_SECONDS,
    ),
    Fault(
        "cut from the peer, one way",
        lambda p: cut_from_peer(p, ("-s",)),
        lambda p: _heal(p.victim),
        HOLD_SECONDS,
    ),
    Fault("a third of the packets lost", lossy, lambda p: _heal(p.victim), HOLD_SECONDS),
    Fault(
        "cut from the arbiter",
        lambda p: cut_from_arbiter(p, (p.victim,)),
        lambda p: _heal(p.victim),
        HOLD_SECONDS,
    ),
    Fault(
        "both cut from the arbiter",
        lambda p: cut_from_arbiter(p, _both(p)),
        lambda p: [*_heal(p.victim), *_heal(p.other)],
        HOLD_SECONDS,
    ),
    Fault(
        "cut from peer and arbiter",
        lambda p: _iptables(p.victim, *_peer_rules(p, ("-s", "-d"), _DROP), _arbiter_rule(p)),
        lambda p: _heal(p.victim),
        HOLD_SECONDS,
    ),
    Fault(
        "power off, and the DNS API fails",
        lambda p: [
            Vendor(
                (
                    ("vendor", "cloudflare"),
                    ("method", "PATCH"),
                    ("path_regex", "/dns_records"),
                    ("status", 503),
                    ("count", 3),
                )
            ),
            Power(p.victim, "poweroff"),
        ],
        lambda p: [FairWeather(), Power(p.victim, "poweron")],
        HOLD_SECONDS,
    ),
)


def by_name(name: str) -> Fault:
    """The fault of that name. Raises KeyError, which lists them."""
    for fault in FAULTS:
        if fault.name == name:
            return fault
    raise KeyError(f"no fault {name!r}; there are: {', '.join(fault.name for fault in FAULTS)}")


@dataclass(frozen=True)
class Draw:
    """What a round does.

    Args:
        fault: what happens.
        to_primary: whether it happens to the node that leads.
        hold: seconds that it lasts.
    """

    fault: Fault
    to_primary: bool
    hold: float


def draw(seed: int, number: int, among: Sequence[Fault] = FAULTS) -> Draw:
    """The draw of a round: the same for the same seed and number, whatever was drawn before."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311 - a game of chance
    fault = chance.choice(among)
    # More often to the primary: that is where something can be lost.
    return Draw(fault, chance.random() < 0.75, round(chance.uniform(*fault.hold), 1))
