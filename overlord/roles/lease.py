"""Holds this node's lease: a thread that asks the arbiter and waits for nothing else.

Every right is counted from the moment at which its request was sent, on this node's monotonic
clock, and ends a margin before the arbiter's own end.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from overlord.arbiter import Arbiter, ArbiterSilentError, ArbiterState, Granted, Refused
from overlord.files import read_json, write_json
from overlord.roles.facts import Lease
from overlord.roles.record import Mode

RENEW_SECONDS = 3.0
ASK_SECONDS = 4.0
MARGIN_SECONDS = 2.5
"""Between the end of this node's right and the arbiter's: time to fence the server."""
PLEDGE_SECONDS = 10.0
"""A pledge lasts so long, counted where it was given from the answer, where it was asked for from
the question."""
PLEDGE_MARGIN_SECONDS = 1.5
AWAY_SECONDS = 6.0
"""An arbiter that has not answered for so long is away."""

log = logging.getLogger("overlord.lease")


@dataclass(frozen=True)
class Epochs:
    """From this node's disk."""

    held: int
    """Highest epoch under which it was primary."""
    seen: int
    """Highest epoch that it ever heard of."""


class LeaseKeeper:
    """Acquires, renews and releases as the role manager wants it, and keeps pledges.

    Args:
        node: this node's name.
        arbiter: whom to ask.
        clock: monotonic, in seconds.
        wants: whether this node should hold the lease.
        epochs: from its disk.
        memory: file that outlives this process and not the machine, as the clock does: a right and
            a pledge hold on when the agent starts again.
        granted: called when a new lease was granted.
    """

    def __init__(
        self,
        node: str,
        arbiter: Arbiter,
        clock: Callable[[], float],
        wants: Callable[[], bool],
        epochs: Callable[[], Epochs],
        memory: Path,
        granted: Callable[[], None] = lambda: None,
    ) -> None:
        self._node = node
        self._arbiter = arbiter
        self._clock = clock
        self._wants = wants
        self._epochs = epochs
        self._lock = threading.Lock()
        self._memory = memory
        self._granted = granted
        before = read_json(memory)
        self._held = bool(before.get("held"))
        self._lease = Lease(
            epoch=int(before.get("epoch", 0)),
            until=float(before.get("until", "-inf")),
            replication="sync" if before.get("replication") == "sync" else "async",
            cluster=before.get("cluster"),
            seen=int(before.get("epoch", 0)),
        )
        self._pledged_until = float(before.get("pledged_until", "-inf"))
        self._acquiring = False
        self._released = int(before.get("released", 0))
        self._serial = 0
        self._next = clock()
        self._wake = threading.Event()
        self._said = ""

    @property
    def lease(self) -> Lease:
        """What is known now."""
        with self._lock:
            return self._lease

    @property
    def pledged_until(self) -> float:
        """Until when this node has promised not to become primary."""
        with self._lock:
            return self._pledged_until

    def run(self, stop: threading.Event) -> None:
        """Until stop is set."""
        while not stop.is_set():
            try:
                self.step()
            except OSError as error:
                # Its memory cannot be written: a right that the arbiter has granted runs on.
                self._say(f"the lease keeper's memory: {error}")
                self._next = self._clock() + RENEW_SECONDS / 3
            self._wake.wait(max(0.05, min(1.0, self._next - self._clock())))
            self._wake.clear()

    def nudge(self) -> None:
        """Ask the arbiter now."""
        self._next = self._clock()
        self._wake.set()

    def step(self) -> None:
        """Ask the arbiter if it is time to."""
        if self._clock() < self._next:
            return
        try:
            if self._held:
                self._renew()
            elif self._wants():
                self._acquire()
            else:
                self._look()
        except ArbiterSilentError as error:
            self._say(f"the arbiter is silent: {error}")
            self._next = self._clock() + RENEW_SECONDS / 3

    def _renew(self) -> None:
        if not self._wants():
            self._next = self._clock() + 0.5
            return
        sent = self._clock()
        answer = self._arbiter.renew(self.lease.epoch)
        if isinstance(answer, Granted):
            self._grant(sent, answer)
            return
        self._say(f"the lease is not renewed: {answer.reason}")
        if answer.reason == "waking":
            # It has lost its memory: as good as away, until the wait it names is over.
            self._next = self._clock() + RENEW_SECONDS
            if answer.retry_in is not None and answer.retry_in <= RENEW_SECONDS:
                self._drop(keep_right=True)
                self._next = self._clock() + answer.retry_in
            return
        self._note(sent, answer.state)
        # Revoked from outside, the lease runs to its end; superseded or released, it is none.
        self._drop(keep_right=answer.reason == "unreachable")
        self._next = self._clock() + ASK_SECONDS

    def _acquire(self) -> None:
        with self._lock:
            if self._pledged_until > self._clock():
                self._next = min(self._pledged_until, self._clock() + ASK_SECONDS)
                return
            self._acquiring = True
        try:
            sent = self._clock()
            epochs = self._epochs()
            answer = self._arbiter.acquire(epochs.held, epochs.seen)
            if isinstance(answer, Granted):
                self._grant(sent, answer)
                log.warning("lease granted, epoch %d", answer.epoch)
                self._granted()
                return
            self._refused(sent, answer)
        finally:
            with self._lock:
                self._acquiring = False

    def _refused(self, sent: float, answer: Refused) -> None:
        self._say(f"no lease: {answer.reason}")
        if answer.reason != "waking":
            self._note(sent, answer.state)
        wait = ASK_SECONDS
        if answer.retry_in is not None:
            # Its own word is exact: right then the lease of a dead node is free.
            wait = min(wait, answer.retry_in + 0.02)
        self._next = self._clock() + wait

    def _look(self) -> None:
        sent = self._clock()
        self._note(sent, self._arbiter.state())
        self._next = self._clock() + ASK_SECONDS

    def _grant(self, sent: float, grant: Granted) -> None:
        with self._lock:
            if grant.epoch <= self._released:
                return  # an answer that was on its way while the lease was given away
            self._held = True
            self._lease = replace(
                self._lease,
                epoch=grant.epoch,
                until=sent + grant.ttl - MARGIN_SECONDS,
                replication=grant.replication,
                cluster=grant.cluster,
                seen=grant.epoch,
                other_holds=False,
                answered=sent,
            )
            self._save()
        self._said = ""
        self._next = sent + RENEW_SECONDS

    def _note(self, sent: float, state: ArbiterState | None) -> None:
        with self._lock:
            if state is None:
                self._lease = replace(self._lease, answered=sent)
            elif state.epoch >= max(self._lease.seen, self._lease.epoch):
                # Fewer epochs than it once knew: it has lost its memory and says nothing of use.
                self._lease = replace(
                    self._lease,
                    answered=sent,
                    replication=state.replication,
                    cluster=state.cluster,
                    seen=state.epoch,
                    other_holds=state.holder not in (None, self._node),
                )

    def _drop(self, keep_right: bool) -> None:
        with self._lock:
            self._held = False
            if not keep_right:
                ended = float("-inf")
                self._lease = replace(self._lease, until=ended, pledge_until=ended)
            self._save()

    def _save(self) -> None:
        lease = self._lease
        data = {
            "held": self._held,
            "epoch": lease.epoch,
            "until": lease.until,
            "replication": lease.replication,
            "cluster": lease.cluster,
            "pledged_until": self._pledged_until,
            "released": self._released,
        }
        write_json(self._memory, data, 0o600)

    def release(self, to: str | None) -> str:
        """End the lease after every write has stopped; "" when the arbiter confirmed it."""
        epoch = self.lease.epoch
        # First of all: whatever comes of it, this epoch is never used again.
        with self._lock:
            self._released = epoch
        self._drop(keep_right=False)
        try:
            return self._arbiter.release(epoch, to)
        except ArbiterSilentError as error:
            return str(error)
        finally:
            self._next = self._clock() + ASK_SECONDS

    def record(self, mode: Mode, cluster: str) -> None:
        """Have the arbiter write down how replication stands. Raises ArbiterSilentError."""
        with self._lock:
            self._serial += 1
            epoch, serial = self._lease.epoch, self._serial
        refused = self._arbiter.record(epoch, mode, serial, cluster)
        if refused:
            raise ArbiterSilentError(f"replication is not recorded: {refused}")
        with self._lock:
            self._lease = replace(self._lease, replication=mode, cluster=cluster)
            self._save()

    # While the arbiter is away

    def needs_pledge(self) -> int | None:
        """Epoch for which this node, whose renewals go unanswered, needs its peer's pledge."""
        with self._lock:
            silent = self._clock() - self._lease.answered > RENEW_SECONDS * 1.5
            alive = max(self._lease.until, self._lease.pledge_until) > self._clock()
            return self._lease.epoch if self._held and silent and alive else None

    def pledge_received(self, epoch: int, asked: float, seconds: float) -> None:
        """The peer has promised; counted from the question."""
        with self._lock:
            if self._held and self._lease.epoch == epoch:
                until = asked + seconds - PLEDGE_MARGIN_SECONDS
                self._lease = replace(self._lease, pledge_until=until)

    def pledge(self, epoch: int) -> float | None:
        """Promise the peer, which holds this epoch, not to become primary; for how long, or None.

        Refused while this node can reach the arbiter: a primary that cannot has a network that is
        not to be trusted, and there is a better one.
        """
        with self._lock:
            now = self._clock()
            away = now - self._lease.answered > AWAY_SECONDS
            own = self._held or self._acquiring or self._lease.until > now
            if own or not away or epoch < max(self._lease.epoch, self._lease.seen):
                return None
            self._pledged_until = now + PLEDGE_SECONDS
            self._save()
            return PLEDGE_SECONDS

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            log.warning("%s", line)


def keep_pledged(
    keeper: LeaseKeeper, ask: Callable[[int], float | None], clock: Callable[[], float],
    stop: threading.Event,
) -> None:  # fmt: skip
    """Ask the peer for its pledge while the arbiter is away, until stop is set."""
    while not stop.wait(1.0):
        epoch = keeper.needs_pledge()
        if epoch is None:
            continue
        asked = clock()
        seconds = ask(epoch)
        if seconds is None:
            log.warning("the arbiter is away and the peer does not pledge")
        else:
            keeper.pledge_received(epoch, asked, seconds)
