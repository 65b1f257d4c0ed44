"""The role manager's rounds: what it remembers, what it answers, what it never does."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from overlord.arbiter import ArbiterSilentError, https
from overlord.errors import OverlordError
from overlord.facts.database import Database, DatabaseError
from overlord.paths import Paths
from overlord.releases import Releases
from overlord.roles import requests
from overlord.roles.manager import (
    PROMOTE_AGAIN_SECONDS,
    QUICK_SECONDS,
    ROUND_SECONDS,
    RoleManager,
)
from overlord.roles.record import read_record
from overlord.roles.view import RoleState
from tests.unit.overlord.fakes import COMPOSE, FakeRunner, tar, write_boot
from tests.unit.overlord.role_fakes import primary_database, standby_database


class FakePostgres:
    """A server that is read and told as a test likes."""

    def __init__(self) -> None:
        self.database: Database | None = standby_database()
        self.told: list[str] = []

    def read(self) -> Database:
        if self.database is None:
            raise DatabaseError("no connection")
        return self.database

    def set(self, name: str, value: str) -> None:
        self.told.append(f"{name}={value}")

    def reload(self) -> None:
        self.told.append("reload")

    def ask(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        self.told.append(query)
        return []


class Node:
    """A role manager whose rounds the test makes."""

    def __init__(self, root: Path, arbiter: Callable[..., Any] | None = None) -> None:
        self.now = 1000.0
        self.paths = write_boot(root)
        document = {"node": "vps-01", "peer": "vps-02", "role": "primary"}
        if arbiter:
            document["arbiter"] = {"url": "https://arbiter.example.com"}  # type: ignore[assignment]
        self.install(document)
        self.state = RoleState(lambda: self.now)
        self.manager = RoleManager(self.paths, FakeRunner(), self.state, arbiter or https)
        self.postgres = FakePostgres()
        self.manager._postgres = self.postgres  # type: ignore[assignment]

    def install(self, document: dict[str, Any]) -> None:
        data = tar(
            {
                "nodes/vps-01/node.json": json.dumps(document).encode(),
                "nodes/vps-01/compose.yaml": COMPOSE.encode(),
            }
        )
        releases = Releases(self.paths)
        releases.switch(releases.unpack(data, hashlib.sha256(data).hexdigest()))

    def round(self, seconds: float = 1.0) -> str:
        self.now += seconds
        self.manager.round()
        view = self.state.last()
        assert view is not None
        return view.decision.state

    def _pause(self, seconds: float) -> None:
        self.round(seconds)

    def ask(self, verb: requests.Verb) -> str:
        """Ask as overlordctl does, with rounds in place of waiting."""
        return requests.send(verb, self.paths, self._pause, lambda: self.now)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def promote(node: Node) -> None:
    """Until the server takes writes, as a configured primary that heard nothing of its peer."""
    node.round(0)
    node.round(60)
    node.postgres.database = replace(primary_database(), standbys=(), synchronous="", slots=())


def test_a_configured_primary_is_promoted_and_its_epoch_is_never_forgotten(node: Node) -> None:
    promote(node)
    assert "SELECT pg_promote(false)" in node.postgres.told
    record = read_record(node.paths)
    assert (record.epoch, record.was_primary) == (1, True)
    assert [event.what for event in record.events] == ["promoted"]
    assert node.round() == "primary"
    assert node.state.writes()[0] is True


def test_a_server_that_takes_its_time_is_not_told_again_at_once(node: Node) -> None:
    node.round(0)
    for seconds in (60, 0.2, 0.2):
        node.round(seconds)
    told = node.postgres.told
    assert told.count("SELECT pg_promote(false)") == 1
    node.round(PROMOTE_AGAIN_SECONDS)
    assert told.count("SELECT pg_promote(false)") == 2


def test_rounds_are_quick_only_while_nobody_takes_writes(node: Node) -> None:
    node.round(0)
    assert node.manager.pause() == ROUND_SECONDS
    node.round(60)
    assert node.manager.pause() == QUICK_SECONDS
    node.postgres.database = replace(primary_database(), standbys=(), synchronous="", slots=())
    node.round(QUICK_SECONDS)
    assert node.manager.pause() == ROUND_SECONDS


def test_names_are_set_before_the_server_takes_writes(node: Node) -> None:
    promote(node)
    told = node.postgres.told
    assert told.index("synchronous_standby_names=") < told.index("SELECT pg_promote(false)")


def test_a_round_without_a_server_claims_nothing(node: Node) -> None:
    node.postgres.database = None
    assert node.round() == "unknown"
    assert node.state.writes()[0] is False


def test_a_record_is_written_only_when_it_changes(node: Node) -> None:
    promote(node)
    node.round()
    before = node.paths.roles.stat().st_mtime_ns
    node.round()
    assert node.paths.roles.stat().st_mtime_ns == before


def test_maintenance_is_remembered_and_taken_back(node: Node) -> None:
    node.ask("maintenance on")
    assert read_record(node.paths).maintenance
    node.ask("maintenance off")
    assert not read_record(node.paths).maintenance
    assert [event.what for event in read_record(node.paths).events] == [
        "maintenance on",
        "maintenance off",
    ]


def test_a_switchover_from_a_standby_is_refused_with_the_reason(node: Node) -> None:
    with pytest.raises(OverlordError, match="run it on the primary"):
        node.ask("switchover")
    assert not node.paths.role_request.exists()


def test_a_node_promoted_by_hand_keeps_its_role_and_has_a_higher_epoch(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.install({"node": "vps-01", "peer": "vps-02", "role": "standby"})
    node.round(60)
    assert "SELECT pg_promote(false)" not in node.postgres.told
    node.ask("promote")
    record = read_record(node.paths)
    assert (record.role, record.epoch) == ("primary", 1)
    node.round()
    assert "SELECT pg_promote(false)" in node.postgres.told


def test_nobody_answers_a_request_and_it_is_taken_back(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(OverlordError, match="does not answer"):
        requests.send("promote", paths, sleep, lambda: now[0])
    assert not paths.role_request.exists()


def test_a_standby_is_made_primary_by_its_peer_only_where_no_arbiter_decides(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path / "one")
    node.round()
    assert node.manager.take_over(7)
    assert (read_record(node.paths).role, read_record(node.paths).epoch) == ("primary", 7)

    def silent(*_: object) -> Callable[..., Any]:
        def send(*_: object) -> Any:
            raise ArbiterSilentError("nothing")

        return send

    other = Node(tmp_path / "two", silent)
    other.round()
    assert not other.manager.take_over(7)
    assert other.round(60) == "standby"
    assert "SELECT pg_promote(false)" not in other.postgres.told
