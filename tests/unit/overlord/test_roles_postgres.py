"""The role manager's hands on real servers: promoted, followed, synchronous, followed no more."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overlord.facts import database as facts
from overlord.facts.database import Database, DatabaseError, Postgres
from overlord.paths import Paths
from overlord.roles.act import Hands, RoleActor
from overlord.roles.decide import DropSlots, MakeSlot, Promote, SetSynchronous
from overlord.roles.timeline import ahead_of
from tests.support.postgres import PostgresServer, postgres_binaries, running_postgres
from tests.unit.overlord.fakes import FakeRunner


def until(postgres: Postgres, wanted: Callable[[Database], object]) -> Database:
    deadline = time.monotonic() + 20
    while True:
        found = postgres.read()
        if wanted(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.fixture
def actor(tmp_path: Path) -> RoleActor:
    return RoleActor(Paths(tmp_path), FakeRunner(), "vps-01", Hands(time.monotonic))


@pytest.fixture(params=postgres_binaries(), ids=str)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    with running_postgres(request.param, standby=True) as one:
        yield one


def test_a_server_starts_as_a_standby_and_takes_writes_once_it_is_promoted(
    server: PostgresServer, actor: RoleActor
) -> None:
    postgres = Postgres(server.socket)
    before = postgres.read()
    assert before.in_recovery
    with pytest.raises(DatabaseError, match="read-only"):
        postgres.ask("CREATE TABLE t ()")
    actor.act(Promote(""), postgres, "")
    after = until(postgres, lambda found: not found.in_recovery)
    assert (after.timeline, after.system) == (before.timeline + 1, before.system)
    assert after.history == ((before.timeline, before.lsn),)
    assert ahead_of(before, after.timeline, after.history) == 0
    assert after.mark is None
    postgres.close()


def test_a_copy_follows_and_writes_wait_for_it(server: PostgresServer, actor: RoleActor) -> None:
    primary = Postgres(server.socket)
    actor.act(Promote(""), primary, "")
    until(primary, lambda found: not found.in_recovery)
    actor.act(MakeSlot("vps-02"), primary, "")
    with running_postgres(server.binaries, standby=True, copy_of=server) as copy:
        standby = Postgres(copy.socket)
        # What Follow does, over a socket.
        standby.set(
            "primary_conninfo", f"host={server.socket} user=postgres application_name=vps-02"
        )
        standby.set("primary_slot_name", "vps_02")
        standby.reload()
        until(standby, lambda found: found.receiving)
        actor.act(SetSynchronous("vps-02"), primary, "")
        found = until(primary, lambda one: [s.sync_state for s in one.standbys] == ["sync"])
        assert (found.standbys[0].name, found.slots[0].active) == ("vps-02", True)
        primary.ask("CREATE TABLE t AS SELECT 1")
        written = primary.read().lsn
        until(standby, lambda one: one.lsn >= written)
        # The timeline is known without a receiver too, and before the control file tells.
        standby.set("primary_conninfo", "")
        standby.reload()
        alone = until(standby, lambda one: not one.receiving)
        assert (alone.timeline, alone.lsn >= written) == (2, True)
        # The copy takes over, and what the old one writes alone is seen to part from it.
        actor.act(SetSynchronous(""), primary, "")
        actor.act(Promote(""), standby, "")
        new = until(standby, lambda one: not one.in_recovery)
        assert new.conninfo == ""
        primary.ask("CREATE TABLE alone AS SELECT 1")
        ahead = ahead_of(primary.read(), new.timeline, new.history)
        assert ahead is not None
        assert ahead > 0
        standby.close()
    actor.act(DropSlots(("vps_02",)), primary, "")
    assert primary.read().slots == ()
    primary.close()


def test_a_server_that_is_gone_raises_and_one_that_is_back_is_read_again(tmp_path: Path) -> None:
    with running_postgres() as one:
        postgres = Postgres(one.socket)
        assert not postgres.read().in_recovery
    with pytest.raises(DatabaseError):
        postgres.read()
    with pytest.raises(DatabaseError):
        Postgres(tmp_path).read()


def test_a_server_that_is_stopped_raises_in_time_and_is_read_again_once_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facts, "ANSWER_SECONDS", 0.5)
    with running_postgres() as server:
        postgres = Postgres(server.socket)
        [(backend,)] = postgres.ask("SELECT pg_backend_pid()")
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(DatabaseError):
                postgres.read()
        finally:
            os.kill(backend, signal.SIGCONT)
        assert postgres.read().timeline == 1
        postgres.close()
