"""The queue on disk: what this device has to say, kept until the server has acknowledged it.

SQLite in WAL mode with ``synchronous=FULL``: `put` returns after an fsync, so a status survives a
power cut from that moment. Rows keep the order in which they were made.

A row is *waiting*, then *acknowledged* or *refused*. Acknowledged rows stay for a while: when the
fleet fails over, the new primary may lack the last statuses that the old one acknowledged, and
`resend_since` makes them wait again. Ingest is idempotent, so sending twice does no harm.

A full disk does not stop the agent: statuses are held in memory, are sent from there as usual, and
go to disk as soon as it takes them again. The server's word on those that are on disk is held in
memory as well, so that they are not sent over and over.
"""

from __future__ import annotations

import collections
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .clock import Clock, ServerTime

log = logging.getLogger(__name__)

DAY_S = 86_400.0
PAGE_BYTES = 4096
MAX_IN_MEMORY = 1440
"""Statuses held in memory while the disk refuses them: a day's worth at one a minute."""

_WAITING, _ACKNOWLEDGED, _REFUSED = 0, 1, 2
_TOTALS = {_ACKNOWLEDGED: "acknowledged", _REFUSED: "refused"}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id   TEXT    NOT NULL UNIQUE,
    body       TEXT    NOT NULL,
    boot_id    TEXT    NOT NULL,
    boottime   REAL    NOT NULL,
    wall       REAL    NOT NULL,
    trusted    INTEGER NOT NULL,
    state      INTEGER NOT NULL DEFAULT 0,
    settled    REAL,
    reason     TEXT
);
CREATE INDEX IF NOT EXISTS events_by_state ON events (state, seq);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """One status: its wire body, and the times needed to judge its age later."""

    event_id: str
    body: str
    boot_id: str
    boottime: float
    wall: float
    trusted: bool


@dataclass(frozen=True)
class _Verdict:
    """The server's word on a status: its new state, when that was said, and why."""

    state: int
    settled: float
    reason: str | None = None


@dataclass(frozen=True)
class Counts:
    """What the queue holds and what it had to let go, since it was made.

    `acknowledged_total` counts a status once, however often it was sent.
    """

    waiting: int
    in_memory: int
    acknowledged_kept: int
    refused_kept: int
    acknowledged_total: int
    refused_total: int
    dropped_expired_total: int
    dropped_overflow_total: int
    bytes_on_disk: int

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return dict(vars(self))


class Queue:
    """Statuses on disk, oldest first. Safe to use from several threads."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        server_time: ServerTime,
        *,
        retention_s: float = 7 * DAY_S,
        keep_acknowledged_s: float = DAY_S,
        max_waiting: int = 11_000,
        max_bytes: int = 32 * 1024 * 1024,
        owner: bool = True,
    ) -> None:
        """Open or create the queue.

        Args:
            path: the database file; its folder must exist.
            clock: the device's clocks.
            server_time: the server's clock as far as known, to judge ages across boots.
            retention_s: a waiting status older than this is dropped; the API refuses it anyway.
            keep_acknowledged_s: how long acknowledged statuses stay for `resend_since`.
            max_waiting: the most statuses that wait. Independent of any clock.
            max_bytes: the most that the database takes on disk, its journal aside.
            owner: whether a damaged database may be set aside. For the agent alone, never for a
                command that looks at a queue in use.
        """
        self._path = path
        self._clock = clock
        self._server_time = server_time
        self._retention_s = retention_s
        self._keep_acknowledged_s = keep_acknowledged_s
        self._max_waiting = max_waiting
        self._max_pages = max(16, max_bytes // PAGE_BYTES)
        self._owner = owner
        self._lock = threading.RLock()
        self._memory: collections.deque[Event] = collections.deque()
        self._unsaved: collections.Counter[str] = collections.Counter()
        # On statuses that the disk has as waiting; kept until it takes the change.
        self._verdicts: dict[str, _Verdict] = {}
        self._disk_trouble: str | None = None
        self._open_db: sqlite3.Connection | None = None
        try:
            self._database()
        except (sqlite3.DatabaseError, OSError) as error:
            self._trouble("open the queue", error)

    # -- opening -----------------------------------------------------------------------------

    def _database(self) -> sqlite3.Connection:
        """The open database; opened again here after trouble, so a repaired disk is taken up."""
        if self._open_db is None:
            try:
                self._open_db = self._connect()
            except sqlite3.OperationalError:
                # Locked, full, not permitted: the file itself may be sound, so it is left alone.
                raise
            except sqlite3.DatabaseError as error:
                if not self._owner:
                    raise
                self._set_aside(str(error))
                self._open_db = self._connect()
        return self._open_db

    def _drop_connection(self) -> None:
        if self._open_db is not None:
            try:
                self._open_db.close()
            except sqlite3.Error as error:
                log.debug("closing %s: %s", self._path, error)
            self._open_db = None

    def _connect(self) -> sqlite3.Connection:
        # Made by us first, so that the mode is right from the start and the journal inherits it.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(
            str(self._path), timeout=10.0, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute(f"PRAGMA page_size={PAGE_BYTES}")
            db.execute("PRAGMA journal_mode=WAL")
            # FULL: fsync at each commit. NORMAL would lose the last commits in a power cut.
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA journal_size_limit=1048576")
            db.execute("PRAGMA wal_autocheckpoint=200")
            db.execute(f"PRAGMA max_page_count={self._max_pages}")
            db.execute("PRAGMA temp_store=MEMORY")
            problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, reason: str) -> None:
        """Move a damaged database out of the way; one such file is kept for a look at it."""
        aside = self._path.with_name(self._path.name + ".damaged")
        log.error(
            "queue %s is damaged (%s): moved to %s, starting an empty one; "
            "statuses that waited in it are lost to this device",
            self._path,
            reason,
            aside,
        )
        self._path.replace(aside)
        self._verdicts.clear()
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the database; what is still in memory gets a last chance to reach the disk."""
        with self._lock:
            self._flush_memory()
            if self._memory:
                log.error("%d statuses could not be saved before the exit", len(self._memory))
            if self._verdicts:
                self._write("mark settled statuses", lambda _: None)
            self._drop_connection()

    # -- writing -----------------------------------------------------------------------------

    def put(self, event: Event) -> bool:
        """Add a status. True when it is on disk, False while it is held in memory only."""
        with self._lock:
            self._memory.append(event)
            if self._flush_memory():
                return True
            while len(self._memory) > MAX_IN_MEMORY:
                self._memory.popleft()
                self._unsaved["dropped_overflow"] += 1
            return False

    def acknowledge(self, event_ids: Iterable[str]) -> None:
        """The server has these for good."""
        now = self._clock.wall()
        with self._lock:
            self._settle({event_id: _Verdict(_ACKNOWLEDGED, now) for event_id in event_ids})
            self._write(
                "mark statuses as acknowledged",
                lambda db: self._set(db, "last_acknowledged", repr(now)),
            )

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """The server will never take these; keep them for a look, with its reason."""
        now = self._clock.wall()
        with self._lock:
            self._settle(
                {
                    event_id: _Verdict(_REFUSED, now, reason[:500])
                    for event_id, reason in reasons.items()
                }
            )
            self._write("mark statuses as refused", lambda _: None)

    def _settle(self, verdicts: Mapping[str, _Verdict]) -> None:
        """Take the server's word on these; the next transaction brings it to disk."""
        held = [event for event in self._memory if event.event_id in verdicts]
        for event in held:
            self._unsaved[_TOTALS[verdicts[event.event_id].state]] += 1
        if held:
            self._memory = collections.deque(e for e in self._memory if e.event_id not in verdicts)
        known = {event.event_id for event in held}
        self._verdicts.update(
            (event_id, verdict) for event_id, verdict in verdicts.items() if event_id not in known
        )

    def restamp(self, event: Event) -> bool:
        """Replace the wall time and the body of a waiting status. False when that was not saved."""

        def change(db: sqlite3.Connection) -> int:
            return db.execute(
                "UPDATE events SET wall=?, body=?, trusted=0 WHERE event_id=? AND state=?",
                (event.wall, event.body, event.event_id, _WAITING),
            ).rowcount

        with self._lock:
            for position, held in enumerate(self._memory):
                if held.event_id == event.event_id:
                    self._memory[position] = event
                    return True
            return bool(self._write("correct the time of a status", change))

    def resend_since(self, wall: float) -> int | None:
        """Make acknowledged statuses wait again that were made at or after `wall` (1970 seconds).

        This is the device's half of a failover: the sender calls it with the server's watermark
        when a reply carries a higher epoch. Statuses whose clock was not trusted are judged by the
        moment they were acknowledged. Returns how many wait again, None when the disk refused.
        """

        def again(db: sqlite3.Connection) -> int:
            changed = db.execute(
                "UPDATE events SET state=?, settled=NULL WHERE state=?"
                " AND CASE WHEN trusted THEN wall ELSE max(wall, settled) END >= ?",
                (_WAITING, _ACKNOWLEDGED, wall),
            ).rowcount
            self._count(db, "acknowledged", -changed)
            return changed

        with self._lock:
            return self._write("make statuses wait again", again)

    def expire(self) -> int:
        """Drop what is too old to be wanted, and what goes over the bounds. Returns how many.

        Only waiting statuses count as dropped; settled ones have done their duty.
        """
        with self._lock:
            return self._write("drop old statuses", self._expire) or 0

    def _expire(self, db: sqlite3.Connection) -> int:
        boot, boottime = self._clock.boot_id(), self._clock.boottime()
        # Within one boot an age is exact. Across boots it takes two wall clocks, and both must have
        # been believable: else a clock that jumps a year ahead would empty the queue.
        expired = db.execute(
            "DELETE FROM events WHERE state=? AND boot_id=? AND boottime < ?",
            (_WAITING, boot, boottime - self._retention_s),
        ).rowcount
        if self._server_time.trusted():
            now = self._server_time.now() or self._clock.wall()
            expired += db.execute(
                "DELETE FROM events WHERE state=? AND boot_id<>? AND trusted AND wall < ?",
                (_WAITING, boot, now - self._retention_s),
            ).rowcount
            for state, keep in (
                (_ACKNOWLEDGED, self._keep_acknowledged_s),
                (_REFUSED, self._retention_s),
            ):
                db.execute("DELETE FROM events WHERE state=? AND settled < ?", (state, now - keep))
        # The same bounds by count, for boards whose clock is never believable.
        for state in (_ACKNOWLEDGED, _REFUSED):
            self._trim(db, state, self._max_waiting)
        overflow = self._trim(db, _WAITING, self._max_waiting)
        self._count(db, "dropped_expired", expired)
        self._count(db, "dropped_overflow", overflow)
        if expired:
            log.warning(
                "dropped %d statuses older than %.1f days that the server never took",
                expired,
                self._retention_s / DAY_S,
            )
        if overflow:
            log.warning("dropped the %d oldest statuses: the queue is full", overflow)
        return expired + overflow

    @staticmethod
    def _trim(db: sqlite3.Connection, state: int, keep: int) -> int:
        return db.execute(
            "DELETE FROM events WHERE state=? AND seq <= coalesce("
            "(SELECT seq FROM events WHERE state=? ORDER BY seq DESC LIMIT 1 OFFSET ?), -1)",
            (state, state, keep),
        ).rowcount

    # -- reading -----------------------------------------------------------------------------

    def _read(self, query: str, parameters: tuple[object, ...] = ()) -> list[Any] | None:
        """Rows of a query, None when the disk does not give them."""
        try:
            return self._database().execute(query, parameters).fetchall()
        except (sqlite3.DatabaseError, OSError) as error:
            self._trouble("read the queue", error)
            return None

    def waiting(self, limit: int) -> list[Event]:
        """The oldest statuses that wait, at most `limit`, in the order they were made."""
        with self._lock:
            rows = self._read(
                "SELECT event_id, body, boot_id, boottime, wall, trusted FROM events"
                " WHERE state=? ORDER BY seq LIMIT ?",
                (_WAITING, limit + len(self._verdicts)),
            )
            events = [
                Event(r[0], r[1], r[2], r[3], r[4], bool(r[5]))
                for r in rows or ()
                if r[0] not in self._verdicts
            ][:limit]
            events.extend(list(self._memory)[: max(0, limit - len(events))])
            return events

    def refused(self, limit: int) -> list[tuple[str, float, str]]:
        """The newest refused statuses: event id, wall time, reason."""
        with self._lock:
            rows = self._read(
                "SELECT event_id, wall, reason FROM events WHERE state=? ORDER BY seq DESC LIMIT ?",
                (_REFUSED, limit),
            )
            return rows or []

    def oldest_waiting(self) -> float | None:
        """The wall time of the oldest waiting status, None when nothing waits."""
        first = self.waiting(1)
        return first[0].wall if first else None

    def counts(self) -> Counts:
        """What is held and what was let go."""
        with self._lock:
            states = dict(self._read("SELECT state, count(*) FROM events GROUP BY state") or ())
            totals = dict(self._read("SELECT key, value FROM meta WHERE key LIKE 'total_%'") or ())
            pages = self._read("PRAGMA page_count") or [(0,)]
            verdicts = collections.Counter(verdict.state for verdict in self._verdicts.values())

            def total(name: str) -> int:
                return int(totals.get(f"total_{name}", 0)) + self._unsaved[name]

            return Counts(
                waiting=states.get(_WAITING, 0) - len(self._verdicts) + len(self._memory),
                in_memory=len(self._memory),
                acknowledged_kept=states.get(_ACKNOWLEDGED, 0) + verdicts[_ACKNOWLEDGED],
                refused_kept=states.get(_REFUSED, 0) + verdicts[_REFUSED],
                acknowledged_total=total("acknowledged") + verdicts[_ACKNOWLEDGED],
                refused_total=total("refused") + verdicts[_REFUSED],
                dropped_expired_total=total("dropped_expired"),
                dropped_overflow_total=total("dropped_overflow"),
                bytes_on_disk=int(pages[0][0]) * PAGE_BYTES,
            )

    def note(self, key: str, value: str) -> None:
        """Remember a word about the agent itself (last error, epoch) across restarts."""
        with self._lock:
            self._write("save a note", lambda db: self._set(db, key, value))

    def notes(self) -> dict[str, str]:
        """What was noted."""
        with self._lock:
            rows = self._read("SELECT key, value FROM meta WHERE key NOT LIKE 'total_%'")
            return {str(key): str(value) for key, value in rows or ()}

    # -- the disk ----------------------------------------------------------------------------

    def _flush_memory(self) -> bool:
        """Bring what is held in memory to disk. True when nothing is left in memory."""
        if not self._memory:
            return True

        def insert(db: sqlite3.Connection) -> bool:
            db.executemany(
                "INSERT OR IGNORE INTO events"
                " (event_id, body, boot_id, boottime, wall, trusted) VALUES (?,?,?,?,?,?)",
                [
                    (e.event_id, e.body, e.boot_id, e.boottime, e.wall, int(e.trusted))
                    for e in self._memory
                ],
            )
            return True

        if not self._write("save a status", insert):
            return False
        self._memory.clear()
        return True

    def _write(self, what: str, change: Callable[[sqlite3.Connection], T]) -> T | None:
        """Run `change` in one transaction. None when the disk does not take it."""
        for attempt in range(3):
            try:
                result = self._transaction(change)
            except (sqlite3.DatabaseError, OSError) as error:
                if attempt < 2 and self._at_own_bound() and self._make_room():
                    continue
                self._trouble(what, error)
                return None
            if self._disk_trouble is not None:
                log.info("the disk takes writes again")
                self._disk_trouble = None
            return result
        return None

    def _transaction(self, change: Callable[[sqlite3.Connection], T]) -> T:
        db = self._database()
        db.execute("BEGIN IMMEDIATE")
        try:
            unsaved = dict(self._unsaved)
            self._apply_verdicts(db)
            result = change(db)
            for name, number in unsaved.items():
                self._count(db, name, number)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        for name, number in unsaved.items():
            self._unsaved[name] -= number
        self._verdicts.clear()
        return result

    def _apply_verdicts(self, db: sqlite3.Connection) -> None:
        """Mark what the server has settled; only a status that waits can be."""
        changed: collections.Counter[int] = collections.Counter()
        for event_id, verdict in self._verdicts.items():
            changed[verdict.state] += db.execute(
                "UPDATE events SET state=?, settled=?, reason=? WHERE event_id=? AND state=?",
                (verdict.state, verdict.settled, verdict.reason, event_id, _WAITING),
            ).rowcount
        for state, number in changed.items():
            self._count(db, _TOTALS[state], number)

    def _trouble(self, what: str, error: Exception) -> None:
        text = str(error)
        if text != self._disk_trouble:
            log.error(
                "could not %s in %s: %s; statuses are held in memory (at most %d) and still sent. "
                "Free some space or check the disk",
                what,
                self._path,
                text,
                MAX_IN_MEMORY,
            )
            self._disk_trouble = text
        if self._owner and ("malformed" in text or "not a database" in text):
            self._drop_connection()
            try:
                self._set_aside(text)
            except OSError as again:
                log.error("could not move %s away: %s", self._path, again)

    def _at_own_bound(self) -> bool:
        """Whether it is our own size bound that refuses, not the disk."""
        pages, free = self._read("PRAGMA page_count"), self._read("PRAGMA freelist_count")
        return bool(pages and free and pages[0][0] - free[0][0] >= self._max_pages - 8)

    def _make_room(self) -> bool:
        """Delete a tenth of the rows: settled ones first, then the oldest that wait."""

        def shrink(db: sqlite3.Connection) -> int:
            goal = max(16, int(db.execute("SELECT count(*) FROM events").fetchone()[0]) // 10)
            gone = 0
            for state in (_ACKNOWLEDGED, _REFUSED, _WAITING):
                removed = db.execute(
                    "DELETE FROM events WHERE seq IN"
                    " (SELECT seq FROM events WHERE state=? ORDER BY seq LIMIT ?)",
                    (state, goal - gone),
                ).rowcount
                gone += removed
                if state == _WAITING and removed:
                    self._count(db, "dropped_overflow", removed)
                    log.warning("dropped the %d oldest statuses: the queue is full", removed)
                if gone >= goal:
                    break
            return gone

        try:
            return self._transaction(shrink) > 0
        except sqlite3.DatabaseError as error:
            log.debug("no room could be made: %s", error)
            return False

    @staticmethod
    def _set(db: sqlite3.Connection, key: str, value: str) -> None:
        db.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value=excluded.value",
            (key, value),
        )

    @staticmethod
    def _count(db: sqlite3.Connection, name: str, by: int) -> None:
        if by:
            db.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key)"
                " DO UPDATE SET value = CAST(value AS INTEGER) + CAST(excluded.value AS INTEGER)",
                (f"total_{name}", str(by)),
            )
