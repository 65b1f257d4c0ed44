"""What can happen to the pair: each fault as data, carried out by `chaos.hands`.

A cut is made inside a node's own network namespace, below everything that runs there. Loss is
iptables' `statistic` match and delay a queue in front of a slow link, since kernels without netem
have nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from chaos import clock, disk
from chaos.steps import (
    FairWeather,
    Freeze,
    OnNode,
    Pause,
    Place,
    Power,
    Step,
    Vendor,
    WipeArbiter,
    shell,
)

CHAIN = "OVERLORD-CHAOS"
LOSS = 0.3
SLOW_LINK = ("rate", "400kbit", "burst", "4kb", "latency", "1500ms")
"""Of everything that a node sends; a packet waits in the queue for up to the latency."""
FREEZE_SECONDS = (20.0, 35.0)
"""Longer than any lease."""
HOLD_SECONDS = (6.0, 24.0)
BEHIND_SECONDS = 16.0
"""After so long without its standby, a primary takes writes that the standby never gets."""
TWO_AT_ONCE = 0.2
"""Share of the rounds in which a second fault happens beside the first."""

Target = Literal["primary", "standby", "either"]


def nothing(_: Place) -> Sequence[Step]:
    """No steps."""
    return ()


@dataclass(frozen=True)
class Fault:
    """Something that happens, and how it ends.

    Args:
        name: as the table shows it.
        begin: the steps that make it happen.
        end: the steps that end it; a fault that is over at once has none.
        hold: how long it lasts, in seconds, from and to.
        target: the node that it makes sense for.
        prepare: steps before the devices start, and `restore` those after the round was scored.
        alone: whether nothing else may happen beside it.
    """

    name: str
    begin: Callable[[Place], Sequence[Step]]
    end: Callable[[Place], Sequence[Step]] = nothing
    hold: tuple[float, float] = (0.0, 0.0)
    target: Target = "either"
    prepare: Callable[[Place], Sequence[Step]] = nothing
    restore: Callable[[Place], Sequence[Step]] = nothing
    alone: bool = False


# Cuts


def _iptables(node: str, *rules: Sequence[str]) -> list[Step]:
    """Rules in a chain of our own, before everything else; both families, in one step."""
    lines = []
    for program in ("iptables", "ip6tables"):
        six = program == "ip6tables"
        mine = [rule for rule in rules if (":" in " ".join(rule)) == six]
        if mine:
            # There already when two faults cut the same node.
            lines.append(f"{program} -w -N {CHAIN} 2>/dev/null || true")
            lines += [f"{program} -w -A {CHAIN} {' '.join(rule)}" for rule in mine]
            lines += [f"{program} -w -I {way} 1 -j {CHAIN}" for way in ("INPUT", "OUTPUT")]
    return [shell(node, *lines)]


def _heal(node: str) -> list[Step]:
    lines = []
    for program in ("iptables", "ip6tables"):
        lines += [
            f"while {program} -w -D {way} -j {CHAIN} 2>/dev/null; do :; done"
            for way in ("INPUT", "OUTPUT")
        ]
        lines.append(f"{program} -w -F {CHAIN} 2>/dev/null && {program} -w -X {CHAIN} || true")
    return [shell(node, *lines)]


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


def _cut_replication(place: Place) -> list[Step]:
    """The victim gets nothing of the other's log; all else between the nodes goes on."""
    return _iptables(place.other, ("-p", "tcp", "--sport", "5432", "-i", "tailscale0", *_DROP))


# Processes


def _signal(signal: str, *choice: str) -> Callable[[Place], Sequence[Step]]:
    """A signal to processes; pkill fails, and with it the round, where there is none."""
    return lambda place: [OnNode(place.victim, ("pkill", f"-{signal}", *choice))]


def _kill(pattern: str) -> Callable[[Place], Sequence[Step]]:
    return _signal("KILL", "-f", pattern)


def _thaw(*choice: str) -> Callable[[Place], Sequence[Step]]:
    # Something may have ended them meanwhile: that is what a watchdog is for.
    words = " ".join(f"'{word}'" for word in choice)
    return lambda place: [shell(place.victim, f"pkill -CONT {words} || true")]


_POSTMASTER = "^postgres -c config_file"
_AGENT = "^/usr/bin/python3 -m overlord.agent"


def _both(place: Place) -> tuple[str, str]:
    return place.victim, place.other


_DNS_FAILS = Vendor(
    (
        ("vendor", "cloudflare"),
        ("method", "PATCH"),
        ("path_regex", "/dns_records"),
        ("status", 503),
        ("count", 3),
    )
)

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
    Fault(
        "switchover",
        lambda p: [OnNode(p.victim, ("overlordctl", "switchover"))],
        target="primary",
        alone=True,
    ),
    Fault("kill -9 PostgreSQL", _kill(_POSTMASTER)),
    Fault("kill -9 a PostgreSQL backend", _kill("^postgres: checkpointer")),
    Fault("kill -9 agent", _kill(_AGENT)),
    Fault("kill -9 API", _kill("^python -m dashboard.api")),
    Fault("kill -9 nginx", _kill("^nginx: master")),
    Fault("kill -9 dockerd", _kill("^/usr/sbin/dockerd ")),
    Fault("kill -9 tailscaled", _kill("^/usr/sbin/tailscaled ")),
    Fault(
        "PostgreSQL hangs",
        _signal("STOP", "-x", "postgres"),
        _thaw("-x", "postgres"),
        FREEZE_SECONDS,
    ),
    Fault("agent hangs", _signal("STOP", "-f", _AGENT), _thaw("-f", _AGENT), (25.0, 70.0)),
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
        "slow link",
        lambda p: [
            OnNode(p.victim, ("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *SLOW_LINK))
        ],
        lambda p: [shell(p.victim, "tc qdisc del dev eth0 root 2>/dev/null || true")],
        HOLD_SECONDS,
    ),
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
    Fault("arbiter wiped", lambda _: [WipeArbiter()]),
    Fault(
        "power off, and the arbiter wiped",
        lambda p: [Power(p.victim, "poweroff"), Pause(3.0), WipeArbiter()],
        lambda p: [Power(p.victim, "poweron")],
        HOLD_SECONDS,
    ),
    Fault(
        "power off, and the DNS API fails",
        lambda p: [_DNS_FAILS, Power(p.victim, "poweroff")],
        lambda p: [FairWeather(), Power(p.victim, "poweron")],
        HOLD_SECONDS,
    ),
    Fault(
        "standby far behind, then power off",
        lambda p: [*_cut_replication(p), Pause(BEHIND_SECONDS), Power(p.victim, "poweroff")],
        lambda p: [*_heal(p.other), Power(p.victim, "poweron")],
        (5.0, 20.0),
        target="primary",
    ),
    Fault(
        "full disk",
        disk.fill,
        disk.free,
        HOLD_SECONDS,
        prepare=disk.onto_a_small_one,
        restore=disk.off_the_small_one,
        alone=True,
    ),
)

NAMED_ONLY: tuple[Fault, ...] = (
    Fault(
        "clock jumps an hour",
        clock.jump,
        clock.set_right,
        HOLD_SECONDS,
        prepare=clock.make_settable,
        restore=clock.leave_alone,
        alone=True,
    ),
)
"""Not drawn unless somebody names them: they take long to prepare."""
ALL = (*FAULTS, *NAMED_ONLY)


def by_name(name: str) -> Fault:
    """The fault of that name. Raises KeyError, which lists them."""
    for fault in ALL:
        if fault.name == name:
            return fault
    raise KeyError(f"no fault {name!r}; there are: {', '.join(fault.name for fault in ALL)}")


_ANYWHERE = Place("victim", "other", {"victim": (), "other": ()}, ("192.0.2.1", 443))


def _stops(fault: Fault) -> bool:
    """Whether a node is gone while it lasts."""
    return any(isinstance(step, Power | Freeze) for step in fault.begin(_ANYWHERE))


def together(first: Fault, second: Fault, elsewhere: bool) -> Fault:
    """Two faults at once.

    Args:
        first: any.
        second: one that stops no node.
        elsewhere: whether the second one happens to the other node than the first.
    """

    def there(place: Place) -> Place:
        return (
            Place(place.other, place.victim, place.addresses, place.arbiter) if elsewhere else place
        )

    where = "the other node" if elsewhere else "the same node"
    return Fault(
        f"{first.name} + {second.name} on {where}",
        # A node that is gone can be told nothing: it goes last and returns first.
        lambda p: [*second.begin(there(p)), *first.begin(p)],
        lambda p: [*first.end(p), *second.end(there(p))],
        (max(first.hold[0], second.hold[0]), max(first.hold[1], second.hold[1])),
        target=first.target,
    )


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


def every(seed: int, among: Sequence[Fault] = ALL) -> list[Draw]:
    """Each fault once to the primary and once to the standby, as far as it makes sense."""
    chance = random.Random(seed)  # noqa: S311 - a game of chance
    return [
        Draw(fault, to_primary, round(chance.uniform(*fault.hold), 1))
        for fault in among
        for to_primary in (True, False)
        if fault.target in ("either", "primary" if to_primary else "standby")
    ]


def draw(seed: int, number: int, among: Sequence[Fault] = FAULTS) -> Draw:
    """The draw of a round: the same for the same seed and number, whatever was drawn before."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311 - a game of chance
    fault = chance.choice(among)
    if chance.random() < TWO_AT_ONCE and not fault.alone:
        beside = [one for one in among if one != fault and not (one.alone or _stops(one))]
        if beside:
            fault = together(fault, chance.choice(beside), elsewhere=chance.random() < 0.5)
    # More often to the primary: that is where something can be lost.
    primary = chance.random() < 0.75
    if fault.target != "either":
        primary = fault.target == "primary"
    return Draw(fault, primary, round(chance.uniform(*fault.hold), 1))
