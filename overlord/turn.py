"""When a node of the pair may be changed, and what comes first.

What devices write through is changed first on the node that follows, and PostgreSQL on no other
one: a leader hands over before. `decide_turn` is a pure function of both nodes' facts, so that it
holds whatever the roles are when a change comes. `Pair` carries it out.
"""

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from overlord.actions.database import SERVICE as DATABASE
from overlord.errors import OverlordError
from overlord.facts.peer import Peer, read_peer
from overlord.paths import Paths
from overlord.roles.switchover import switch_over
from overlord.roles.words import ask_agent

WAY_OF_WRITES = frozenset({"nginx", "api", DATABASE})
"""Services that a device's write passes through."""
PAIR_SECRETS = frozenset({"postgres_replication_password", "postgres_tls_cert", "postgres_tls_key"})
"""With another one of these on each node the standby cannot stream."""
CHANGE_SECONDS = 900.0
"""How long the change of the other node, or the copy of a database, is waited for."""
SETTLE_SECONDS = 30.0
"""How long a role that is not clear yet, or a silent peer, is waited for."""
SYNC_SECONDS = 120.0
"""How long a standby that could take over is waited for."""
SAMPLE_SECONDS = 0.1
WRITES_NEED = ((9600, "/leader"), (8000, "/api/health"), (8081, "/"))
"""Ports on loopback and paths that answer with success on a node that takes writes."""


@dataclass(frozen=True)
class Change:
    """What a change does to a node.

    Args:
        release: the one that is put in force.
        services: those that get a new container.
        agent: whether the node agent is restarted, without which nobody may write.
        secrets: names of those that change.
    """

    release: str
    services: frozenset[str] = frozenset()
    agent: bool = False
    secrets: frozenset[str] = frozenset()

    @property
    def database(self) -> bool:
        """Whether PostgreSQL restarts."""
        return DATABASE in self.services

    @property
    def stops_writes(self) -> bool:
        """Whether a leader takes no writes for a moment."""
        return self.agent or bool(self.services & WAY_OF_WRITES)

    @property
    def parts(self) -> bool:
        """Whether the standby cannot stream until both nodes have it."""
        return bool(self.secrets & PAIR_SECRETS)


@dataclass(frozen=True)
class Situation:
    """Both nodes at one moment.

    Args:
        state: this node's role, see roles.decide; "" when the agent does not answer.
        reason: why it is that.
        busy: what is being done to its database right now, or None.
        obstacle: why it could not hand over, or None.
        peer_name: the other node.
        peer: what the other node says of itself, or None.
    """

    state: str
    reason: str
    busy: str | None
    obstacle: str | None
    peer_name: str
    peer: Peer | None

    @property
    def leads(self) -> bool:
        """Whether this node is primary."""
        return self.state == "primary"

    @property
    def follows(self) -> bool:
        """Whether the other node is primary and this one is its standby, or is becoming it."""
        primary = self.peer is not None and self.peer.primary
        return primary and self.state in ("standby", "catching up")

    @property
    def in_sync(self) -> bool:
        """Whether this node follows and has every acknowledged write."""
        synchronous = self.peer is not None and self.peer.synchronous
        return self.follows and self.state == "standby" and synchronous


@dataclass(frozen=True)
class Go:
    """Change this node now."""

    note: str


@dataclass(frozen=True)
class HandOver:
    """Give the primary's role to the other node, then look again."""

    why: str


@dataclass(frozen=True)
class Refuse:
    """Change nothing."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Wait:
    """Look again, for at most `seconds`; then do what `then` says."""

    why: str
    seconds: float
    then: Go | Refuse


Turn = Go | HandOver | Refuse | Wait


def decide_turn(change: Change, now: Situation) -> Turn:
    """Whether it is this node's turn."""
    if now.peer and now.peer.changing:
        why = f"{now.peer_name} is being changed to release {now.peer.changing}"
        return Wait(
            why, CHANGE_SECONDS, Refuse(why, f"see `overlordctl status` on {now.peer_name}")
        )
    if now.busy:
        return Wait(now.busy, CHANGE_SECONDS, Refuse(now.busy, "see `overlordctl role`"))
    if now.leads:
        return _turn_of_leader(change, now)
    if now.follows:
        return Go(f"this node follows {now.peer_name}")
    why = f"{now.state}: {now.reason}" if now.state else now.reason
    # A pair without a primary may be what the change is to mend.
    return Wait(why, SETTLE_SECONDS, Go(f"neither node is primary ({why}), changed all the same"))


def _turn_of_leader(change: Change, now: Situation) -> Turn:
    name, peer = now.peer_name, now.peer
    if peer is None:
        why = f"{name} does not answer over the tailnet"
        return Wait(why, SETTLE_SECONDS, Go(_in_place(change, why)))
    if peer.maintenance:
        return Go(_in_place(change, f"{name} is in maintenance"))
    # An earlier release's agent does not say what it runs. Then the order of the changes counts.
    goes_first = peer.release is not None and peer.release != change.release
    by_hand = f"`overlordctl maintenance on` on {name} has this node changed in place"
    if not goes_first and not peer.healthy:
        why = f"{name} runs release {change.release} and is not healthy"
        return Wait(why, SYNC_SECONDS, Refuse(why, f"see `overlordctl doctor` there; {by_hand}"))
    if not (change.database or (goes_first and change.stops_writes)):
        return Go("this node leads and is changed in place")
    if change.parts:
        why = f"{name} cannot stream until both nodes have the new secret"
        return Go(_in_place(change, why))
    obstacle = now.obstacle if peer.healthy else f"{name} is not healthy"
    if obstacle is None:
        todo = "PostgreSQL restarts" if change.database else f"{name} has it first"
        return HandOver(f"this node leads, and {todo}")
    why = f"cannot hand over to {name}: {obstacle}"
    if goes_first:
        remedy = f"see `overlordctl role` on both nodes; {by_hand}"
        return Wait(why, SYNC_SECONDS, Refuse(why, remedy))
    return Wait(why, SYNC_SECONDS, Go(_in_place(change, why)))


def _in_place(change: Change, why: str) -> str:
    if change.database:
        return f"{why}: PostgreSQL restarts in place, and writes stop for some seconds"
    return f"{why}: changed in place"


def takes_writes() -> bool:
    """Whether this node's agent allows writes, and API and nginx answer."""
    return all(_answers(port, path) for port, path in WRITES_NEED)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class Pair:
    """Waits for this node's turn, and for what has to be so again afterwards.

    Args:
        paths: of this node.
        peer_name: the other node, once it is known.
        say: for the progress.
        ask: the agent's /status; raises OverlordError.
        ask_peer: what the peer says of itself.
        hand_over: gives the role away; seconds until the peer was primary.
        writes: whether a write would be taken on this node now.
    """

    paths: Paths
    peer_name: Callable[[], str]
    say: Callable[[str], object] = print
    ask: Callable[[], Mapping[str, Any]] = ask_agent
    ask_peer: Callable[[str], Peer | None] = read_peer
    hand_over: Callable[[Paths], float] = switch_over
    writes: Callable[[], bool] = takes_writes
    sleep: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _pause: "Pause | None" = field(default=None, init=False)

    def preview(self, change: Change) -> str:
        """What `begin` would do right now."""
        match decide_turn(change, self._look()):
            case Go(note):
                return note
            case HandOver(why):
                return f"{why}: would hand over first"
            case Wait(why, seconds, _):
                return f"would wait for at most {seconds:.0f} s: {why}"
            case Refuse(what, _):
                return f"would be refused: {what}"

    def begin(self, change: Change) -> None:
        """Wait until this node may be changed. Raises OverlordError; then nothing was changed."""
        self._pause = None
        waiting, since = "", 0.0
        while True:
            now = self._look()
            turn: Turn = decide_turn(change, now)
            if isinstance(turn, Wait):
                if turn.why != waiting:
                    waiting, since = turn.why, self.clock()
                    self.say(f"waiting for at most {turn.seconds:.0f} s: {turn.why}")
                if self.clock() - since < turn.seconds:
                    self.sleep(1)
                    continue
                turn = turn.then
            match turn:
                case Refuse(what, remedy):
                    raise OverlordError(f"{what}; nothing was changed here", remedy)
                case HandOver(why):
                    self.say(f"{why}: handing over to {now.peer_name} first")
                    seconds = self.hand_over(self.paths)
                    self.say(f"{now.peer_name} leads after {seconds:.1f} s")
                    self._wait_until_in_sync(now.peer_name)
                case Go(note):
                    self.say(note)
                    if now.leads and change.stops_writes:
                        self._pause = Pause(self.writes)
                    return

    def end(self, change: Change) -> None:
        """Wait until this node is again what it was. Raises OverlordError when the change keeps it
        from that."""
        pause = self._pause
        if pause:
            self._wait(
                lambda now: (now.leads and self.writes()) or now.in_sync, "take writes again"
            )
            self.say(f"writes stopped for {pause.stop():.1f} s")
        elif change.parts:
            self.say("streams again once both nodes have the new secret")
        elif change.database:
            self._wait_until_follows()

    def abandon(self) -> None:
        """The change has failed: nothing is measured any more."""
        if self._pause:
            self._pause.stop()
            self._pause = None

    def _wait_until_in_sync(self, peer: str) -> None:
        self._wait(lambda now: now.in_sync, f"follow {peer} in sync")

    def _wait_until_follows(self) -> None:
        """Where no primary is in sight there is nobody to follow, and no release is to blame."""
        seen = False

        def settled(now: Situation) -> bool:
            nonlocal seen
            seen = seen or now.leads or (now.peer is not None and now.peer.primary)
            return now.leads or now.in_sync

        try:
            self._wait(settled, "follow in sync")
        except OverlordError:
            if seen:
                raise
            self.say("no primary is in sight: see `overlordctl role` on both nodes")

    def _wait(self, settled: Callable[[Situation], bool], what: str) -> None:
        deadline = self.clock() + SYNC_SECONDS
        while not settled(now := self._look()):
            if self.clock() >= deadline:
                raise OverlordError(
                    f"this node does not {what} within {SYNC_SECONDS:.0f} s: "
                    f"{now.state or 'unknown'}, {now.reason}",
                    "see `overlordctl role` on both nodes",
                )
            self.sleep(0.5)

    def _look(self) -> Situation:
        name = self.peer_name()
        try:
            roles = self.ask()["roles"]
        except OverlordError as error:
            roles = {"state": "", "reason": error.what}
        return Situation(
            state=roles["state"],
            reason=roles["reason"],
            busy=roles.get("busy"),
            obstacle=roles.get("switchover_obstacle"),
            peer_name=name,
            peer=self.ask_peer(name),
        )


class Pause:
    """Measures for how long this node took no writes."""

    def __init__(self, writes: Callable[[], bool]) -> None:
        self._writes = writes
        self._longest = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pause", daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The longest one, in seconds."""
        self._stop.set()
        self._thread.join()
        return self._longest

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(SAMPLE_SECONDS):
            now = time.monotonic()
            if self._writes():
                self._longest = max(self._longest, now - last)
                last = now
