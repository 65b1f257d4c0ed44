"""Everything that the decision about a node's role depends on."""

from dataclasses import dataclass, field, replace

from overlord.facts.database import Database, Standby
from overlord.facts.peer import Peer
from overlord.node import Role
from overlord.roles.record import Mode


@dataclass(frozen=True)
class Lease:
    """What the lease keeper knows. Times are this node's monotonic clock, in seconds."""

    epoch: int = 0
    until: float = float("-inf")
    """End of this node's right by the lease, a margin before the arbiter's own end."""
    pledge_until: float = float("-inf")
    """End of the peer's last pledge that it will not become primary."""
    replication: Mode = "async"
    """As the arbiter has recorded it."""
    cluster: str | None = None
    """System identifier that the arbiter has recorded; None before the first database."""
    answered: float = float("-inf")
    """When the arbiter last answered."""
    seen: int = 0
    """Highest epoch that the arbiter has told of."""
    other_holds: bool = False
    """Whether the peer's lease ran when the arbiter last answered."""


@dataclass(frozen=True)
class Memory:
    """What the facts of one moment do not show. Times are monotonic."""

    database_missing_since: float | None = None
    standby_looked_at: float | None = None
    """When this node, as a primary, last looked for a word of its standby."""
    standby_word: float | None = None
    """The last one, as the standby's own clock dates it."""
    standby_silence: float = 0.0
    """Seconds in which it looked and there was no new one."""
    not_streaming_since: float | None = None
    synchronous_from: int | None = None
    """Position of the log from which on every acknowledged write waits for the standby."""


@dataclass(frozen=True)
class RoleFacts:
    """A node and its peer at one moment."""

    now: float
    """Monotonic."""
    started: float
    """When the role manager began, monotonic."""
    node: str
    peer_name: str
    configured: Role
    arbiter: bool
    """Whether one is configured."""
    lease: Lease
    role: Role | None
    """What an operator made of this node, where no arbiter decides."""
    epoch: int
    """Of the record: the last one at which this node was primary."""
    mode: Mode
    """Of the record."""
    forced: bool
    maintenance: bool
    database: Database | None
    """None when it does not answer, or answered too long ago."""
    data: bool
    """Whether there is a database on disk."""
    peer: Peer | None
    peer_asked: bool
    """Whether the peer has answered since the role manager began."""
    busy: str | None
    """What is being done to the database right now, such as a copy."""
    wanted_mark: str
    """What the schema should be brought up to."""
    pledged_until: float = float("-inf")
    """Until when this node has promised its peer not to become primary."""
    room: int | None = None
    """Bytes that the database's file system has left; None where it cannot be asked."""
    handing_over: bool = False
    """Whether this node is giving its role to the peer right now."""
    memory: Memory = field(default_factory=Memory)

    @property
    def follower(self) -> Standby | None:
        """The peer, as it streams from this node."""
        standbys = self.database.standbys if self.database else ()
        return next((one for one in standbys if one.name == self.peer_name), None)

    @property
    def streaming_follower(self) -> Standby | None:
        """The same, once it has caught up."""
        follower = self.follower
        return follower if follower and follower.state == "streaming" else None


LOOK_SECONDS = 2.0
"""Between two looks at most so long counts as silence: what sleeps hears nothing."""


def remember(facts: RoleFacts) -> RoleFacts:
    """The facts with the memory brought up to date."""
    memory, database, now = facts.memory, facts.database, facts.now

    def since(earlier: float | None, is_so: bool) -> float | None:
        return (now if earlier is None else earlier) if is_so else None

    writable = database is not None and not database.in_recovery
    synchronous_from = None
    if database is not None and writable and database.synchronous:
        synchronous_from = memory.synchronous_from
        if synchronous_from is None:
            synchronous_from = database.lsn
    word, silence = _listen(facts) if writable else (None, 0.0)
    return replace(
        facts,
        memory=Memory(
            standby_looked_at=now if writable else None,
            standby_word=word,
            standby_silence=silence,
            database_missing_since=since(memory.database_missing_since, database is None),
            not_streaming_since=since(
                memory.not_streaming_since,
                database is not None and database.in_recovery and not database.receiving,
            ),
            synchronous_from=synchronous_from,
        ),
    )


def _listen(facts: RoleFacts) -> tuple[float | None, float]:
    """The standby's last word, and for how long there was none. A wire that was cut shows in the
    silence long before PostgreSQL gives the connection up."""
    memory, follower = facts.memory, facts.streaming_follower
    word = follower.replied if follower else None
    if memory.standby_looked_at is None or word not in (None, memory.standby_word):
        return word, 0.0
    looked_for = min(facts.now - memory.standby_looked_at, LOOK_SECONDS)
    return memory.standby_word, memory.standby_silence + looked_for
