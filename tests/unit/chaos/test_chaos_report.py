"""The scores in a folder, and the arbiter's history of a round."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from chaos import report
from chaos.arbiter import entries, last_grant
from chaos.score import Parts, Score


def score(number: int, **fields: object) -> Score:
    fine: dict[str, object] = {
        "seed": 7, "number": number, "fault": "power off", "node": "primary", "hold": 20.0,
        "outage": 12.0, "parts": Parts(9.0, 1.0, 0.5, 1.5), "acknowledged": 100, "lost": 0,
        "doubled": 0, "stale": 0, "two_primaries": 0.0, "converged": 30.0, "load": 1.0,
    }  # fmt: skip
    return Score(**{**fine, **fields})  # type: ignore[arg-type]


def shown(scores: list[Score]) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    report.show(scores, console)
    return console.export_text()


def test_of_a_round_that_was_played_again_the_last_score_counts(tmp_path: Path) -> None:
    for one in (score(1, lost=1), score(2), score(1)):
        report.append(tmp_path, one)
    assert report.read(tmp_path) == [score(1), score(2)]


def test_a_folder_without_scores_has_none(tmp_path: Path) -> None:
    assert report.read(tmp_path) == []


def test_rounds_of_one_fault_stand_in_one_line_with_their_harm() -> None:
    text = shown([score(1), score(2, lost=2, outage=20.0), score(3, fault="a + b")])
    line = next(line for line in text.splitlines() if "power off" in line and "16.0" in line)
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:7] == ["power off", "primary", "2", "16.0", "19.9", "20.0", "2"]
    assert cells[-1] == "1"
    assert report.TOGETHER in text


def test_rounds_that_never_served_again_are_shown_all_the_same() -> None:
    text = shown([score(1, outage=None, parts=None, converged=None, lost=None)])
    assert "power off" in text
    assert "never |" in text


def test_the_arbiters_history_says_when_the_lease_moved() -> None:
    history = entries(
        {
            "history": [
                {"at": "2026-11-27T08:00:20.500Z", "node": "vps-02", "epoch": 2,
                 "reason": "the public name leads to vps-02"},
                {"at": "2026-11-27T08:00:20.000Z", "node": "vps-02", "epoch": 2,
                 "reason": "granted: vps-01 let it run out"},
                {"at": "2026-11-27T08:00:00.000Z", "node": "vps-01", "epoch": 1,
                 "reason": "granted: first of a new pair"},
            ]
        }
    )  # fmt: skip
    first = history[0].at
    assert last_grant(history, first + 5, first + 30) == first + 20
    assert last_grant(history, first + 5, first + 19) is None
