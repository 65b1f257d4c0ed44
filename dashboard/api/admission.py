"""Keeps live reports ahead of replayed ones.

After an outage every device sends what it kept, all at once. What is live must not wait behind
it: a replay gets few places, goes on only while no live request waits for the database, and where
too many wait already is asked to come again at a time of its own.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from http import HTTPStatus

from dashboard.api.problems import ProblemError

# A report this old was kept on the device and is being replayed.
LIVE_WITHIN = timedelta(minutes=5)

# So that a place never stands empty between two replays; more would be memory for nothing.
_WAITING_PER_PLACE = 4
_PATIENCE_SECONDS = 5.0
_LIVE_FIRST_SECONDS = 0.02
_SHORTEST_WAIT = 2.0
_LONGEST_WAIT = 120.0
# What a replay takes until some have been seen, and how much each that is seen counts.
_FIRST_GUESS_SECONDS = 0.1
_WEIGHT = 0.05


class Admission:
    """Admits replays while there is room, in the order in which they come.

    Args:
        places: replays served at once.
        live_waiting: how many live requests wait for the database right now.
        patience: how long a replay waits for a place, in seconds.

    Attributes:
        waiting: replays that wait for a place.
    """

    def __init__(
        self,
        places: int,
        live_waiting: Callable[[], int],
        *,
        patience: float = _PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._count = places
        self._places = asyncio.Semaphore(places)
        self._live_waiting = live_waiting
        self._patience = patience
        self._clock = clock
        self._chance = chance
        self.waiting = 0
        self._seconds = _FIRST_GUESS_SECONDS
        self._drained_at = float("-inf")

    @staticmethod
    def is_replay(newest: datetime, received_at: datetime) -> bool:
        """Whether the newest of the reports is so old that they were kept on the device."""
        return received_at - newest > LIVE_WITHIN

    @asynccontextmanager
    async def replay(self) -> AsyncIterator[None]:
        """A place for one replay, for as long as the block.

        Raises:
            ProblemError: 429, there is none for too long; says when to come again.
        """
        if self.waiting >= self._count * _WAITING_PER_PLACE:
            raise self._refusal()
        try:
            async with asyncio.timeout(self._patience):
                await self._take()
        except TimeoutError:
            raise self._refusal() from None
        started = self._clock()
        try:
            yield
        finally:
            self._places.release()
            self._seconds += _WEIGHT * (self._clock() - started - self._seconds)

    async def _take(self) -> None:
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        try:
            while self._live_waiting() > 0:
                await asyncio.sleep(_LIVE_FIRST_SECONDS)
        except BaseException:
            self._places.release()
            raise

    def _refusal(self) -> ProblemError:
        """Asks to come again within the time that all who were asked before should take.

        By chance over that whole time, so that those refused together do not return together.
        """
        now = self._clock()
        self._drained_at = max(self._drained_at, now) + self._seconds / self._count
        longest = min(_LONGEST_WAIT, max(2 * _SHORTEST_WAIT, self._drained_at - now))
        return ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "Many devices send what they kept. Live statuses go first; send yours again later.",
            reason="replay_flood",
            retry_after=_SHORTEST_WAIT + self._chance() * (longest - _SHORTEST_WAIT),
        )
