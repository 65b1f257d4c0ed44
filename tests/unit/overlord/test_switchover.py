"""A switchover is asked for and waited for, and its failure told."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overlord.errors import OverlordError
from overlord.paths import Paths
from overlord.roles import requests
from overlord.roles.switchover import SWITCHOVER_SECONDS, switch_over

FAILED = {"time": 1.0, "what": "switchover failed", "reason": "the peer lacks log", "epoch": 3}
STARTED = {"time": 2.0, "what": "switchover", "reason": "to vps-02", "epoch": 3}


def status(*events: dict[str, Any], primary: bool = False) -> dict[str, Any]:
    return {"roles": {"peer": {"primary": primary}, "events": list(events)}}


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    """A node whose role manager says yes to what is asked."""
    found, stop = Paths(tmp_path), threading.Event()

    def answer() -> None:
        while not stop.wait(0.01):
            request = requests.pending(found)
            if request:
                requests.answer(request, True, "handing over to vps-02", found)

    thread = threading.Thread(target=answer)
    thread.start()
    yield found
    stop.set()
    thread.join()


def said(*answers: dict[str, Any] | None) -> Callable[[], dict[str, Any]]:
    """The agent's answers one after the other, the last one again and again; None for silence."""
    following = itertools.chain(answers, itertools.repeat(answers[-1]))

    def ask() -> dict[str, Any]:
        answer = next(following)
        if answer is None:
            raise OverlordError("the node agent does not answer", "")
        return answer

    return ask


def test_it_ends_when_the_other_node_is_primary(paths: Paths) -> None:
    clock = itertools.count(100.0, 1.0)
    ask = said(status(), status(STARTED), None, status(STARTED, primary=True))
    seconds = switch_over(paths, ask, lambda _: None, lambda: next(clock))
    assert seconds == pytest.approx(4.0)


def test_a_failure_is_told(paths: Paths) -> None:
    with pytest.raises(OverlordError, match="the peer lacks log"):
        switch_over(paths, said(status(), status(STARTED), status(STARTED, FAILED)), time.sleep)


def test_a_failure_of_an_earlier_one_is_none_of_this_one(paths: Paths) -> None:
    ask = said(status(FAILED), status(FAILED), status(FAILED, STARTED, primary=True))
    switch_over(paths, ask, lambda _: None)


def test_it_is_not_waited_for_for_ever(paths: Paths) -> None:
    clock = itertools.count(0.0, SWITCHOVER_SECONDS / 3)
    with pytest.raises(OverlordError, match="not primary after 90 s"):
        switch_over(paths, said(status()), lambda _: None, lambda: next(clock))
