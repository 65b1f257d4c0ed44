"""Carries the journal to one Loki, batch by batch. The journal itself is the buffer."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from overlord.errors import OverlordError
from overlord.files import write
from overlord.logs import journal, loki
from overlord.logs.journal import BATCH_ENTRIES, Entry
from overlord.logs.loki import Verdict

IDLE_SECONDS = 5.0
CATCH_UP_SECONDS = 0.3
"""Between batches while there are more: the gate takes five requests a second from one address."""
LONGEST_PAUSE_SECONDS = 60.0


@dataclass
class Shipper:
    """One Loki and how far it has come.

    Args:
        node: name of this node, a label of every line.
        url: base address of the Loki.
        place: file with the cursor of the last entry that it has.
        say: told when the Loki goes away and when it is back.
    """

    node: str
    url: str
    place: Path
    say: Callable[[str], object] = print
    read: Callable[[str | None], list[Entry]] = journal.read
    push: Callable[[str, bytes], Verdict] = loki.push
    away: float = 0.0
    """Seconds to wait before the next try; zero while it answers."""

    def round(self) -> float:
        """Send the next batch; returns the seconds until the next round."""
        cursor = self._cursor()
        try:
            entries = self.read(cursor)
        except OverlordError as error:
            # The place may be of another machine's journal or of one that was thrown away.
            self.say(f"{error.what}; {error.remedy}")
            self.place.unlink(missing_ok=True)
            return LONGEST_PAUSE_SECONDS
        if not entries:
            return IDLE_SECONDS
        answer = self.push(self.url, loki.push_body(self.node, entries))
        if answer is Verdict.LATER:
            if not self.away:
                self.say(f"{self.url} takes no logs for now; they wait in the journal")
            self.away = min(max(self.away * 2, IDLE_SECONDS), LONGEST_PAUSE_SECONDS)
            return self.away
        if self.away:
            self.say(f"{self.url} takes logs again")
            self.away = 0.0
        if answer is Verdict.REFUSED:
            self.say(f"{self.url} refused {len(entries)} lines for good; going on after them")
        write(self.place, entries[-1].cursor.encode())
        return CATCH_UP_SECONDS if len(entries) == BATCH_ENTRIES else IDLE_SECONDS

    def run(self, stop: threading.Event) -> None:
        """Round after round until told to stop."""
        pause = 0.0
        while not stop.wait(pause):
            try:
                pause = self.round()
            except OSError as error:  # a full disk, for one; the place is then where it was
                self.say(f"logs for {self.url} wait: {error}")
                pause = LONGEST_PAUSE_SECONDS

    def _cursor(self) -> str | None:
        try:
            return self.place.read_text() or None
        except FileNotFoundError:
            return None
