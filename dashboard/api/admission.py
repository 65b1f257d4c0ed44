"""Keeps live reports ahead of replayed ones.

After an outage every device sends what it kept, all at once. What is live must not wait behind
it: a replay gets few places, none at all while live requests wait for the database, and is
otherwise asked to come again at a time of its own.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http import HTTPStatus

from dashboard.api.problems import ProblemError

# A report this old was kept on the device and is being replayed.
LIVE_WITHIN = timedelta(minutes=5)

_WINDOW_SECONDS = 10.0
_SHORTEST_WAIT = 2.0
_LONGEST_WAIT = 120.0


class Admission:
    """Admits replays while there is room.

    Args:
        places: replays served at once.
        live_waiting: how many live requests wait for the database right now.
    """

    def __init__(
        self,
        places: int,
        live_waiting: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._places = places
        self._live_waiting = live_waiting
        self._clock = clock
        self._chance = chance
        self._busy = 0
        self._admitted: deque[float] = deque()
        self._refused: deque[float] = deque()

    @staticmethod
    def is_replay(newest: datetime, received_at: datetime) -> bool:
        """Whether the newest of the reports is so old that they were kept on the device."""
        return received_at - newest > LIVE_WITHIN

    @contextmanager
    def replay(self) -> Iterator[None]:
        """A place for one replay, for as long as the block.

        Raises:
            ProblemError: 429, there is none; says when to come again.
        """
        now = self._clock()
        if self._busy >= self._places or self._live_waiting() > 0:
            self._refused.append(now)
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Many devices send what they kept. Live statuses go first; send yours again later.",
                reason="replay_flood",
                retry_after=self._wait(now),
            )
        self._admitted.append(now)
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    def _wait(self, now: float) -> float:
        """Seconds until there should be room: those who ask, at the pace of those served.

        By chance over that whole time, so that those refused together do not return together.
        """
        for times in (self._admitted, self._refused):
            while times and times[0] < now - _WINDOW_SECONDS:
                times.popleft()
        drained_in = _WINDOW_SECONDS * len(self._refused) / max(1, len(self._admitted))
        longest = min(_LONGEST_WAIT, max(2 * _SHORTEST_WAIT, drained_in))
        return _SHORTEST_WAIT + self._chance() * (longest - _SHORTEST_WAIT)
