"""PostgreSQL on this node, asked through its socket as the superuser.

Every call is bounded: a server that hangs raises, and the caller knows nothing rather than
something old.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

CONNECT_SECONDS = 3
STATEMENT_MILLISECONDS = 3000
ANSWER_SECONDS = 4.0
"""A server that has not even said so by then is stopped or stuck."""

# synchronous_commit=local: what the role manager itself does never waits for the standby.
_OPTIONS = (
    f"-c statement_timeout={STATEMENT_MILLISECONDS} -c lock_timeout=1000 "
    "-c synchronous_commit=local"
)

# pg_walfile_name refuses during recovery, so each branch asks what it may. There the control file
# lags behind, and the receiver knows only while it runs; but the segment that holds the end of the
# log is named after its timeline.
_QUERY = """
SELECT json_build_object(
  'in_recovery', recovery,
  'system', (SELECT system_identifier::text FROM pg_control_system()),
  'timeline', CASE WHEN recovery THEN greatest(
      (SELECT timeline_id FROM pg_control_checkpoint()),
      (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
      (SELECT received_tli FROM pg_stat_wal_receiver),
      (SELECT max(('x' || substr(file.name, 1, 8))::bit(32)::int) FROM pg_ls_waldir() AS file
       WHERE substr(file.name, 9) = upper(
         lpad(to_hex(segment / per_name), 8, '0') || lpad(to_hex(segment % per_name), 8, '0'))))
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
  'lsn', CASE WHEN recovery THEN pg_wal_lsn_diff(
      greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')
    ELSE pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0') END,
  'replayed', CASE WHEN recovery THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') END,
  'replay_age', CASE WHEN recovery THEN
      extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END,
  'receiving', EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'),
  'conninfo', current_setting('primary_conninfo'),
  'synchronous', current_setting('synchronous_standby_names'),
  'standbys', (SELECT coalesce(json_agg(json_build_object(
      'name', application_name, 'state', state, 'sync_state', sync_state,
      'flushed', pg_wal_lsn_diff(flush_lsn, '0/0'),
      'replied', extract(epoch FROM reply_time))), '[]'::json) FROM pg_stat_replication
      WHERE application_name <> 'database-tool'),
  'slots', (SELECT coalesce(json_agg(json_build_object(
      'name', slot_name, 'active', active, 'lost', coalesce(wal_status = 'lost', false))),
      '[]'::json) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary),
  'mark', (SELECT shobj_description(oid, 'pg_authid') FROM pg_roles
           WHERE rolname = 'overlord_owner')
) FROM (
  SELECT recovery, 4294967296 / size AS per_name, CASE WHEN recovery THEN (greatest(0,
      pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0') - 1
    )::bigint / size) END AS segment
  FROM (SELECT pg_is_in_recovery() AS recovery,
               pg_size_bytes(current_setting('wal_segment_size')) AS size) AS setting
) AS now
"""
_HISTORY = "SELECT pg_read_file('pg_wal/' || %s || '.history', 0, 1048576, true)"


@dataclass(frozen=True)
class Standby:
    """A replica that streams from this server."""

    name: str
    state: str
    """PostgreSQL's word: startup, catchup, streaming, backup, stopping."""
    sync_state: str
    """async, potential, sync or quorum."""
    flushed: int | None
    """Position in the log up to which it is on the replica's disk."""
    replied: float | None = None
    """When it last sent word, by its own clock; it does so every second."""


@dataclass(frozen=True)
class Slot:
    """A physical replication slot."""

    name: str
    active: bool = False
    lost: bool = False
    """It was left behind: the log that it needs is gone."""


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server at one moment. Positions are bytes of the log since its beginning."""

    in_recovery: bool
    system: str
    """System identifier: two databases with the same one have one origin."""
    timeline: int
    lsn: int
    """End of the log: on a primary what is on disk, on a replica what it has received."""
    replayed: int | None = None
    replay_age: float | None = None
    """Seconds since the last replayed transaction was committed."""
    receiving: bool = False
    """Whether it streams from its primary."""
    conninfo: str = ""
    synchronous: str = ""
    """synchronous_standby_names."""
    standbys: tuple[Standby, ...] = ()
    slots: tuple[Slot, ...] = ()
    mark: str | None = None
    """What the schema was last brought up to; None before the first time."""
    history: tuple[tuple[int, int], ...] = ()
    """Timelines that this one descends from, and the position at which each was left."""


class DatabaseError(Exception):
    """PostgreSQL did not do what it was asked, or did not answer."""


def parse_history(text: str) -> tuple[tuple[int, int], ...]:
    """Timeline and position of each line of a history file."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].isdigit():
            high, _, low = words[1].partition("/")
            found.append((int(words[0]), (int(high, 16) << 32) + int(low, 16)))
    return tuple(found)


def parse_database(data: Mapping[str, Any], history: str = "") -> Database:
    """From the answer of the query and the timeline's history file."""

    def number(value: Any) -> int | None:
        return None if value is None else int(value)

    def decimal(value: Any) -> float | None:
        return None if value is None else float(value)

    return Database(
        in_recovery=bool(data["in_recovery"]),
        system=str(data["system"]),
        timeline=int(data["timeline"]),
        lsn=number(data["lsn"]) or 0,
        replayed=number(data["replayed"]),
        replay_age=decimal(data["replay_age"]),
        receiving=bool(data["receiving"]),
        conninfo=str(data["conninfo"] or ""),
        synchronous=str(data["synchronous"] or ""),
        standbys=tuple(
            Standby(
                one["name"],
                one["state"],
                one["sync_state"],
                number(one["flushed"]),
                decimal(one["replied"]),
            )
            for one in data["standbys"]
        ),
        slots=tuple(Slot(**one) for one in data["slots"]),
        mark=data["mark"],
        history=parse_history(history),
    )


@contextmanager
def _bounded(descriptor: int) -> Iterator[None]:
    """Cut a connection whose server does not answer in time: no timeout of the server's own helps
    when its process is stopped."""
    # A copy: the connection's own number may be another file's once it is closed.
    wire = socket.socket(fileno=os.dup(descriptor))

    def cut() -> None:
        with suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(ANSWER_SECONDS, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        wire.close()


class Postgres:
    """The server behind a socket. One thread uses it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def read(self) -> Database:
        """The server at this moment. Raises DatabaseError."""
        [(data,)] = self.ask(_QUERY)
        found = data if isinstance(data, dict) else json.loads(data)
        history = ""
        if found["timeline"] > 1:
            [(text,)] = self.ask(_HISTORY, (f"{found['timeline']:08X}",))
            history = text or ""
        return parse_database(found, history)

    def ask(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query, none for a statement without any. Raises DatabaseError."""
        import psycopg

        try:
            connection = self._connected()
            with _bounded(connection.fileno()):
                cursor = connection.execute(query.encode(), values or None)
                return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            self.close()
            raise DatabaseError(" ".join(str(error).split())) from None

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        import psycopg

        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                host=str(self._socket),
                user="postgres",
                dbname="postgres",
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                application_name="overlord-agent",
                options=_OPTIONS,
            )
        return self._connection

    def set(self, name: str, value: str) -> None:
        """Write a setting for good; takes effect with `reload`. Raises DatabaseError."""
        # ALTER SYSTEM takes no parameters, so the server itself quotes.
        [(statement,)] = self.ask(
            "SELECT format('ALTER SYSTEM SET %%I = %%L', %s::text, %s::text)", (name, value)
        )
        self.ask(statement)

    def reload(self) -> None:
        """Read changed settings. Raises DatabaseError."""
        self.ask("SELECT pg_reload_conf()")

    def close(self) -> None:
        """Forget the connection."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
        self._connection = None
