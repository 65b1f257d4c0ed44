"""How long something took, again and again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Timing:
    """The seconds of every run of one thing.

    Args:
        name: what was run.
    """

    name: str
    seconds: list[float] = field(default_factory=list)

    def run(self, work: Callable[[], object]) -> None:
        """Run it once more."""
        started = time.perf_counter()
        work()
        self.seconds.append(time.perf_counter() - started)

    @property
    def p50(self) -> float:
        """Median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """95th percentile, in seconds; of fewer than 20 runs it is the longest."""
        return (
            statistics.quantiles(self.seconds, n=20, method="inclusive")[-1]
            if len(self.seconds) >= 20
            else max(self.seconds)
        )

    @property
    def longest(self) -> float:
        """In seconds."""
        return max(self.seconds)
