"""Where the database of a node that has none comes from: a pure decision over facts.

A pair has one database. A second one made beside it would one day be taken for it, so a new one is
made only where everything says that there never was any.
"""

from dataclasses import dataclass
from typing import Literal

from overlord.facts.peer import Peer
from overlord.node import Role

PATIENCE = 420.0
"""Seconds for which a first boot waits for its peer or the arbiter."""


@dataclass(frozen=True)
class OriginFacts:
    """What is known when a first boot comes to its database."""

    data: bool
    """Whether there is a database on this node's disk."""
    role: Role
    """As the release says."""
    peer_name: str
    peer: Peer | None
    """None while it does not answer."""
    arbiter: Literal["none", "silent", "empty", "known"]
    """Not configured; does not answer; knows of no database; knows one."""
    waited: float
    """Seconds."""
    backup: Literal["unread", "unclear", "second", "none", "exists"] = "unread"
    """Not looked for; no clear answer; none of the first repository, and the second holds one; the
    repositories can be read and hold none; one of them holds one, and nothing hides a newer one."""

    @property
    def asks_for_backup(self) -> bool:
        """Whether the decision depends on the backups: a look at them takes seconds."""
        here = self.data or bool(self.peer and (self.peer.data or self.peer.primary))
        return not here and self.role == "primary"


@dataclass(frozen=True)
class Keep:
    """What is there is the database; the role manager sees to it."""


@dataclass(frozen=True)
class Clone:
    """Copy the peer's."""

    peer: str


@dataclass(frozen=True)
class Restore:
    """Bring back the newest backup."""


@dataclass(frozen=True)
class Init:
    """Make a new one."""


@dataclass(frozen=True)
class Wait:
    """Ask again in a moment."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """A person has to look."""

    what: str
    remedy: str


Origin = Keep | Clone | Restore | Init | Wait | Stop


def decide_origin(facts: OriginFacts) -> Origin:
    """What to do now."""
    peer, name = facts.peer, facts.peer_name
    if facts.data:
        return Keep()
    if peer and peer.primary and peer.migrated:
        return Clone(name)
    if peer and (peer.data or peer.primary):
        return _wait(
            facts,
            f"{name} has the database and is not primary",
            f"see `overlordctl role` on {name}; where no arbiter promotes it, "
            "`sudo overlordctl promote --i-know` does",
        )
    if facts.role == "standby":
        return _wait(
            facts,
            f"{name} is not primary" if peer else f"{name} does not answer over the tailnet",
            f"bring {name} up: this node copies its database",
        )
    if facts.backup in ("unread", "unclear"):
        return _wait(
            facts,
            "the backup repository cannot be read, so nobody can say whether the pair has a backup",
            "check the node's B2 key and that B2 answers: `sudo overlordctl backup list`",
        )
    if facts.backup == "second":
        return _wait(
            facts,
            "the first backup repository cannot be read: it may hold more than the second",
            "check the node's B2 key and that B2 answers: `sudo overlordctl backup list`; if the "
            f"first one is lost for good, and so is the database of {name}, `sudo overlordctl "
            "restore --yes` takes the second",
        )
    if facts.backup == "exists":
        if peer:
            # Neither node has the database any more: nothing is newer than the backup.
            return Restore()
        return _wait(
            facts,
            f"there is a backup, and {name} does not answer: it may have a newer database",
            f"bring {name} up; if it is lost for good, `sudo overlordctl restore --yes`",
        )
    if facts.arbiter == "silent":
        return _wait(
            facts,
            "the arbiter does not answer, so nobody can say whether the pair has a database",
            "see overlord:arbiter and the witness's page",
        )
    if facts.arbiter == "known":
        return _wait(
            facts,
            f"the pair has had a database, and neither this node nor {name} can show it",
            f"bring {name} up: there is no backup",
        )
    if facts.arbiter == "empty" or peer:
        return Init()
    return _wait(
        facts,
        f"{name} does not answer over the tailnet, so it may have the database",
        f"bring {name} up; if it is lost for good, `sudo overlordctl database init --i-know`",
    )


def _wait(facts: OriginFacts, what: str, remedy: str) -> Wait | Stop:
    return Stop(what, remedy) if facts.waited >= PATIENCE else Wait(what)
