"""The independent record of what was acknowledged: an append-only file, synced to disk.

It knows nothing of the server. Each line is one fact: a status was ``made``, ``acknowledged``
(recorded or duplicate), or ``refused``; one that was acknowledged was ``repeated`` on purpose; a
request with it stayed ``unanswered``, so that nobody knows whether it took effect.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SYNC_EVERY_S = 0.25

Kind = Literal["made", "acknowledged", "refused", "repeated", "unanswered"]


@dataclass(frozen=True)
class Line:
    """One fact about one status.

    Args:
        note: what became of it, as the server says: recorded or duplicate.
        sent: when the request left, in seconds since 1970.
        at: when the answer came, or was given up.
        epoch: the number of the lease under which the server took it.
    """

    kind: Kind
    device: str
    event_id: str
    event_time: str
    note: str = ""
    sent: float = 0.0
    at: float = 0.0
    epoch: int | None = None


class Recorder:
    """Appends lines, syncing them in batches."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        # Filled by the event loop and emptied by a thread, so never replaced by another one.
        self._pending: collections.deque[str] = collections.deque()
        self._syncing = threading.Lock()

    def add(self, line: Line) -> None:
        """Take a line; it is on disk after the next sync."""
        self._pending.append(json.dumps(vars(line), separators=(",", ":")))

    async def run(self) -> None:
        """Sync until cancelled."""
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            await asyncio.to_thread(self._sync)

    def close(self) -> None:
        """Sync what is left."""
        self._sync()
        self._file.close()

    def _sync(self) -> None:
        with self._syncing:
            count = len(self._pending)
            if count:
                self._file.writelines(f"{self._pending.popleft()}\n" for _ in range(count))
                self._file.flush()
                os.fsync(self._file.fileno())


@dataclass
class Record:
    """What a file of lines says, by device."""

    made: dict[str, dict[str, str]] = field(default_factory=dict)
    acknowledged: dict[str, dict[str, str]] = field(default_factory=dict)
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    repeated: dict[str, dict[str, str]] = field(default_factory=dict)
    unanswered: dict[str, dict[str, str]] = field(default_factory=dict)

    def devices(self) -> list[str]:
        """All devices in it."""
        return sorted({*self.made, *self.acknowledged})

    def times(self) -> Iterator[str]:
        """The event times of everything acknowledged."""
        for events in self.acknowledged.values():
            yield from events.values()


def read_lines(path: Path) -> Iterator[Line]:
    """The facts in a file; a last line cut by a crash is left out."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            if not text.endswith("\n"):
                break
            yield Line(**json.loads(text))


def read_record(path: Path) -> Record:
    """Read a file of lines."""
    record = Record()
    for line in read_lines(path):
        table = getattr(record, line.kind)
        table.setdefault(line.device, {})[line.event_id] = line.event_time
    return record
