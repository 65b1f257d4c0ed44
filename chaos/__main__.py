"""`make chaos`: random faults against a running pair while devices post, each round scored.

A round is drawn from its seed and number alone, so `--seed S --first N --rounds 1` plays one again.
Needs a sandbox that is up; leaves it up and whole.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import click
import yaml
from rich.console import Console

from chaos import report
from chaos.faults import FAULTS, Draw, by_name, draw, every
from chaos.round import RoundError, home_of, play_round, watched
from device.simulator.recorder import read_record
from tests.e2e.sandbox_world import REPOSITORY, STACK, SandboxWorld

CHECKER = Path(__file__).parent / "linearizability"
CHECK_SECONDS = 600


@dataclass(frozen=True)
class Game:
    """What is played.

    Args:
        seed: and `draws` by number what follows from it.
        folder: where records and scores are kept.
        go_on: whether a round that is not good is not the last.
        seconds: after which no further round begins.
    """

    seed: int
    draws: dict[int, Draw]
    folder: Path
    go_on: bool = False
    seconds: float = math.inf


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


async def play_rounds(game: Game, console: Console) -> list[str]:
    """Play rounds until one is not good, and compare all of them once more: a later round may lose
    what an earlier one has found. Returns what is wrong."""
    wrong: list[str] = []
    played: list[int] = []
    began = time.monotonic()
    with watched(SandboxWorld(), arbiter()) as pair:
        for number, drawn in game.draws.items():
            if time.monotonic() - began > game.seconds or (wrong and not game.go_on):
                break
            console.print(
                f"round {number} of seed {game.seed}: {drawn.fault.name}, {drawn.hold:g} s, "
                f"to the {'primary' if drawn.to_primary else 'standby'}"
            )
            try:
                score = await play_round(pair, game.seed, number, drawn, game.folder, console.print)
            except RoundError as error:
                wrong.append(f"round {number} could not be played: {error}")
                break
            played.append(number)
            report.append(game.folder, score)
            console.print(
                f"  outage {_seconds(score.outage)}, lost {score.lost}, "
                f"whole after {_seconds(score.converged)}, load {score.load}"
            )
            if not score.good:
                wrong.append(f"round {number} is not good")
        for number in played:
            record = read_record(home_of(game.folder, game.seed, number) / "record.jsonl")
            verdict = await pair.compare(record)
            if verdict is None:
                wrong.append(f"round {number} cannot be compared at the end")
            elif verdict.lost:
                wrong.append(f"round {number} has lost {len(verdict.lost)} at the end")
    return wrong


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


@click.command()
@click.option("--rounds", default=10, show_default=True)
@click.option("--first", default=1, show_default=True, help="number of the first round")
@click.option("--seed", type=int, help="to play the same again")
@click.option("--fault", "names", multiple=True, help="only these; see chaos/faults.py")
@click.option("--every", "all_once", is_flag=True, help="each fault once to either node, in order")
@click.option("--to", type=click.Choice(["primary", "standby"]), help="whatever the seed says")
@click.option("--hold", type=float, help="seconds that it lasts, whatever the seed says")
@click.option("--record", type=click.Path(path_type=Path), help="folder to keep the records in")
@click.option("--keep-going", is_flag=True, help="a round that is not good is not the last one")
@click.option("--minutes", default=math.inf, help="begin no round after so long")
def main(
    rounds: int,
    first: int,
    seed: int | None,
    names: Sequence[str],
    all_once: bool,
    to: str | None,
    hold: float | None,
    record: Path | None,
    keep_going: bool,
    minutes: float,
) -> None:
    """Play rounds against the running sandbox. Exit code 1 when one of them is not good.

    With --record, scores are kept round by round in scores.jsonl of the folder, and the tables
    show all that is there: a run that was stopped goes on with --seed and --first.
    """
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    console = Console(width=160)
    among = [by_name(name) for name in names] or FAULTS
    if all_once:
        draws = dict(enumerate(every(seed, among), 1))
        draws = {
            number: drawn
            for number, drawn in draws.items()
            if number >= first and (to is None or drawn.to_primary == (to == "primary"))
        }
    else:
        draws = {number: draw(seed, number, among) for number in range(first, first + rounds)}
        if to:
            draws = {n: replace(drawn, to_primary=to == "primary") for n, drawn in draws.items()}
    if hold is not None:
        draws = {number: replace(drawn, hold=hold) for number, drawn in draws.items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = record or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        game = Game(seed, draws, folder, keep_going, minutes * 60)
        wrong = asyncio.run(play_rounds(game, console))
        if played := report.read(folder):
            report.show(played, console)
        if not check_linearizability(sorted(folder.glob("*/record.jsonl")), console):
            wrong.append("a history is not linearizable")
    for line in wrong:
        console.print(f"seed {seed}: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
