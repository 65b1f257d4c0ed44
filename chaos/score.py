"""What a round cost, from what was seen: pure functions over times.

All times are seconds of one clock, that of the machine that plays the devices.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Acknowledgement:
    """A status that was acknowledged.

    Args:
        sent: when its last request left.
        at: when the answer came.
        epoch: the number of the lease under which the node took it; None where it said none.
    """

    sent: float
    at: float
    epoch: int | None


@dataclass(frozen=True)
class Claim:
    """A node said at `at` that it may take writes; the question was sent at `asked`."""

    node: str
    asked: float
    at: float


@dataclass(frozen=True)
class Outage:
    """The longest time without an acknowledgement after the fault.

    Args:
        began: the last acknowledgement before it.
        ended: the first one after it.
        claimed: when a node first said again that it takes writes; None when none was seen.
    """

    began: float
    ended: float
    claimed: float | None

    @property
    def seconds(self) -> float:
        """Length."""
        return self.ended - self.began


def outage(
    acknowledged: Sequence[Acknowledgement], fault_at: float, claims: Sequence[Claim] = ()
) -> Outage:
    """The longest gap that ends after the fault.

    Raises:
        ValueError: nothing was acknowledged before the fault, or nothing after it.
    """
    times = sorted(one.at for one in acknowledged)
    before = [time for time in times if time <= fault_at]
    after = [time for time in times if time > fault_at]
    if not before or not after:
        raise ValueError("nothing was acknowledged before the fault, or nothing after it")
    line = [before[-1], *after]
    began, ended = max(itertools.pairwise(line), key=lambda gap: gap[1] - gap[0])
    # The claim of the node that took over: the first after a time without any.
    inside = sorted(claim.at for claim in claims if began < claim.at <= ended)
    marks = [began, *inside]
    silent = [later for earlier, later in itertools.pairwise(marks) if later - earlier > 1.0]
    return Outage(began, ended, silent[0] if silent else (inside[0] if inside else None))


def two_primaries(claims: Iterable[Claim]) -> float:
    """Seconds in which both nodes provably said that they take writes.

    A claim holds at some moment between the question and the answer. Between two claims in a row
    of one node, a claim of the other whose question and answer both lie inside proves that for
    a moment there were two; it counts from its question to its answer, and a tick at least.
    """
    by_node: dict[str, list[Claim]] = {}
    for claim in sorted(claims, key=lambda one: one.asked):
        by_node.setdefault(claim.node, []).append(claim)
    if len(by_node) < 2:
        return 0.0
    one, other = by_node.values()
    return sum(
        max(0.001, claim.at - claim.asked)
        for mine, theirs in ((one, other), (other, one))
        for claim in mine
        if any(
            first.at < claim.asked and claim.at < second.asked and second.at - first.at < 1.5
            for first, second in itertools.pairwise(theirs)
        )
    )


def stale_writes(acknowledged: Iterable[Acknowledgement]) -> int:
    """Answers under an older epoch, asked for after a newer one had answered: two writers."""
    newest_at: dict[int, float] = {}
    numbered = [one for one in acknowledged if one.epoch is not None]
    for one in numbered:
        assert one.epoch is not None
        newest_at[one.epoch] = min(newest_at.get(one.epoch, one.at), one.at)
    return sum(
        any(epoch > one.epoch and first < one.sent for epoch, first in newest_at.items())
        for one in numbered
        if one.epoch is not None
    )


@dataclass(frozen=True)
class Parts:
    """An outage in which the other node took over, in seconds; a part that overlaps an earlier one
    counts as far as it goes beyond it.

    Args:
        detection: from the last acknowledgement until the arbiter granted a lease.
        promotion: until the node said that it takes writes.
        steering: until the public name led to it; None where that was not waited for, since the
            other node passes on what still comes to it.
        client: until a device had tried again and was answered.
    """

    detection: float
    promotion: float
    steering: float | None
    client: float


def parts(gap: Outage, granted: float | None, led: float | None) -> Parts | None:
    """Where the time of an outage went.

    Args:
        gap: with the moment at which a node first said again that it takes writes.
        granted: when the arbiter last granted a lease to another node.
        led: when the public name first led there.

    Returns:
        None where nobody was granted a lease in it, so that it has no such parts.
    """
    if granted is None or gap.claimed is None or not gap.began <= granted <= gap.claimed:
        return None
    served = gap.claimed if led is None else max(gap.claimed, led)
    return Parts(
        detection=granted - gap.began,
        promotion=gap.claimed - granted,
        steering=None if led is None else served - gap.claimed,
        client=max(0.0, gap.ended - served),
    )


@dataclass(frozen=True)
class Score:
    """A round.

    Args:
        seed: of the run, and `number` which round of it.
        fault: what happened, and to which node.
        hold: seconds that it lasted.
        outage: seconds without an acknowledged status; None when there never was one again.
        parts: of the outage, where another node took over.
        acknowledged: statuses.
        lost: acknowledged ones that are not stored; None when nobody could be asked.
        doubled: ones stored twice.
        stale: ones taken under an epoch that had ended.
        two_primaries: seconds.
        converged: seconds from the end of the fault until the pair was whole; None when never.
        load: of the machine, as the mean of the last minute.
    """

    seed: int
    number: int
    fault: str
    node: str
    hold: float
    outage: float | None
    parts: Parts | None
    acknowledged: int
    lost: int | None
    doubled: int
    stale: int
    two_primaries: float
    converged: float | None
    load: float

    @property
    def good(self) -> bool:
        """Nothing lost, nothing doubled, never two, and whole again without a human."""
        wrong = self.lost != 0 or self.doubled or self.stale or self.two_primaries
        return not wrong and self.converged is not None and self.outage is not None

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, line: str) -> Score:
        """From a line of JSON."""
        fields = json.loads(line)
        found = fields.pop("parts")
        return cls(**fields, parts=None if found is None else Parts(**found))


def percentile(values: Sequence[float], share: int) -> float:
    """A percentile, 1 to 99; of one value that value."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]
