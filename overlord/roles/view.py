"""What the role manager shows: its last round, for any thread."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from overlord.facts.database import Database
from overlord.roles.decide import (
    Decision,
    promote_obstacle,
    recorded_mode,
    switchover_obstacle,
)
from overlord.roles.facts import RoleFacts
from overlord.roles.record import Record

STALE_SECONDS = 6.0
"""A round older than this proves nothing. A round may wait for PostgreSQL for 3 s."""


@dataclass(frozen=True)
class RoleView:
    """One round."""

    facts: RoleFacts
    decision: Decision
    record: Record

    @property
    def lag(self) -> int | None:
        """Bytes of log that the standby lacks; None where that is not known."""
        database, peer = self.facts.database, self.facts.peer
        if database is None:
            return None
        if not database.in_recovery:
            follower = self.facts.follower
            flushed = follower.flushed if follower else None
            return None if flushed is None else max(0, database.lsn - flushed)
        return max(0, peer.lsn - database.lsn) if peer and peer.primary else None


@dataclass
class RoleState:
    """The last round."""

    clock: Callable[[], float] = time.monotonic
    _view: RoleView | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, view: RoleView) -> None:
        """Show a new round."""
        with self._lock:
            self._view = view

    def last(self) -> RoleView | None:
        """The last round, however old."""
        with self._lock:
            return self._view

    def fresh(self) -> RoleView | None:
        """The last round if it is not stale."""
        view = self.last()
        if view is None or self.clock() - view.facts.now > STALE_SECONDS:
            return None
        return view

    def writes(self) -> tuple[bool, str, int]:
        """Whether this node may take writes at this moment, why (not), and the epoch."""
        view = self.fresh()
        if view is None:
            return False, "the role manager has no fresh facts", 0
        right = view.decision.right
        if not view.decision.writes or right is None:
            return False, f"{view.decision.state}: {view.decision.reason}", 0
        if self.clock() >= right.until:
            return False, "the right to take writes has ended", 0
        return True, view.decision.reason, right.epoch


def peer_document(view: RoleView | None, now: float) -> dict[str, Any]:
    """What this node tells its peer, see facts.peer."""
    if view is None:
        return {"node": "", "state": "unknown", "primary": False, "epoch": 0, "data": False}
    facts, database = view.facts, view.facts.database
    right = view.decision.right
    primary = view.decision.state == "primary" and right is not None and now < right.until
    document: dict[str, Any] = {
        "node": facts.node,
        "state": view.decision.state,
        "primary": primary,
        "epoch": right.epoch if right else view.record.epoch,
        "data": facts.data,
        "room": facts.room,
        "maintenance": view.record.maintenance,
        "synchronous": primary
        and database is not None
        and database.synchronous
        and recorded_mode(facts) == "sync",
    }
    if database:
        wanted = facts.peer_name.replace("-", "_")
        document |= {
            "system": database.system,
            "timeline": database.timeline,
            "lsn": database.lsn,
            "history": [list(one) for one in database.history],
            "migrated": database.mark is not None,
            "slot_lost": any(slot.name == wanted and slot.lost for slot in database.slots),
        }
    return document


def _replication(database: Database | None) -> str | None:
    """How it is in force; a standby does not know."""
    if database is None or database.in_recovery:
        return None
    return "sync" if database.synchronous else "async"


def role_document(view: RoleView | None, now: float) -> dict[str, Any]:
    """For /status and `overlordctl role`."""
    if view is None:
        return {"state": "unknown", "reason": "the role manager has no fresh facts"}
    facts, decision, record = view.facts, view.decision, view.record
    right, database = decision.right, facts.database
    seconds = None if right is None or right.until == float("inf") else right.until - now
    return {
        "state": decision.state,
        "reason": decision.reason,
        "arbiter": facts.arbiter,
        "right": right.source if right else None,
        "right_seconds": None if seconds is None else round(seconds, 1),
        "epoch": right.epoch if right else record.epoch,
        "replication": _replication(database),
        "recorded": facts.lease.replication if facts.arbiter else record.mode,
        "lag_bytes": view.lag,
        "replay_age_seconds": database.replay_age if database else None,
        "timeline": database.timeline if database else None,
        "peer": asdict(facts.peer) if facts.peer else None,
        "maintenance": record.maintenance,
        "diverged_bytes": record.diverged,
        "busy": facts.busy,
        "promote_obstacle": promote_obstacle(facts, decision),
        "switchover_obstacle": switchover_obstacle(facts, decision),
        "events": [asdict(event) for event in record.events[-20:]],
    }
