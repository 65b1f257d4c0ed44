"""What the agent shows: the last facts and decision, shared between loop and HTTP service."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from overlord.backup.state import backup_document
from overlord.decide import Action
from overlord.facts.observe import Facts
from overlord.paths import Paths
from overlord.problems import find_problems
from overlord.releases import Releases, under_way
from overlord.roles.view import RoleState, peer_document, role_document

STALE_SECONDS = 30.0
"""Facts older than this prove nothing: health and leadership end."""


@dataclass(frozen=True)
class View:
    """One round of the loop."""

    facts: Facts
    actions: tuple[Action, ...]
    monotonic: float


@dataclass
class State:
    """The last round, for any thread."""

    clock: Callable[[], float] = time.monotonic
    roles: RoleState = field(default_factory=RoleState)
    paths: Paths = field(default_factory=Paths)
    _view: View | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, facts: Facts, actions: tuple[Action, ...]) -> None:
        """Show a new round."""
        with self._lock:
            self._view = View(facts, actions, self.clock())

    def fresh(self) -> View | None:
        """The last round if it is not stale."""
        with self._lock:
            view = self._view
        if view is None or self.clock() - view.monotonic > STALE_SECONDS:
            return None
        return view


def health(state: State) -> tuple[int, dict[str, Any]]:
    """Answer of /health. Public, so it names problems by code only."""
    view = state.fresh()
    if view is None:
        return 503, {"status": "unknown", "problems": ["agent-stale"]}
    critical = [one.code for one in find_problems(view.facts) if one.severity == "critical"]
    roles = state.roles.fresh()
    body = {
        "status": "unhealthy" if critical else "healthy",
        "node": view.facts.node,
        "role": roles.decision.state if roles else "unknown",
        "release": view.facts.release,
        "problems": critical,
    }
    return (503 if critical else 200), body


def leader(state: State) -> tuple[int, dict[str, Any]]:
    """Answer of /leader: 200 only while this node may take writes, at this very moment."""
    view = state.fresh()
    if view is None:
        return 503, {"leader": False, "reason": "the agent has no fresh facts"}
    roles = state.roles.fresh()
    allowed, reason, epoch = state.roles.writes()
    if view.facts.boot.state != "done":
        allowed, reason = False, "first boot has not ended"
    body: dict[str, Any] = {
        "leader": allowed,
        "node": view.facts.node,
        "role": roles.decision.state if roles else "unknown",
    }
    if allowed:
        body["epoch"] = epoch
    else:
        body["reason"] = reason
    return (200 if allowed else 503), body


def peer(state: State) -> tuple[int, dict[str, Any]]:
    """Answer of /peer, for the other node."""
    return 200, {
        **peer_document(state.roles.fresh(), state.roles.clock()),
        "healthy": health(state)[0] == 200,
        # Read now: a change of this node ends the moment before that of the other one begins.
        "release": Releases(state.paths).current(),
        "changing": under_way(state.paths),
    }


def status(state: State) -> tuple[int, dict[str, Any]]:
    """Answer of /status: everything."""
    view = state.fresh()
    if view is None:
        return 503, {"error": "the agent has no fresh facts"}
    problems = [asdict(problem) for problem in find_problems(view.facts)]
    actions = [{"action": type(one).__name__, **asdict(one)} for one in view.actions]
    _, leadership = leader(state)
    return 200, {
        **view.facts.as_json(),
        "problems": problems,
        "actions": actions,
        "leader": leadership["leader"],
        "roles": role_document(state.roles.fresh(), state.roles.clock()),
        "backups": backup_document(state.paths),
    }
