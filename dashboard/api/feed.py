"""The live feed: tells every open page what changed, a moment after it was committed.

Writers only mark what they touched. One task reads the marked rows afresh, at most five times a
second, so a thousand reports cost one query, and every page is sent the same bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import psycopg
from psycopg_pool import PoolTimeout

from dashboard.api.problems import ProblemError

_log = logging.getLogger(__name__)

COALESCE_SECONDS = 0.2
MAX_SUBSCRIBERS = 200
# What a page may lag behind before it is cut off; it comes back by itself and starts afresh.
MAX_LAG = 500


@dataclass
class Changes:
    """What was touched since the last reading."""

    devices: set[str] = field(default_factory=set)
    events: set[int] = field(default_factory=set)
    retired: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.devices or self.events or self.retired)


Subscription = asyncio.Queue[bytes | None]
Reader = Callable[[Changes], Awaitable[list[bytes]]]


def server_sent_event(name: str, data: str) -> bytes:
    """An event in the format of text/event-stream; the data is one line of JSON."""
    return f"event: {name}\ndata: {data}\n\n".encode()


class Feed:
    """Gathers what changed and hands it to the subscribers.

    Args:
        read: reads the changed rows and returns them as events ready to send.
    """

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._changes = Changes()
        self._marked = asyncio.Event()
        self._subscribers: set[Subscription] = set()
        self._closed = False

    def mark(
        self,
        *,
        devices: Iterable[str] = (),
        events: Iterable[int] = (),
        retired: Iterable[str] = (),
    ) -> None:
        """Note what a committed transaction touched."""
        if not self._subscribers:
            return
        self._changes.devices.update(devices)
        self._changes.events.update(events)
        self._changes.retired.update(retired)
        self._marked.set()

    @property
    def subscribers(self) -> int:
        """Pages that are listening."""
        return len(self._subscribers)

    def require_room(self) -> None:
        """Let one more listen.

        Raises:
            ProblemError: 503, too many listen already, or the server is stopping.
        """
        if self._closed or len(self._subscribers) >= MAX_SUBSCRIBERS:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "No more live streams are open to this node now; ask for the list instead.",
                reason="too_many_streams",
                retry_after=10,
            )

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """A queue of events for as long as the block; None says that it ends."""
        queue: Subscription = asyncio.Queue(MAX_LAG)
        self._subscribers.add(queue)
        if self._closed:
            self._cut(queue)
        try:
            yield queue
        finally:
            self._subscribers.discard(queue)

    def close(self) -> None:
        """End every stream and the task that feeds them."""
        self._closed = True
        self._marked.set()
        for queue in tuple(self._subscribers):
            self._cut(queue)

    async def run(self) -> None:
        """Read and hand out what changed, until closed."""
        while not self._closed:
            await self._marked.wait()
            await asyncio.sleep(COALESCE_SECONDS)
            self._marked.clear()
            changes, self._changes = self._changes, Changes()
            if not changes or not self._subscribers:
                continue
            try:
                events = await self._read(changes)
            except (psycopg.Error, PoolTimeout) as error:
                # The pages cannot know what they missed: they come back and load everything.
                _log.warning("live feed not read: %s", type(error).__name__)
                for queue in tuple(self._subscribers):
                    self._cut(queue)
                continue
            for queue in tuple(self._subscribers):
                self._hand(queue, events)

    def _hand(self, queue: Subscription, events: Iterable[bytes]) -> None:
        try:
            for event in events:
                queue.put_nowait(event)
        except asyncio.QueueFull:
            self._cut(queue)

    def _cut(self, queue: Subscription) -> None:
        self._subscribers.discard(queue)
        while queue.full():
            queue.get_nowait()
        queue.put_nowait(None)
