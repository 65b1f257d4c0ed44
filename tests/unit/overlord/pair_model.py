"""A pair and its arbiter as a model: simulated clocks, cuts and crashes, the real decisions.

The arbiter follows the rules of witness/README.md. A database is a list of writes and the
timelines they were written under. What runs on a node is the product's own: the lease keeper and
`decide`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from overlord.arbiter import Arbiter, ArbiterSilentError
from overlord.facts.database import Database, Slot, Standby
from overlord.facts.peer import Peer
from overlord.node import Role
from overlord.roles.decide import (
    Copy,
    Decision,
    DropSlots,
    Fence,
    Follow,
    GiveUp,
    MakeSlot,
    Promote,
    RecordMode,
    SetSynchronous,
    decide,
    slot_name,
)
from overlord.roles.facts import Memory, RoleFacts, remember
from overlord.roles.lease import Epochs, LeaseKeeper
from overlord.roles.record import Record

TTL = 15.0
GUARD = 1.0
SENDER_TIMEOUT = 5.0
SYSTEM = "7"
NODES = ("vps-01", "vps-02")


class ModelArbiter:
    """Grants the lease."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.started = -inf
        self.forget()

    def wipe(self) -> None:
        """Lose the storage. What it may have forgotten is waited for."""
        self.started = self._clock()
        self.forget()

    def forget(self) -> None:
        """Know nothing."""
        self.holder: str | None = None
        self.last_holder: str | None = None
        self.epoch = 0
        self.until = -inf
        self.replication = "async"
        self.cluster: str | None = None
        self.serial = 0
        self.reserved: tuple[str, float] | None = None
        self.claims: dict[str, tuple[int, int]] = {}

    @property
    def running(self) -> str | None:
        """Whose lease runs."""
        return self.holder if self._clock() < self.until else None

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        """One request."""
        if path == "/v1/state" or body is None:
            return 200, self._state()
        verb = path.rpartition("/")[2]
        code, found = getattr(self, f"_{verb}")(body)
        return code, {**found, "state": self._state()}

    def _state(self) -> dict[str, Any]:
        return {
            "holder": self.running,
            "last_holder": self.last_holder,
            "epoch": self.epoch,
            "replication": self.replication,
            "cluster": self.cluster,
        }

    def _refuse(self, reason: str, retry: float | None = None) -> tuple[int, dict[str, Any]]:
        ms = None if retry is None else max(0.0, retry) * 1000
        return 409, {"granted": False, "reason": reason, "retry_in_ms": ms}

    def _grant(self) -> tuple[int, dict[str, Any]]:
        self.until = self._clock() + TTL
        return 200, {
            "granted": True,
            "epoch": self.epoch,
            "ttl_ms": TTL * 1000,
            "replication": self.replication,
            "cluster": self.cluster,
        }

    def _acquire(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        node, now = body["node"], self._clock()
        if self.last_holder is None and (reason := self._first(body)):
            return self._refuse(reason, self._waking)
        if self.reserved and now >= self.reserved[1]:
            self.reserved = None
        if self.holder not in (None, node) and now < self.until + GUARD:
            return self._refuse("held", self.until + GUARD - now)
        if self.reserved and self.reserved[0] != node:
            return self._refuse("reserved", self.reserved[1] - now)
        new = self.last_holder not in (None, node)
        if new and self.replication == "async":
            return self._refuse("behind")
        if new:
            self.replication = "async"
        self.reserved = None
        self.holder = self.last_holder = node
        self.epoch = max(self.epoch, body["held_epoch"], body["seen_epoch"]) + 1
        self.claims = {}
        self.serial = 0
        return self._grant()

    @property
    def _waking(self) -> float:
        return max(0.0, self.started + TTL + GUARD - self._clock())

    def _first(self, body: dict[str, Any]) -> str | None:
        """Why a node does not get the first lease of an arbiter that knows nothing."""
        self.claims[body["node"]] = (body["held_epoch"], body["seen_epoch"])
        highest = max(epoch for claim in self.claims.values() for epoch in claim)
        if self._waking:
            return "waking"
        first = body["held_epoch"] == highest and (highest > 0 or body["node"] == NODES[0])
        return None if first else "behind"

    def _renew(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.last_holder is None:
            return self._refuse("waking", self._waking)
        if body["epoch"] != self.epoch:
            return self._refuse("superseded")
        if self.holder is None:
            return self._refuse("released")
        return self._grant()

    def _release(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["epoch"] != self.epoch:
            return self._refuse("superseded")
        if body.get("to"):
            if self.replication == "async":
                return self._refuse("behind")
            self.reserved = (body["to"], self._clock() + 2 * TTL)
        self.holder, self.until = None, -inf
        return 200, {"ok": True}

    def _replication(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["epoch"] != self.epoch or self.running != body["node"]:
            return self._refuse("superseded")
        if body["serial"] <= self.serial:
            return self._refuse("stale")
        self.serial = body["serial"]
        self.cluster = body["cluster"]
        self.replication = body["mode"]
        return 200, {"ok": True}


@dataclass
class ModelDatabase:
    """A server and its disk."""

    log: list[int] = field(default_factory=list)
    timeline: int = 1
    history: tuple[tuple[int, int], ...] = ()
    in_recovery: bool = True
    synchronous: str = ""
    primary: str | None = None
    slots: set[str] = field(default_factory=set)
    mark: bool = False
    synced: int = 0
    """Up to where the standby has confirmed."""
    heard: float | None = None
    """When it last did; None where no standby has, since the server started."""

    def restart(self) -> None:
        """As its container does: back as a standby."""
        self.in_recovery = True
        self.heard = None

    def promote(self) -> None:
        """A new timeline."""
        if self.in_recovery:
            self.history = (*self.history, (self.timeline, len(self.log)))
            self.timeline += 1
            self.in_recovery = False
            self.synced = 0


class ModelNode:
    """A node of the pair."""

    def __init__(self, world: PairModel, name: str, memory: Path) -> None:
        self.world = world
        self.name = name
        self.peer_name = next(one for one in NODES if one != name)
        self.role: Role = "primary" if name == "vps-01" else "standby"
        self.memory_file = memory
        self.disk = ModelDatabase()
        self.record = Record()
        self.up = False
        self.frozen = False
        """The agent does not run; PostgreSQL does."""
        self.arbiter_cut = False
        self.answers_lost = False
        self.decision: Decision | None = None
        self.facts: RoleFacts | None = None
        self.promoted_without_right = False

    def power_on(self) -> None:
        self.up, self.frozen = True, False
        self.memory_file.unlink(missing_ok=True)
        self.disk.restart()
        self.start_agent()

    def power_off(self) -> None:
        self.up = False
        self.decision = None

    def start_agent(self) -> None:
        world = self.world
        self.memory = Memory()
        self.started = world.now
        self.decision, self.facts = None, None
        self.keeper = LeaseKeeper(
            self.name,
            Arbiter(self.name, self._send),
            lambda: world.now,
            lambda: bool(self.decision and self.decision.wants_lease),
            lambda: Epochs(self.record.epoch, self.record.seen),
            self.memory_file,
        )

    def _send(
        self, _method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        if self.arbiter_cut or self.world.arbiter_down:
            raise ArbiterSilentError("cut")
        answer = self.world.arbiter.answer(path, body)
        if self.answers_lost:
            raise ArbiterSilentError("the answer is lost")
        return answer

    @property
    def peer(self) -> ModelNode:
        return self.world.nodes[self.peer_name]

    @property
    def leader(self) -> bool:
        """What /leader says at this moment."""
        decision = self.decision
        if not self.up or self.frozen or decision is None or decision.right is None:
            return False
        return decision.writes and self.world.now < decision.right.until

    @property
    def has_right(self) -> bool:
        """Whether it believes to have the right at this moment."""
        if not self.up:
            return False
        lease = self.keeper.lease
        return self.world.now < max(lease.until, lease.pledge_until)

    def streams(self) -> bool:
        """Whether its server receives the log of its primary."""
        if not (self.up and self.disk.in_recovery and self.disk.primary and self.peer.up):
            return False
        if self.world.peers_cut or self.peer.disk.in_recovery:
            return False
        return self._can_follow(self.peer.disk)

    def _can_follow(self, other: ModelDatabase) -> bool:
        mine, theirs = self.disk, other
        if mine.timeline == theirs.timeline:
            return mine.history == theirs.history and len(mine.log) <= len(theirs.log)
        left = dict(theirs.history).get(mine.timeline)
        return left is not None and len(mine.log) <= left

    def receive(self) -> None:
        """Stream what the primary has."""
        if self.streams():
            other = self.peer.disk
            assert other.log[: len(self.disk.log)] == self.disk.log
            self.disk.log = list(other.log)
            self.disk.timeline, self.disk.history = other.timeline, other.history
            self.disk.mark = other.mark
            other.synced = len(self.disk.log)
            other.heard = self.world.now

    def observe(self) -> RoleFacts:
        disk, world = self.disk, self.world
        sync_state = "sync" if disk.synchronous else "async"
        standby = Standby(self.peer_name, "streaming", sync_state, disk.synced, disk.heard)
        # Of a standby that is gone its primary knows only after a while.
        listed = disk.heard is not None and world.now - disk.heard < SENDER_TIMEOUT
        database = Database(
            in_recovery=disk.in_recovery,
            system=SYSTEM,
            timeline=disk.timeline,
            lsn=len(disk.log),
            receiving=self.streams(),
            conninfo=f"host={disk.primary} port=5432" if disk.primary else "",
            synchronous=disk.synchronous,
            standbys=(standby,) if listed and not disk.in_recovery else (),
            slots=tuple(Slot(name) for name in sorted(disk.slots)),
            mark="mark" if disk.mark else None,
            history=disk.history,
        )
        return RoleFacts(
            now=world.now,
            started=self.started,
            node=self.name,
            peer_name=self.peer_name,
            configured=self.role,
            arbiter=True,
            lease=self.keeper.lease,
            role=None,
            epoch=self.record.epoch,
            mode=self.record.mode,
            forced=False,
            maintenance=False,
            database=database,
            data=True,
            peer=self._ask_peer(),
            peer_asked=True,
            busy=None,
            wanted_mark="mark",
            pledged_until=self.keeper.pledged_until,
            memory=self.memory,
        )

    def _ask_peer(self) -> Peer | None:
        peer = self.peer
        if not peer.up or peer.frozen or self.world.peers_cut or peer.decision is None:
            return None
        right = peer.decision.right
        primary = peer.decision.state == "primary" and right is not None
        return Peer(
            node=peer.name,
            state=peer.decision.state,
            primary=primary and right is not None and self.world.now < right.until,
            epoch=right.epoch if right else peer.record.epoch,
            data=True,
            system=SYSTEM,
            timeline=peer.disk.timeline,
            lsn=len(peer.disk.log),
            history=peer.disk.history,
            migrated=peer.disk.mark,
        )

    def round(self) -> None:
        """What the agent's threads do in a second."""
        if not self.up or self.frozen:
            return
        self.keeper.step()
        epoch = self.keeper.needs_pledge()
        if epoch is not None and not self.world.peers_cut:
            peer = self.peer
            seconds = peer.keeper.pledge(epoch) if peer.up and not peer.frozen else None
            if seconds is not None:
                self.keeper.pledge_received(epoch, self.world.now, seconds)
        self.facts = remember(self.observe())
        self.memory = self.facts.memory
        self.decision = decide(self.facts)
        self._remember(self.facts, self.decision)
        self._act(self.facts, self.decision)

    def guard(self) -> None:
        """The thread that watches the end of the right."""
        if self.up and not self.frozen and not self.disk.in_recovery and not self.has_right:
            self.disk.restart()

    def _remember(self, facts: RoleFacts, decision: Decision) -> None:
        right = decision.right
        if decision.state == "primary" and right:
            self.record = Record(epoch=max(self.record.epoch, right.epoch), seen=self.record.seen)
        seen = max(facts.lease.seen, self.record.seen)
        self.record = Record(epoch=self.record.epoch, seen=seen)

    def _act(self, facts: RoleFacts, decision: Decision) -> None:
        disk = self.disk
        for action in decision.actions:
            match action:
                case Promote(synchronous):
                    if not self.has_right:
                        self.promoted_without_right = True
                    disk.synchronous = synchronous
                    disk.primary = None
                    disk.promote()
                case Fence() | GiveUp():
                    disk.restart()
                case Follow(host):
                    disk.primary = host
                case SetSynchronous(name):
                    disk.synchronous = name
                case RecordMode(mode):
                    try:
                        self.keeper.record(mode, SYSTEM)
                    except ArbiterSilentError:
                        return
                case MakeSlot(peer):
                    disk.slots.add(slot_name(peer))
                case DropSlots(names):
                    disk.slots -= set(names)
                case Copy(host):
                    other = self.world.nodes[host].disk
                    self.world.kept_aside += len(disk.log)
                    self.disk = ModelDatabase(
                        log=list(other.log), timeline=other.timeline, history=other.history,
                        mark=other.mark,
                    )  # fmt: skip
                case _:
                    disk.mark = True


class PairModel:
    """Two nodes, an arbiter, a network and a client."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.arbiter_down = False
        self.peers_cut = False
        self.arbiter = ModelArbiter(lambda: self.now)
        self.nodes = {name: ModelNode(self, name, folder / name) for name in NODES}
        self.writes = 0
        self.waiting: dict[int, str] = {}
        self.acknowledged: list[int] = []
        self.kept_aside = 0
        for node in self.nodes.values():
            node.power_on()

    def write(self) -> None:
        """A device posts to whichever node is leader."""
        for node in self.nodes.values():
            if node.leader and not node.disk.in_recovery:
                self.writes += 1
                node.disk.log.append(self.writes)
                if node.disk.synchronous:
                    self.waiting[self.writes] = node.name
                else:
                    self.acknowledged.append(self.writes)

    def _confirm(self) -> None:
        for write, name in list(self.waiting.items()):
            node = self.nodes[name]
            if node.disk.in_recovery or write not in node.disk.log:
                del self.waiting[write]  # the connection was cut: never acknowledged
            elif not node.disk.synchronous or node.disk.log.index(write) < node.disk.synced:
                self.acknowledged.append(write)
                del self.waiting[write]

    def tick(self, seconds: float) -> None:
        """Time passes, in small steps, with one write each."""
        end = self.now + seconds
        step = 0.5 if seconds <= 20 else 1.0
        while self.now < end - 1e-9:
            self.now = min(end, self.now + step)
            for node in self.nodes.values():
                node.guard()
            for node in self.nodes.values():
                node.round()
                self.check()
            for node in self.nodes.values():
                node.receive()
            self.write()
            self._confirm()
            self.check()

    def heal(self) -> None:
        """Everything works again."""
        self.arbiter_down = self.peers_cut = False
        for node in self.nodes.values():
            node.arbiter_cut = node.answers_lost = node.frozen = False
            if not node.up:
                node.power_on()

    def check(self) -> None:
        """What holds at every moment."""
        nodes = self.nodes.values()
        assert sum(node.has_right and node.up for node in nodes) <= 1, "two rights"
        assert sum(node.leader for node in nodes) <= 1, "two leaders"
        assert not any(node.promoted_without_right for node in nodes), "promoted without a right"
        for node in nodes:
            if node.leader and not node.disk.in_recovery:
                missing = set(self.acknowledged) - set(node.disk.log)
                assert not missing, f"{node.name} lacks acknowledged writes {sorted(missing)}"
