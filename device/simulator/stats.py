"""Rates and latencies of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Stats:
    """Counts by name, and latencies in seconds by kind of request."""

    counts: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=dict)

    def answered(self, kind: str, status: int, seconds: float) -> None:
        """Note one answer."""
        self.counts[f"http {status}"] += 1
        self.latencies.setdefault(kind, []).append(seconds)

    def report(self, elapsed_s: float) -> str:
        """A table for a person."""
        lines = [f"{'elapsed':28} {elapsed_s:.1f} s"]
        for name, number in sorted(self.counts.items()):
            lines.append(f"{name:28} {number:>10} {number / max(elapsed_s, 1e-9):10.1f}/s")
        for kind, values in sorted(self.latencies.items()):
            parts = "  ".join(
                f"p{p:g} {percentile(values, p) * 1000:.1f} ms" for p in (50, 95, 99, 99.9)
            )
            lines.append(f"latency {kind:20} {len(values):>10}  {parts}")
        return "\n".join(lines)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all values do not exceed; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
