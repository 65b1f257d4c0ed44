"""A few rounds of `make chaos` with a fixed seed: the primary loses its power, nobody reaches the
arbiter, the roles are switched over."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from chaos import report
from chaos.faults import draw
from tests.e2e.sandbox_world import command

SEED = 4444
ROUNDS = 3


@pytest.mark.usefixtures("pair")
def test_nothing_is_lost_in_a_few_rounds_of_chaos(artefacts: Path) -> None:
    drawn = [draw(SEED, number) for number in range(1, ROUNDS + 1)]
    assert [one.fault.name for one in drawn] == [
        "power off",
        "both cut from the arbiter",
        "switchover",
    ], "other faults give other draws: look for a seed that has these"
    folder = artefacts / "chaos"
    shutil.rmtree(folder, ignore_errors=True)
    run = command(
        [
            *(sys.executable, "-m", "chaos", "--record", str(folder)),
            *("--seed", str(SEED), "--rounds", str(ROUNDS)),
        ],
        timeout=600,
    )
    print(f"\n{run.text}", flush=True)
    run.must()
    assert [score.number for score in report.read(folder) if score.good] == [1, 2, 3]
