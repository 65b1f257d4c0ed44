"""What the node agent mends by itself: a pure function from facts to actions.

Who may take writes is decided elsewhere, see overlord.roles.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from overlord.facts.observe import Facts

UNHEALTHY_SECONDS = 180.0
"""A service may be unhealthy this long before the agent restarts it."""
RESTARTS_PER_HOUR = 3
"""Then an operator has to look: a restart that did not help thrice will not help."""


@dataclass(frozen=True)
class RestartService:
    """Docker restarts what ends, not what hangs."""

    service: str


@dataclass(frozen=True)
class RestoreGuard:
    """The rule that keeps containers from the metadata address is gone."""


@dataclass(frozen=True)
class MoveStack:
    """The tailnet gave this node another address than the stack was started with."""

    address: str


Action = RestartService | RestoreGuard | MoveStack


@dataclass(frozen=True)
class History:
    """What the facts of one moment do not show. Times are seconds since the epoch."""

    unhealthy_since: Mapping[str, float] = field(default_factory=dict)
    restarts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """When the agent restarted a service, within the last hour."""


def remember(history: History, facts: Facts) -> History:
    """History with the facts of now."""
    unhealthy = {one.service for one in facts.containers if one.health == "unhealthy"}
    recent = {
        service: tuple(when for when in times if facts.time - when < 3600)
        for service, times in history.restarts.items()
    }
    return History(
        unhealthy_since={
            service: history.unhealthy_since.get(service, facts.time) for service in unhealthy
        },
        restarts={service: times for service, times in recent.items() if times},
    )


def with_restart(history: History, service: str, when: float) -> History:
    """History after a restart: the service gets its time again."""
    since = {name: time for name, time in history.unhealthy_since.items() if name != service}
    times = (*history.restarts.get(service, ()), when)
    return History(since, {**history.restarts, service: times})


def decide(facts: Facts, history: History) -> tuple[Action, ...]:
    """Actions for now."""
    if facts.boot.state == "done" and facts.cut_short is None:
        return tuple(_mend(facts, history))
    return ()  # while a release is being applied the stack is not ours to touch


def _mend(facts: Facts, history: History) -> list[Action]:
    actions: list[Action] = []
    if not facts.metadata_guarded:
        actions.append(RestoreGuard())
    address = facts.tailnet.address
    if facts.tailnet.up and address and address != facts.compose_address:
        actions.append(MoveStack(address))
    for service, since in sorted(history.unhealthy_since.items()):
        tired = len(history.restarts.get(service, ())) >= RESTARTS_PER_HOUR
        if facts.time - since >= UNHEALTHY_SECONDS and not tired:
            actions.append(RestartService(service))
    return actions
