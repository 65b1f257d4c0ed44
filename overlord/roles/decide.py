"""Who is primary: a pure function from the facts of both nodes to one decision.

The right to take writes comes from the lease of the arbiter; while the arbiter is away, from the
peer's pledge that it will not become primary; where no arbiter is configured, from the
configuration and the operator. Without the right a writable server is fenced, and nothing here
promotes a server without it.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from overlord.facts.database import Database
from overlord.roles.facts import RoleFacts
from overlord.roles.record import Mode
from overlord.roles.timeline import ahead_of

State = Literal["primary", "standby", "catching up", "fenced", "unknown"]

STANDBY_GRACE = 5.0
"""Seconds that writes wait for the word of a standby, before replication becomes asynchronous."""
DATABASE_GRACE = 10.0
"""Seconds without an answer of PostgreSQL after which a primary gives its lease away. A restart
takes some three; what takes longer, takes longer than the other node's promotion."""
FULL_BYTES = 256 * 1024**2
"""A primary whose disk has less room gives its role away while it can still stop cleanly."""
ROOM_BYTES = 4 * FULL_BYTES
"""What the other node must have to take it."""
PEER_GRACE = 45.0
"""Without an arbiter: seconds for which a configured primary waits for a word of its peer, which an
operator may have promoted meanwhile."""
STUCK_SECONDS = 90.0
"""A replica that cannot stream for so long, with a primary there, is copied anew."""
CAUGHT_UP_BYTES = 16 * 1024**2
"""A replica that is behind by less is made synchronous."""


@dataclass(frozen=True)
class Promote:
    """Make the server take writes, waiting for this standby ("" for none)."""

    synchronous: str


@dataclass(frozen=True)
class Fence:
    """Restart the server as a standby: connections are cut, writes end."""

    reason: str


@dataclass(frozen=True)
class Follow:
    """Stream from this node."""

    host: str


@dataclass(frozen=True)
class SetSynchronous:
    """Writes wait for this standby ("" for none)."""

    name: str


@dataclass(frozen=True)
class RecordMode:
    """Write down, with the arbiter if there is one, how replication stands. What follows it in a
    decision is done only when this succeeded."""

    mode: Mode


@dataclass(frozen=True)
class MakeSlot:
    """Keep the log that the peer still needs."""

    peer: str


@dataclass(frozen=True)
class DropSlots:
    """A standby keeps nothing for others."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Migrate:
    """Roles, passwords, schema."""


@dataclass(frozen=True)
class Copy:
    """Replace this database by a copy of the peer's; what is here is kept aside."""

    host: str
    reason: str
    diverged: int


@dataclass(frozen=True)
class GiveUp:
    """End what is left of the server, then give the lease away."""

    reason: str


@dataclass(frozen=True)
class HandOver:
    """Give the role to the peer as an operator's switchover does: nothing is lost."""

    reason: str


RoleAction = (
    Promote
    | Fence
    | Follow
    | SetSynchronous
    | RecordMode
    | MakeSlot
    | DropSlots
    | Migrate
    | Copy
    | GiveUp
    | HandOver
)


@dataclass(frozen=True)
class Right:
    """The right to take writes."""

    source: Literal["lease", "pledge", "configured", "operator"]
    epoch: int
    until: float
    """Monotonic."""


@dataclass(frozen=True)
class Decision:
    """What a node is, and what it does about it."""

    state: State
    reason: str
    right: Right | None
    writes: bool
    """Whether the API may take writes, as long as the right lasts."""
    wants_lease: bool
    actions: tuple[RoleAction, ...] = ()


def right_of(facts: RoleFacts) -> Right | None:
    """The right of this node to take writes, if it has one now."""
    if not facts.arbiter:
        return _right_by_configuration(facts)
    lease = facts.lease
    if lease.until > facts.now:
        # The pledge is there before the lease ends, or /leader would say no for a round.
        return Right("lease", lease.epoch, max(lease.until, lease.pledge_until))
    if lease.epoch and lease.pledge_until > facts.now:
        return Right("pledge", lease.epoch, lease.pledge_until)
    if facts.forced and not lease.other_holds:
        return Right("operator", facts.epoch, inf)
    return None


def _right_by_configuration(facts: RoleFacts) -> Right | None:
    if (facts.role or facts.configured) != "primary":
        return None
    peer = facts.peer
    if peer and peer.primary and peer.epoch >= facts.epoch:
        return None  # an operator made the peer primary
    waited = facts.now - facts.started >= PEER_GRACE
    running = facts.database is not None and not facts.database.in_recovery
    if not (facts.peer_asked or running or waited):
        return None
    return Right("configured", max(1, facts.epoch), inf)


def decide(facts: RoleFacts) -> Decision:
    """The decision for now."""
    right = right_of(facts)
    database = facts.database
    if facts.handing_over:
        # The lease is kept until the server has stopped.
        return Decision("fenced", f"handing over to {facts.peer_name}", right, False, True)
    if facts.busy:
        return Decision("catching up", facts.busy, right, writes=False, wants_lease=False)
    if database is None:
        return _without_database(facts, right)
    if not database.in_recovery:
        return _writable(facts, database, right)
    if right:
        return _promote(facts, database, right)
    return _follow(facts, database)


def _without_database(facts: RoleFacts, right: Right | None) -> Decision:
    reason = "PostgreSQL does not answer" if facts.data else "there is no database here yet"
    since = facts.memory.database_missing_since
    missing = 0.0 if since is None else facts.now - since
    # It may only be starting again: giving the lease away costs more than a few seconds.
    patient = right is not None and facts.data and missing < DATABASE_GRACE
    actions: tuple[RoleAction, ...] = ()
    if right and right.source == "lease" and not patient:
        actions = (GiveUp(reason),)
    return Decision("unknown", reason, right, False, patient, actions)


def _writable(facts: RoleFacts, database: Database, right: Right | None) -> Decision:
    if right is None:
        reason = "no right to take writes"
        return Decision("fenced", reason, None, False, False, (Fence(reason),))
    actions = [*_slots(facts, database)]
    if right.source != "operator":
        # An operator who had to promote by hand has nobody to wait for.
        actions += _synchronous(facts, database)
    if facts.arbiter and right.source == "lease" and facts.lease.cluster is None:
        actions.append(RecordMode(facts.lease.replication))
    if database.mark != facts.wanted_mark:
        actions.append(Migrate())
    if database.mark is None:
        return Decision("primary", "the schema is being made", right, False, True, tuple(actions))
    decision = Decision("primary", f"by {right.source}", right, True, True, tuple(actions))
    if _has_no_room(facts) and switchover_obstacle(facts, decision) is None:
        reason = "the disk is full, and the other node's is not"
        return replace(decision, actions=(*actions, HandOver(reason)))
    return decision


def _has_no_room(facts: RoleFacts) -> bool:
    """Whether the log and the tables can hardly grow here, and can on the other node."""
    if facts.room is None or facts.room >= FULL_BYTES or facts.peer is None:
        return False
    return facts.peer.room is not None and facts.peer.room >= ROOM_BYTES


def slot_name(node: str) -> str:
    """A replication slot for a node: PostgreSQL allows no dashes."""
    return node.replace("-", "_")


def _slots(facts: RoleFacts, database: Database) -> list[RoleAction]:
    wanted = slot_name(facts.peer_name)
    found = {slot.name: slot for slot in database.slots}
    if wanted not in found:
        return [MakeSlot(facts.peer_name)]
    if found[wanted].lost and not found[wanted].active:
        return [DropSlots((wanted,))]
    return []


def recorded_mode(facts: RoleFacts) -> Mode:
    """How replication stands, as it is recorded."""
    return facts.lease.replication if facts.arbiter else facts.mode


def _synchronous(facts: RoleFacts, database: Database) -> list[RoleAction]:
    """Writes wait for the standby while it streams. Recorded as synchronous is only what is, and
    what ends being so is recorded first."""
    follower = facts.streaming_follower
    memory = facts.memory
    recorded = recorded_mode(facts)
    silent = memory.standby_silence >= STANDBY_GRACE
    if not database.synchronous:
        if recorded == "sync":
            return [SetSynchronous(facts.peer_name)]  # as it was promised
        behind = database.lsn - follower.flushed if follower and follower.flushed else inf
        if behind <= CAUGHT_UP_BYTES and not silent:
            return [SetSynchronous(facts.peer_name)]
        return []
    if silent:
        return [RecordMode("async"), SetSynchronous("")]
    if follower is None:
        return []
    start = memory.synchronous_from
    complete = (
        follower.sync_state == "sync"
        and start is not None
        and follower.flushed is not None
        and follower.flushed >= start
    )
    return [RecordMode("sync")] if complete and recorded != "sync" else []


def _promote(facts: RoleFacts, database: Database, right: Right) -> Decision:
    """A server in recovery on a node with the right to take writes."""
    cluster = facts.lease.cluster
    if facts.arbiter and cluster not in (None, database.system):
        reason = f"the pair's database is {cluster}, the one here is {database.system}"
        return Decision("unknown", reason, right, writes=False, wants_lease=False)
    # Recorded as synchronous it can only be for the node that was primary last: the arbiter
    # forgets it with each grant to the other one. What was promised to the standby then holds on.
    held_on = recorded_mode(facts) == "sync" and right.source != "operator"
    actions: list[RoleAction] = [Promote(facts.peer_name if held_on else "")]
    if facts.arbiter and cluster is None and right.source == "lease":
        # From now on the pair has a database.
        actions.insert(0, RecordMode("async"))
    return Decision("catching up", "becoming primary", right, False, True, tuple(actions))


def _follow(facts: RoleFacts, database: Database) -> Decision:
    """A server in recovery on a node without the right to take writes."""
    actions: list[RoleAction] = []
    # One in use is of a node that still follows this one, and is about to notice.
    if unused := tuple(slot.name for slot in database.slots if not slot.active):
        actions.append(DropSlots(unused))
    peer = facts.peer
    if peer is None or not peer.primary:
        reason = "no primary in sight"
        return Decision("standby", reason, None, False, _fit(facts, database), tuple(actions))
    if peer.system != database.system:
        reason = (
            f"the database here ({database.system}) is not a copy of that of {peer.node} "
            f"({peer.system}); nothing is done to it"
        )
        return Decision("unknown", reason, None, False, False)
    ahead = ahead_of(database, peer.timeline, peer.history)
    if ahead is None or ahead > 0:
        reason = f"the history here parts from that of {peer.node}"
        actions.append(Copy(peer.node, reason, ahead or 0))
        return Decision("catching up", reason, None, False, False, tuple(actions))
    since = facts.memory.not_streaming_since
    if since is not None and facts.now - since >= STUCK_SECONDS and peer.migrated:
        reason = f"cannot stream from {peer.node} for {STUCK_SECONDS:.0f} s"
        actions.append(Copy(peer.node, reason, 0))
        return Decision("catching up", reason, None, False, False, tuple(actions))
    if f"host={peer.node} " not in database.conninfo:
        actions.append(Follow(peer.node))
    if not database.receiving:
        reason = f"about to stream from {peer.node}"
        return Decision("catching up", reason, None, False, False, tuple(actions))
    reason = f"streams from {peer.node}"
    return Decision("standby", reason, None, False, _fit(facts, database), tuple(actions))


def _fit(facts: RoleFacts, database: Database) -> bool:
    """Whether this node may become primary when the lease is free. The arbiter refuses a node
    whose copy may lack acknowledged writes."""
    if facts.maintenance or facts.pledged_until > facts.now:
        return False
    peer = facts.peer
    if peer and peer.primary and peer.epoch > facts.lease.seen:
        return False  # an operator made it primary while the arbiter was away
    if facts.lease.cluster is None:
        # A new pair, or an arbiter that has lost its storage and asks who was primary last.
        return facts.configured == "primary" or facts.epoch > 0
    return facts.lease.cluster == database.system


def switchover_obstacle(facts: RoleFacts, decision: Decision) -> str | None:
    """Why this node cannot hand over without losing anything or waiting for long, or None."""
    database, peer = facts.database, facts.peer
    if decision.state != "primary" or not decision.writes or database is None:
        return f"this node is {decision.state}: run it on the primary"
    if peer is None:
        return f"{facts.peer_name} does not answer over the tailnet"
    if peer.maintenance:
        return f"{facts.peer_name} is in maintenance and does not become primary by itself"
    follower = facts.streaming_follower
    if follower is None:
        return f"{facts.peer_name} does not stream from this node"
    if not database.synchronous or recorded_mode(facts) != "sync":
        return f"replication to {facts.peer_name} is not synchronous yet"
    if facts.arbiter and (decision.right is None or decision.right.source != "lease"):
        return "the arbiter does not answer, so it cannot grant the lease to the other node"
    return None


ARBITER_GONE_SECONDS = 10.0
"""An arbiter that has not answered for so long is gone, as far as promotion by hand goes."""


def promote_obstacle(facts: RoleFacts, decision: Decision) -> str | None:
    """Why an operator cannot make this node primary by hand, or None."""
    if decision.state == "primary":
        return "this node is primary already"
    if facts.peer and facts.peer.primary:
        return f"{facts.peer_name} is primary and answers: use switchover there"
    if facts.database is None:
        return decision.reason
    if facts.arbiter and facts.now - facts.lease.answered < ARBITER_GONE_SECONDS:
        return "the arbiter answers, so it decides; its operator's page says how to force it"
    return None
