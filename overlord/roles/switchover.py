"""A switchover, asked for and waited for by somebody outside the role manager."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from overlord.errors import OverlordError
from overlord.paths import Paths
from overlord.roles import requests
from overlord.roles.words import ask_agent

SWITCHOVER_SECONDS = 90.0


def switch_over(
    paths: Paths,
    ask: Callable[[], Mapping[str, Any]] = ask_agent,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Give this primary's role to the other node; seconds until that one is primary.

    Raises OverlordError when it is refused, fails or takes too long.
    """
    before = _last_event(ask())
    began = clock()
    requests.send("switchover", paths)
    while clock() - began < SWITCHOVER_SECONDS:
        status: Mapping[str, Any] = {"roles": {}}
        with suppress(OverlordError):  # between two rounds
            status = ask()
        if (status["roles"].get("peer") or {}).get("primary"):
            return clock() - began
        last = _last_event(status)
        if last not in ({}, before) and last["what"] == "switchover failed":
            raise OverlordError(f"switchover failed: {last['reason']}", "see `overlordctl role`")
        sleep(0.5)
    raise OverlordError(
        f"the other node is not primary after {SWITCHOVER_SECONDS:.0f} s",
        "see `overlordctl role` on both nodes; this one takes its role back when nobody wants it",
    )


def _last_event(status: Mapping[str, Any]) -> Mapping[str, Any]:
    events = status["roles"].get("events")
    return events[-1] if events else {}
