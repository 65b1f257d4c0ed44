"""A few rounds of `make chaos` with a fixed seed, in either way of steering the public name."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import report
from chaos.faults import by_name, draw
from tests.e2e.sandbox_world import SandboxWorld, command, eventually, project_copy

SEED = 4444
ROUNDS = 3
BALANCED_SEED = 4450
MONITOR_SECONDS = 60
"""How often Cloudflare asks each node, on the smallest plan that has a load balancer."""


def play(folder: Path, *options: str) -> list[int]:
    """Play rounds; the numbers of the good ones."""
    shutil.rmtree(folder, ignore_errors=True)
    run = command([sys.executable, "-m", "chaos", "--record", str(folder), *options], timeout=600)
    print(f"\n{run.text}", flush=True)
    run.must()
    return [score.number for score in report.read(folder) if score.good]


@pytest.fixture
def balanced(pair: SandboxWorld, tmp_path: Path) -> Iterator[SandboxWorld]:
    """The pair behind Cloudflare's load balancer, and back as it was."""
    project = project_copy(tmp_path / "project", config={"overlord:steering": "loadBalancer"})
    pair.up(project).must()
    eventually("the public name", lambda: pair.fetch("/leader").code == 200, 2 * MONITOR_SECONDS)
    yield pair
    pair.up().must()


@pytest.mark.usefixtures("pair")
def test_nothing_is_lost_in_a_few_rounds_of_chaos(artefacts: Path) -> None:
    drawn = [draw(SEED, number) for number in range(1, ROUNDS + 1)]
    assert [one.fault.name for one in drawn] == [
        "power off",
        "both cut from the arbiter",
        "switchover",
    ], "other faults give other draws: look for a seed that has these"
    good = play(artefacts / "chaos", "--seed", str(SEED), "--rounds", str(ROUNDS))
    assert good == [1, 2, 3]


@pytest.mark.usefixtures("balanced")
def test_nothing_is_lost_behind_a_load_balancer_that_asks_once_a_minute(artefacts: Path) -> None:
    """The node that died is healthy again before the load balancer has seen its death, and so is
    the one that gave its role away: whatever still goes to either is passed on."""
    among = [by_name("power off"), by_name("switchover")]
    drawn = [draw(BALANCED_SEED, number, among) for number in (1, 2)]
    assert [one.fault.name for one in drawn] == ["power off", "switchover"]
    names = [word for fault in among for word in ("--fault", fault.name)]
    good = play(
        artefacts / "chaos-balanced",
        *("--seed", str(BALANCED_SEED), "--rounds", "2", "--to", "primary", *names),
    )
    assert good == [1, 2]
