"""The role manager's loop: observe, decide, act, about once a second.

Apart from the agent's slower loop, and with nothing in it that waits for Docker. Three more threads
wait for nothing but their own business: one for the arbiter, one for the peer, and one that watches
the end of this node's right to take writes, so that a loop that hangs on PostgreSQL cannot outlive
it.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from overlord.actions.database import SERVICE, has_database, wanted_mark
from overlord.arbiter import Arbiter, ArbiterSilentError, Send, https
from overlord.errors import OverlordError
from overlord.facts.database import Database, DatabaseError, Postgres
from overlord.facts.peer import Peer, call_peer, read_peer
from overlord.facts.services import restart_container
from overlord.node import Node, read_boot_settings, read_node
from overlord.paths import Paths
from overlord.roles import requests
from overlord.roles.act import FENCE_SECONDS, Hands, RoleActor
from overlord.roles.decide import (
    DATABASE_GRACE,
    Copy,
    Decision,
    GiveUp,
    HandOver,
    Promote,
    RecordMode,
    decide,
    promote_obstacle,
    switchover_obstacle,
)
from overlord.roles.facts import Lease, Memory, RoleFacts, remember
from overlord.roles.handover import Handover
from overlord.roles.lease import Epochs, LeaseKeeper, keep_pledged
from overlord.roles.record import Record, read_record, write_record
from overlord.roles.view import RoleState, RoleView
from overlord.runner import Runner

ROUND_SECONDS = 1.0
QUICK_SECONDS = 0.2
"""Between rounds while this node becomes primary: nobody takes writes meanwhile."""
PROMOTE_AGAIN_SECONDS = 3.0
"""A server that was told to become primary gets so long before it is told again."""
GUARD_SECONDS = 0.2
PEER_STALE_SECONDS = 5.0
"""What the peer said longer ago is no fact any more."""

log = logging.getLogger("overlord.roles")


class PeerWatch:
    """Asks the peer again and again, in a thread of its own: it may take long to say nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answer: tuple[float, Peer] | None = None

    def run(self, host: Callable[[], str | None], stop: threading.Event) -> None:
        """Until stop is set."""
        while not stop.wait(ROUND_SECONDS):
            name = host()
            asked = self._clock()
            peer = read_peer(name) if name else None
            if peer:
                self._answer = (asked, peer)

    def current(self) -> Peer | None:
        """The last answer, unless it is too old."""
        answer = self._answer
        if answer is None or self._clock() - answer[0] > PEER_STALE_SECONDS:
            return None
        return answer[1]

    @property
    def ever(self) -> bool:
        """Whether there was any answer."""
        return self._answer is not None


@dataclass
class _Arbitration:
    """The arbiter that this node asks, and who keeps its lease."""

    url: str
    keeper: LeaseKeeper
    stop: threading.Event


class RoleManager:
    """Decides and carries out what this node is."""

    def __init__(
        self,
        paths: Paths,
        runner: Runner,
        state: RoleState,
        connect: Callable[[str, Callable[[], str]], Send] = https,
    ) -> None:
        self._paths = paths
        self._state = state
        self._clock = state.clock
        self._connect = connect
        self._started = self._clock()
        self._postgres = Postgres(paths.database_socket)
        self._hands = Hands(self._clock)
        self._runner = runner
        self._memory = Memory()
        self._peer = PeerWatch(self._clock)
        self._host: str | None = None
        self._arbitration: _Arbitration | None = None
        self._record_lock = threading.Lock()
        self._said: dict[str, str] = {}
        self._promoting_since = float("-inf")
        self._granted = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Rounds until stop is set."""
        watch = (lambda: self._host, stop)
        threading.Thread(target=self._peer.run, args=watch, name="peer", daemon=True).start()
        threading.Thread(target=self._guard, args=(stop,), name="guard", daemon=True).start()
        while not stop.is_set():
            try:
                self.round()
            except OverlordError as error:
                self._say(error.what)
            except Exception:
                log.exception("a round of the role manager failed")
            # A new lease is reason enough for a round at once.
            self._granted.wait(self.pause())
            self._granted.clear()
        if self._arbitration:
            self._arbitration.stop.set()

    def pause(self) -> float:
        """Seconds until the next round."""
        view = self._state.last()
        becomes_primary = (
            view is not None
            and view.decision.right is not None
            and view.facts.database is not None
            and view.facts.database.in_recovery
        )
        return QUICK_SECONDS if becomes_primary else ROUND_SECONDS

    def round(self) -> None:
        """One round. Raises OverlordError when not even the node is known."""
        boot = read_boot_settings(self._paths)
        node = read_node(self._paths, boot)
        self._host = node.peer
        self._arbitrate(node)
        facts = remember(self._observe(node, read_record(self._paths)))
        self._memory = facts.memory
        decision = decide(facts)
        record = self._bring_up_to_date(facts, decision)
        self._state.publish(RoleView(facts, decision, record))
        self._say(f"{decision.state}: {decision.reason}")
        request = requests.pending(self._paths)
        if request:
            self._answer(request, facts, decision)
        self._act(facts, decision)

    # Facts

    def _arbitrate(self, node: Node) -> None:
        """Start to keep a lease, or go over to another arbiter."""
        present = self._arbitration
        if present and present.url == node.arbiter:
            return
        if present:
            present.stop.set()
            self._arbitration = None
        if node.arbiter is None:
            return
        stop = threading.Event()
        secret = self._paths.secrets / "arbiter_token"
        send = self._connect(node.arbiter, lambda: secret.read_text().strip())
        keeper = LeaseKeeper(
            node.name,
            Arbiter(node.name, send),
            self._clock,
            self._wants_lease,
            self._epochs,
            self._paths.lease,
            self._granted.set,
        )
        self._arbitration = _Arbitration(node.arbiter, keeper, stop)
        threading.Thread(target=keeper.run, args=(stop,), name="lease", daemon=True).start()
        pledges = (keeper, self._ask_for_pledge, self._clock, stop)
        threading.Thread(target=keep_pledged, args=pledges, name="pledge", daemon=True).start()

    def _wants_lease(self) -> bool:
        view = self._state.last()
        if view is None or self._clock() - view.facts.now > DATABASE_GRACE:
            return False  # a loop that hangs for so long is no primary
        return view.decision.wants_lease

    def _epochs(self) -> Epochs:
        record = read_record(self._paths)
        return Epochs(record.epoch, record.seen)

    def _ask_for_pledge(self, epoch: int) -> float | None:
        host = self._host
        if host is None:
            return None
        try:
            answer = call_peer(host, "POST", "/pledge", {"epoch": epoch})
            return float(answer["seconds"]) if answer.get("pledged") is True else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _observe(self, node: Node, record: Record) -> RoleFacts:
        database: Database | None = None
        try:
            database = self._postgres.read()
        except DatabaseError as error:
            if has_database(self._paths):
                self._say(f"PostgreSQL: {error}", "database")
        keeper = self._arbitration.keeper if self._arbitration else None
        return RoleFacts(
            now=self._clock(),
            started=self._started,
            node=node.name,
            peer_name=node.peer,
            configured=node.role,
            arbiter=keeper is not None,
            lease=keeper.lease if keeper else Lease(),
            role=record.role,
            epoch=record.epoch,
            mode=record.mode,
            forced=record.forced,
            maintenance=record.maintenance,
            database=database,
            data=has_database(self._paths),
            peer=self._peer.current(),
            peer_asked=self._peer.ever,
            busy="copying the database of the peer" if self._hands.busy("copy") else None,
            room=_room(self._paths),
            handing_over=self._hands.busy("handover") or self._hands.busy("full disk"),
            wanted_mark=wanted_mark(self._paths, node.name),
            pledged_until=keeper.pledged_until if keeper else float("-inf"),
            memory=self._memory,
        )

    # Memory

    def _change(self, change: Callable[[Record], Record]) -> Record:
        """Change the record; it is written only when it differs."""
        with self._record_lock:
            before = read_record(self._paths)
            after = change(before)
            if after != before:
                write_record(after, self._paths)
            return after

    def _bring_up_to_date(self, facts: RoleFacts, decision: Decision) -> Record:
        right = decision.right
        seen = max(facts.lease.seen, facts.lease.epoch, facts.peer.epoch if facts.peer else 0)

        def change(record: Record) -> Record:
            if seen > record.seen:
                record = replace(record, seen=seen)
            if decision.state == "primary" and right and right.epoch > record.epoch:
                record = replace(record, epoch=right.epoch)
            if right and right.source == "lease" and record.forced:
                record = replace(record, forced=False)
            following = facts.peer is not None and facts.peer.primary and right is None
            if following and (record.mode, record.was_primary) != ("async", False):
                # What it promised as a primary is the other one's business now.
                record = replace(record, mode="async", was_primary=False)
            return record

        return self._change(change)

    def _note(self, what: str, reason: str) -> None:
        """Add to the history what matters to people alone: no full disk keeps the deed from
        being done."""
        try:
            self._change(lambda record: record.with_event(what, reason))
        except OSError as error:
            log.error("not in the history: %s (%s): %s", what, reason, error)

    # Deeds

    def _act(self, facts: RoleFacts, decision: Decision) -> None:
        actor = RoleActor(self._paths, self._runner, facts.node, self._hands)
        for action in decision.actions:
            try:
                match action:
                    case RecordMode(mode):
                        self._record_mode(facts, mode)
                    case HandOver(reason):
                        self._hands.start("full disk", partial(self._hand_over, facts, reason))
                    case GiveUp(reason):
                        self._hands.start("give up", partial(self._give_up, facts, reason))
                    case Promote():
                        self._promote(actor, action, facts, decision)
                    case Copy(host, reason, diverged) if self._hands.ready("copy"):
                        self._note_copy(host, reason, diverged)
                        actor.act(action, self._postgres, facts.wanted_mark)
                    case _:
                        actor.act(action, self._postgres, facts.wanted_mark)
            except (DatabaseError, ArbiterSilentError, OSError) as error:
                # What follows may depend on it; the next round decides anew.
                self._say(f"{type(action).__name__} failed: {error}", "deed")
                return

    def _record_mode(self, facts: RoleFacts, mode: str) -> None:
        if self._arbitration and facts.database:
            self._arbitration.keeper.record(
                "sync" if mode == "sync" else "async", facts.database.system
            )

        def change(record: Record) -> Record:
            if record.mode == mode:
                return record
            changed = replace(record, mode="sync" if mode == "sync" else "async")
            return changed.with_event(f"replication is {mode}")

        self._change(change)

    def _promote(
        self, actor: RoleActor, action: Promote, facts: RoleFacts, decision: Decision
    ) -> None:
        right = decision.right
        if right is None or self._clock() >= right.until:
            return
        if self._clock() - self._promoting_since < PROMOTE_AGAIN_SECONDS:
            return
        # Before the deed: an epoch under which this node was primary is never forgotten.
        self._change(lambda record: replace(record, epoch=right.epoch, was_primary=True))
        actor.act(action, self._postgres, facts.wanted_mark)
        self._promoting_since = self._clock()
        self._change(lambda record: record.with_event("promoted", right.source))

    def _note_copy(self, host: str, reason: str, diverged: int) -> None:
        def change(record: Record) -> Record:
            event = f"copies the database of {host}, its own is kept aside"
            return replace(record, diverged=diverged).with_event(event, reason)

        self._change(change)

    def _give_up(self, facts: RoleFacts, reason: str) -> None:
        """Make sure that nothing writes, then let the other node have the lease at once."""
        restart_container(self._paths.docker_socket, SERVICE, FENCE_SECONDS)
        if self._arbitration:
            refused = self._arbitration.keeper.release(None)
            self._note("gave the lease away", reason)
            if refused:
                log.error("the lease is not released, it runs out: %s", refused)
            else:
                self._tell_peer(facts, "/nudge", {})

    def _guard(self, stop: threading.Event) -> None:
        """Fence the server the moment the right ends, whatever the loop does."""
        while not stop.wait(GUARD_SECONDS):
            view = self._state.last()
            right = view.decision.right if view else None
            if view is None or right is None:
                continue
            until = right.until
            if self._arbitration and right.source != "operator":
                # The loop may hang; the lease is renewed apart from it.
                lease = self._arbitration.keeper.lease
                until = max(lease.until, lease.pledge_until)
            database = view.facts.database
            if self._clock() >= until and (database is None or not database.in_recovery):
                actor = RoleActor(self._paths, self._runner, view.facts.node, self._hands)
                actor.fence("the right to take writes has ended")

    # Wishes

    def _answer(self, request: requests.Request, facts: RoleFacts, decision: Decision) -> None:
        ok, text = True, "done"
        match request.verb:
            case "maintenance on" | "maintenance off":
                on = request.verb == "maintenance on"
                self._change(
                    lambda record: replace(record, maintenance=on).with_event(request.verb)
                )
                text = "this node does not become primary by itself" if on else "as ever"
            case "promote":
                ok, text = self._promote_by_hand(facts, decision)
            case "switchover":
                obstacle = switchover_obstacle(facts, decision)
                ok, text = obstacle is None, obstacle or f"handing over to {facts.peer_name}"
                if ok:
                    self._hands.start("handover", lambda: self._hand_over(facts))
        requests.answer(request, ok, text, self._paths)

    def _promote_by_hand(self, facts: RoleFacts, decision: Decision) -> tuple[bool, str]:
        obstacle = promote_obstacle(facts, decision)
        if obstacle:
            return False, obstacle
        highest = max(facts.epoch, facts.lease.seen, facts.peer.epoch if facts.peer else 0)
        self._change(
            lambda record: replace(
                record,
                role=None if facts.arbiter else "primary",
                forced=facts.arbiter,
                epoch=max(highest, record.seen) + 1,
                mode="async",
            ).with_event("promote", "by an operator")
        )
        return True, "this node becomes primary"

    def _hand_over(self, facts: RoleFacts, reason: str = "") -> None:
        give = self._give_lease if facts.arbiter else self._give_role
        told = f"to {facts.peer_name}" + (f": {reason}" if reason else "")
        self._note("switchover", told)
        try:
            Handover(self._paths, self._peer.current, lambda: give(facts)).run()
        except OverlordError as error:
            self._note("switchover failed", error.what)
            raise

    def _give_lease(self, facts: RoleFacts) -> str:
        assert self._arbitration is not None
        failed = self._arbitration.keeper.release(facts.peer_name)
        if not failed:
            self._tell_peer(facts, "/nudge", {})
        return failed

    def _give_role(self, facts: RoleFacts) -> str:
        """Without an arbiter the two nodes settle it themselves. This one steps down first: an
        answer that gets lost then leaves no primary, and never two."""
        epoch = max(facts.epoch, facts.peer.epoch if facts.peer else 0) + 1
        self._change(lambda record: replace(record, role="standby", mode="async"))
        if self._tell_peer(facts, "/takeover", {"epoch": epoch}):
            return ""
        return f"{facts.peer_name} did not confirm; `overlordctl promote --i-know` on either node"

    def _tell_peer(self, facts: RoleFacts, path: str, body: dict[str, int]) -> bool:
        try:
            return call_peer(facts.peer_name, "POST", path, body).get("ok") is True
        except (OSError, ValueError):
            return False

    # What the peer asks, see agent.http

    def pledge(self, epoch: int) -> float | None:
        """Promise not to become primary; for how many seconds, or None."""
        return self._arbitration.keeper.pledge(epoch) if self._arbitration else None

    def nudge(self) -> None:
        """Ask the arbiter now: the peer has given its lease away."""
        if self._arbitration:
            self._arbitration.keeper.nudge()

    def take_over(self, epoch: int) -> bool:
        """The peer has stopped and makes this node primary; only where no arbiter decides."""
        view = self._state.fresh()
        if self._arbitration or view is None or view.facts.database is None:
            return False
        self._change(
            lambda record: replace(
                record, role="primary", epoch=max(epoch, record.epoch), mode="async"
            ).with_event("takes over", "the peer hands over")
        )
        return True

    def _say(self, line: str, about: str = "role") -> None:
        """Log what differs from what was said of the same thing before."""
        if self._said.get(about) != line:
            self._said[about] = line
            log.warning("%s", line)


def _room(paths: Paths) -> int | None:
    try:
        found = os.statvfs(paths.database_volume)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
