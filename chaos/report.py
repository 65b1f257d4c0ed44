"""The scores of a run: kept line by line, and shown as tables."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from chaos.score import Score, percentile

FILE = "scores.jsonl"
TOGETHER = "two at once"


def append(folder: Path, score: Score) -> None:
    """Add a score to those of the folder."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(score.line() + "\n")


def read(folder: Path) -> list[Score]:
    """The scores in a folder; of a round that was played again the last one."""
    file = folder / FILE
    if not file.exists():
        return []
    scores = [Score.of(line) for line in file.read_text().splitlines()]
    return list({(score.seed, score.number): score for score in scores}.values())


def show(scores: Sequence[Score], console: Console) -> None:
    """By fault and node: the rounds, the outage, and the harm; then all rounds together."""
    table = Table(title=f"{len(scores)} rounds", box=box.MARKDOWN)
    words = (
        "fault", "to the", "rounds", "outage p50", "p99", "longest", "lost", "doubled", "stale",
        "two primaries s", "whole after p50", "longest", "bad",
    )  # fmt: skip
    for word in words:
        table.add_column(word, justify="left" if word in ("fault", "to the") else "right")
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((_kind(score), score.node), []).append(score)
    for (fault, node), group in sorted(groups.items()):
        table.add_row(fault, node, *_cells(group))
    table.add_row("all", "", *_cells(scores))
    console.print(table)
    _distribution(scores, console)
    _parts(scores, console)


def _kind(score: Score) -> str:
    return TOGETHER if " + " in score.fault else score.fault


def _cells(group: Sequence[Score]) -> list[str]:
    outages = [score.outage for score in group if score.outage is not None]
    wholes = [score.converged for score in group if score.converged is not None]
    return [
        str(len(group)),
        *_spread(outages, 50, 99),
        str(sum(score.lost or 0 for score in group)),
        str(sum(score.doubled for score in group)),
        str(sum(score.stale for score in group)),
        f"{sum(score.two_primaries for score in group):.3f}",
        *_spread(wholes, 50),
        str(sum(not score.good for score in group)),
    ]


def _spread(values: Sequence[float], *shares: int) -> list[str]:
    """Percentiles and the largest."""
    if not values:
        return ["-"] * (len(shares) + 1)
    return [*(f"{percentile(values, share):.1f}" for share in shares), f"{max(values):.1f}"]


def _distribution(scores: Sequence[Score], console: Console) -> None:
    outages = [score.outage for score in scores if score.outage is not None]
    bounds = (0.5, 1, 2, 5, 10, 12, 15, 20, 25, 30, 45, 60)
    table = Table(title="Seconds without an accepted status", box=box.MARKDOWN)
    table.add_column("more than", justify="right")
    table.add_column("up to", justify="right")
    table.add_column("rounds", justify="right")
    for lower, upper in itertools.pairwise((0.0, *bounds, float("inf"))):
        if number := sum(lower < outage <= upper for outage in outages):
            table.add_row(f"{lower:g}", f"{upper:g}", str(number))
    if len(outages) < len(scores):
        table.add_row("", "never", str(len(scores) - len(outages)))
    console.print(table)
    console.print(
        f"acknowledged {sum(score.acknowledged for score in scores)}, load of the machine "
        f"{statistics.median(score.load for score in scores):.1f}"
    )


def _parts(scores: Sequence[Score], console: Console) -> None:
    """Where the time went when a primary that lost its power was replaced."""
    found = [score for score in scores if score.parts is not None and score.node == "primary"]
    groups: dict[str, list[Score]] = {}
    for score in found:
        groups.setdefault(_kind(score), []).append(score)
    if not groups:
        return
    table = Table(title="A takeover's parts: p50 / p99 in seconds", box=box.MARKDOWN)
    for word in ("fault", "runs", "outage", "detection", "promotion", "steering", "client"):
        table.add_column(word, justify="left" if word == "fault" else "right")
    columns: tuple[Callable[[Score], float | None], ...] = (
        lambda score: score.outage,
        lambda score: score.parts.detection if score.parts else None,
        lambda score: score.parts.promotion if score.parts else None,
        lambda score: score.parts.steering if score.parts else None,
        lambda score: score.parts.client if score.parts else None,
    )
    for fault, group in sorted(groups.items()):
        cells = []
        for column in columns:
            values = [value for score in group if (value := column(score)) is not None]
            shares = [f"{percentile(values, share):.1f}" for share in (50, 99)] if values else ["-"]
            cells.append(" / ".join(shares))
        table.add_row(fault, str(len(group)), *cells)
    console.print(table)
