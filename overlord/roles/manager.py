"""The role manager's loop: observe, decide, act, about once a second.

Apart from the agent's slower loop, and with nothing in it that waits for Docker. A second thread
watches nothing but the end of this node's right to take writes, so that a loop that hangs on
PostgreSQL cannot outlive it.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from overlord.actions.database import has_database, wanted_mark
from overlord.errors import OverlordError
from overlord.facts.database import Database, DatabaseError, Postgres
from overlord.facts.peer import Peer, read_peer
from overlord.node import Node, read_boot_settings, read_node
from overlord.paths import Paths
from overlord.roles.act import Hands, RoleActor
from overlord.roles.decide import (
    Copy,
    Decision,
    Promote,
    RecordMode,
    decide,
)
from overlord.roles.facts import Lease, Memory, RoleFacts, remember
from overlord.roles.record import Record, read_record, write_record
from overlord.roles.view import RoleState, RoleView
from overlord.runner import Runner

ROUND_SECONDS = 1.0
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


class RoleManager:
    """Decides and carries out what this node is."""

    def __init__(
        self, paths: Paths, runner: Runner, state: RoleState, postgres: Postgres | None = None
    ) -> None:
        self._paths = paths
        self._state = state
        self._clock = state.clock
        self._started = self._clock()
        self._postgres = postgres or Postgres(paths.database_socket)
        self._hands = Hands(self._clock)
        self._runner = runner
        self._memory = Memory()
        self._peer = PeerWatch(self._clock)
        self._host: str | None = None
        self._said = ""

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
            stop.wait(ROUND_SECONDS)

    def round(self) -> None:
        """One round. Raises OverlordError when not even the node is known."""
        boot = read_boot_settings(self._paths)
        node = read_node(self._paths, boot)
        self._host = node.peer
        record = read_record(self._paths)
        facts = remember(self._observe(node, record))
        self._memory = facts.memory
        decision = decide(facts)
        self._state.publish(RoleView(facts, decision, record))
        self._say(f"{decision.state}: {decision.reason}")
        self._act(facts, decision, record)

    def _observe(self, node: Node, record: Record) -> RoleFacts:
        database: Database | None = None
        try:
            database = self._postgres.read()
        except DatabaseError as error:
            if has_database(self._paths):
                self._say(f"PostgreSQL: {error}")
        return RoleFacts(
            now=self._clock(),
            started=self._started,
            node=node.name,
            peer_name=node.peer,
            configured=node.role,
            arbiter=False,
            lease=Lease(),
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
            wanted_mark=wanted_mark(self._paths, node.name),
            memory=self._memory,
        )

    def _act(self, facts: RoleFacts, decision: Decision, record: Record) -> None:
        actor = RoleActor(self._paths, self._runner, facts.node, self._hands)
        for action in decision.actions:
            try:
                if isinstance(action, RecordMode):
                    if record.mode != action.mode:
                        record = replace(record, mode=action.mode)
                        record = record.with_event(f"replication is {action.mode}")
                        write_record(record, self._paths)
                    continue
                if isinstance(action, Copy) and self._hands.ready("copy"):
                    record = replace(record, diverged=action.diverged)
                    record = record.with_event(f"copies from {action.host}", action.reason)
                    write_record(record, self._paths)
                if isinstance(action, Promote):
                    # Before the deed: a second one under the same epoch is the same primary's.
                    record = replace(record, epoch=decision.right.epoch if decision.right else 0)
                    write_record(record, self._paths)
                actor.act(action, self._postgres, facts.wanted_mark)
                if isinstance(action, Promote):
                    source = decision.right.source if decision.right else ""
                    record = record.with_event("promoted", source)
                    write_record(record, self._paths)
            except (DatabaseError, OSError) as error:
                # What follows may depend on it; the next round decides anew.
                log.error("%s failed: %s", type(action).__name__, error)
                return

    def _guard(self, stop: threading.Event) -> None:
        """Fence the server the moment the right ends, whatever the loop does."""
        while not stop.wait(GUARD_SECONDS):
            view = self._state.last()
            right = view.decision.right if view else None
            if view is None or right is None or self._clock() < right.until:
                continue
            database = view.facts.database
            if database is None or not database.in_recovery:
                actor = RoleActor(self._paths, self._runner, view.facts.node, self._hands)
                actor.fence("the right to take writes has ended")

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            log.warning("%s", line)
