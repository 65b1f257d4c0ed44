"""Whether this node may take writes: the node agent knows, and is asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import httpx

from dashboard.api.problems import ProblemError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Leadership:
    """An answer of the agent.

    Args:
        leader: whether writes are allowed.
        epoch: number of the lease, when the agent says one.
    """

    leader: bool
    epoch: int | None = None


class LeadershipSource:
    """Asks the agent, at most once in `cache_seconds`.

    The age of an answer counts from the moment the question was sent, so that a slow answer is
    not believed for longer than a quick one. No answer means no writes.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        *,
        cache_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._url = url
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._asking = asyncio.Lock()
        self._answer = Leadership(leader=False)
        self._valid_until = float("-inf")

    async def current(self) -> Leadership:
        """The agent's present answer."""
        if self._clock() < self._valid_until:
            return self._answer
        async with self._asking:
            if self._clock() < self._valid_until:
                return self._answer
            asked = self._clock()
            self._answer = await self._ask()
            self._valid_until = asked + self._cache_seconds
            return self._answer

    async def require(self) -> Leadership:
        """The agent's present answer, when it allows writes.

        Raises:
            ProblemError: 503, on a node that may not take writes.
        """
        answer = await self.current()
        if not answer.leader:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "This node is not the leader and takes no writes. Keep what you have and send it "
                "again later.",
                reason="not_leader",
                retry_after=2,  # a takeover or a switchover is over in seconds
            )
        return answer

    async def _ask(self) -> Leadership:
        try:
            response = await self._client.get(f"{self._url}/leader", timeout=2.0)
        except httpx.HTTPError as error:
            _log.warning("the node agent does not answer: %s", type(error).__name__)
            return Leadership(leader=False)
        if response.status_code != HTTPStatus.OK:
            return Leadership(leader=False)
        try:
            epoch = response.json().get("epoch")
        except (ValueError, AttributeError):
            epoch = None
        return Leadership(leader=True, epoch=epoch if isinstance(epoch, int) else None)
