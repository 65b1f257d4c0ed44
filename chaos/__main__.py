"""`make chaos`: random faults against a running pair while devices post, each round scored.

A round is drawn from its seed and number alone, so `--seed S --first N --rounds 1` plays one again.
Needs a sandbox that is up; leaves it up and whole.
"""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click
import yaml
from rich.console import Console
from rich.table import Table

from chaos.faults import FAULTS, by_name, draw
from chaos.round import play_round, watched
from chaos.score import Score, percentile
from tests.e2e.sandbox_world import REPOSITORY, STACK, SandboxWorld

CHECKER = Path(__file__).parent / "linearizability"
CHECK_SECONDS = 600


def arbiter() -> tuple[str, int]:
    """Address and port of the arbiter, as the nodes reach it."""
    settings = yaml.safe_load((REPOSITORY / f"Pulumi.{STACK}.yaml").read_text())["config"]
    url = urlsplit(settings["overlord:arbiter"]["url"])
    return str(url.hostname), url.port or 443


def check_linearizability(records: Sequence[Path], console: Console) -> bool:
    """Whether the histories of all rounds are linearizable; prints what the checker says."""
    done = subprocess.run(
        ["go", "run", ".", *(str(record.absolute()) for record in records)],
        cwd=CHECKER, capture_output=True, text=True, timeout=CHECK_SECONDS,
    )  # fmt: skip
    console.print(f"linearizability: {(done.stdout + done.stderr).strip()}")
    return done.returncode == 0


def show(scores: Sequence[Score], console: Console) -> None:
    """The table of the rounds and the distribution of the outage."""
    table = Table(title=f"{len(scores)} rounds")
    words = (
        "round", "fault", "to the", "outage s", "until a node leads s", "acknowledged", "lost",
        "doubled", "stale", "two primaries s", "whole after s",
    )  # fmt: skip
    for word in words:
        table.add_column(word, justify="left" if word in ("fault", "to the") else "right")
    for one in scores:
        table.add_row(
            str(one.number), one.fault, one.node, f"{one.outage:.1f}", _seconds(one.until_claim),
            str(one.acknowledged), str(one.lost), str(one.doubled), str(one.stale),
            f"{one.two_primaries:.3f}", _seconds(one.converged),
        )  # fmt: skip
    console.print(table)
    outages = [one.outage for one in scores]
    shares = ", ".join(f"p{share} {percentile(outages, share):.1f} s" for share in (50, 90, 99))
    console.print(f"outage: {shares}, longest {max(outages):.1f} s")
    console.print(
        f"acknowledged {sum(one.acknowledged for one in scores)}, "
        f"lost {sum(one.lost for one in scores)}, doubled {sum(one.doubled for one in scores)}, "
        f"stale {sum(one.stale for one in scores)}, "
        f"two primaries {sum(one.two_primaries for one in scores):.3f} s, "
        f"not whole again {sum(one.converged is None for one in scores)}"
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"


async def play_rounds(
    rounds: int, first: int, seed: int, names: Sequence[str], folder: Path, console: Console
) -> list[Score]:
    """Play rounds until one is not good; that one is the last."""
    among = [by_name(name) for name in names] or FAULTS
    scores: list[Score] = []
    with watched(SandboxWorld(), arbiter()) as pair:
        for number in range(first, first + rounds):
            drawn = draw(seed, number, among)
            console.print(
                f"round {number} of seed {seed}: {drawn.fault.name}, {drawn.hold:g} s, "
                f"to the {'primary' if drawn.to_primary else 'standby'}"
            )
            score = await play_round(pair, number, drawn, folder, console.print)
            scores.append(score)
            console.print(
                f"  outage {score.outage:.1f} s, lost {score.lost}, "
                f"whole after {_seconds(score.converged)} s"
            )
            if not score.good:
                break
    return scores


@click.command()
@click.option("--rounds", default=10, show_default=True)
@click.option("--first", default=1, show_default=True, help="number of the first round")
@click.option("--seed", type=int, help="to play the same again")
@click.option("--fault", "names", multiple=True, help="only these; see chaos/faults.py")
@click.option("--record", type=click.Path(path_type=Path), help="folder to keep the records in")
def main(
    rounds: int, first: int, seed: int | None, names: Sequence[str], record: Path | None
) -> None:
    """Play rounds against the running sandbox. Exit code 1 when one of them is not good."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as temporary:
        folder = record or Path(temporary)
        scores = asyncio.run(play_rounds(rounds, first, seed, names, folder, console))
        show(scores, console)
        linearizable = check_linearizability(sorted(folder.glob("*/record.jsonl")), console)
    good = all(score.good for score in scores)
    if not good:
        console.print(f"round {scores[-1].number} of seed {seed} is not good")
    sys.exit(0 if good and linearizable else 1)


if __name__ == "__main__":
    main()
