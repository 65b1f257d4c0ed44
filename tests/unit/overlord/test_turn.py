"""Whose turn a change is: the pure decision, and a pair of nodes changed in the fixed order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlord.errors import OverlordError
from overlord.facts.peer import Peer
from overlord.paths import Paths
from overlord.turn import (
    PAIR_SECRETS,
    SYNC_SECONDS,
    Change,
    Go,
    HandOver,
    Pair,
    Refuse,
    Situation,
    Turn,
    Wait,
    decide_turn,
)

NEW, OLD = "newrelease00", "oldrelease00"
DATABASE = Change(NEW, frozenset({"postgres", "api"}))
API = Change(NEW, frozenset({"api"}))
AGENT = Change(NEW, agent=True)
RULES = Change(NEW, frozenset({"prometheus"}))
ROTATION = Change(NEW, frozenset({"postgres"}), secrets=frozenset({"postgres_tls_key"}))

FOLLOWER = Peer("vps-02", "standby", False, 3, True, release=NEW)
BEHIND = replace(FOLLOWER, release=OLD)
LEADER = Peer("vps-02", "primary", True, 3, True, release=OLD, synchronous=True)


def leads(peer: Peer | None, obstacle: str | None = None) -> Situation:
    return Situation("primary", "by lease", None, obstacle, "vps-02", peer)


SILENT = Situation("", "the node agent does not answer", None, None, "vps-02", None)
FOLLOWS = Situation("standby", "streams", None, "run it on the primary", "vps-02", LEADER)


@pytest.mark.parametrize(
    ("change", "now", "turn"),
    [
        (DATABASE, FOLLOWS, Go),
        (API, FOLLOWS, Go),
        (DATABASE, replace(FOLLOWS, state="catching up"), Go),
        # The standby has it: only PostgreSQL is worth a switchover.
        (DATABASE, leads(FOLLOWER), HandOver),
        (API, leads(FOLLOWER), Go),
        (AGENT, leads(FOLLOWER), Go),
        (RULES, leads(FOLLOWER), Go),
        # The standby has not: nothing that writes pass through is changed on the leader first.
        (DATABASE, leads(BEHIND), HandOver),
        (API, leads(BEHIND), HandOver),
        (AGENT, leads(BEHIND), HandOver),
        (RULES, leads(BEHIND), Go),
        # An agent of an earlier release does not tell.
        (API, leads(replace(FOLLOWER, release=None)), Go),
        (DATABASE, leads(replace(FOLLOWER, release=None)), HandOver),
        # A handover would help nobody, or an operator does not want one.
        (ROTATION, leads(FOLLOWER), Go),
        (DATABASE, leads(replace(FOLLOWER, maintenance=True)), Go),
        (API, leads(replace(BEHIND, maintenance=True)), Go),
    ],
)
def test_whose_turn_it_is(change: Change, now: Situation, turn: type[Turn]) -> None:
    assert isinstance(decide_turn(change, now), turn)


@pytest.mark.parametrize(
    ("change", "now", "then", "word"),
    [
        (DATABASE, leads(replace(FOLLOWER, changing=NEW)), Refuse, "is being changed"),
        (RULES, replace(FOLLOWS, peer=replace(LEADER, changing=NEW)), Refuse, "is being changed"),
        (DATABASE, replace(FOLLOWS, busy="copying the database"), Refuse, "copying"),
        (DATABASE, leads(FOLLOWER, "not synchronous yet"), Go, "not synchronous yet"),
        (DATABASE, leads(BEHIND, "not synchronous yet"), Refuse, "not synchronous yet"),
        (DATABASE, leads(replace(BEHIND, healthy=False)), Refuse, "not healthy"),
        (API, leads(replace(FOLLOWER, healthy=False)), Refuse, "not healthy"),
        (DATABASE, leads(None), Go, "does not answer"),
        (API, replace(FOLLOWS, peer=None), Go, "neither node is primary"),
        (API, SILENT, Go, "agent"),
    ],
)
def test_what_is_waited_for_and_what_comes_of_it_at_last(
    change: Change, now: Situation, then: type[Go | Refuse], word: str
) -> None:
    turn = decide_turn(change, now)
    assert isinstance(turn, Wait)
    assert isinstance(turn.then, then)
    assert word in (turn.then.note if isinstance(turn.then, Go) else turn.then.what)


def test_a_restart_of_the_leaders_postgresql_in_place_is_announced() -> None:
    turn = decide_turn(DATABASE, leads(FOLLOWER, "not synchronous yet"))
    assert isinstance(turn, Wait)
    assert isinstance(turn.then, Go)
    assert "PostgreSQL restarts in place, and writes stop" in turn.then.note


peers = st.none() | st.builds(
    Peer,
    node=st.just("vps-02"),
    state=st.sampled_from(["primary", "standby", "unknown"]),
    primary=st.booleans(),
    epoch=st.just(3),
    data=st.just(True),
    synchronous=st.booleans(),
    maintenance=st.booleans(),
    healthy=st.booleans(),
    release=st.sampled_from([None, NEW, OLD]),
    changing=st.sampled_from([None, None, NEW]),
)
situations = st.builds(
    Situation,
    state=st.sampled_from(["primary", "standby", "catching up", "fenced", "unknown", ""]),
    reason=st.just("so"),
    busy=st.sampled_from([None, None, "copying"]),
    obstacle=st.sampled_from([None, "not synchronous yet"]),
    peer_name=st.just("vps-02"),
    peer=peers,
)
changes = st.builds(
    Change,
    release=st.just(NEW),
    services=st.frozensets(st.sampled_from(["postgres", "api", "nginx", "prometheus", "loki"])),
    agent=st.booleans(),
    secrets=st.frozensets(st.sampled_from([*sorted(PAIR_SECRETS), "api_enrol_token"])),
)


@given(changes, situations)
def test_never_both_nodes_at_once(change: Change, now: Situation) -> None:
    turn = decide_turn(change, now)
    if now.peer and now.peer.changing:
        assert isinstance(turn, Wait)
        assert isinstance(turn.then, Refuse)


@given(changes, situations)
def test_a_leader_restarts_postgresql_only_where_nobody_can_take_over(
    change: Change, now: Situation
) -> None:
    turn = decide_turn(change, now)
    if now.leads and change.database and isinstance(turn, Go):
        assert now.peer is not None
        assert now.peer.maintenance or change.parts


@given(changes, situations)
def test_a_leader_hands_over_only_to_a_healthy_node_that_can_take_over(
    change: Change, now: Situation
) -> None:
    if isinstance(decide_turn(change, now), HandOver):
        assert now.leads
        assert now.obstacle is None
        assert now.peer is not None
        assert now.peer.healthy
        assert not now.peer.maintenance


@dataclass
class Nodes:
    """Two nodes on whose roles a handover works as it does in life, without its seconds."""

    leader: str
    release: dict[str, str] = field(default_factory=lambda: {"vps-01": OLD, "vps-02": OLD})
    now: float = 0.0
    sync: bool = True
    reachable: bool = True
    said: list[str] = field(default_factory=list)
    handovers: int = 0
    sync_after: float = 0.0
    writes: bool = True

    def status(self, node: str) -> dict[str, Any]:
        leading = self.leader == node
        synchronous = self.sync and self.now >= self.sync_after
        roles = {
            "state": "primary" if leading else "standby",
            "reason": "as it is",
            "switchover_obstacle": None if leading and synchronous else "not synchronous yet",
        }
        return {"leader": leading and self.writes, "roles": roles}

    def peer(self, node: str) -> Peer | None:
        if not self.reachable:
            return None
        leading = self.leader == node
        state = "primary" if leading else "standby"
        synchronous = leading and self.sync and self.now >= self.sync_after
        return Peer(
            node, state, leading, 3, True, release=self.release[node], synchronous=synchronous
        )

    def pair(self, node: str) -> Pair:
        other = "vps-02" if node == "vps-01" else "vps-01"

        def hand_over(_: Paths) -> float:
            self.leader, self.handovers = other, self.handovers + 1
            self.sync_after = self.now + 10
            return 2.5

        def sleep(seconds: float) -> None:
            self.now += seconds

        return Pair(
            paths=Paths(Path("/nowhere")),
            peer_name=lambda: other,
            say=self.said.append,
            ask=lambda: self.status(node),
            ask_peer=self.peer,
            hand_over=hand_over,
            writes=lambda: self.leader == node and self.writes,
            sleep=sleep,
            clock=lambda: self.now,
        )

    def change(self, node: str, change: Change, meanwhile: Callable[[], object] = int) -> bool:
        """Change one node as apply does; whether it led while that happened."""
        pair = self.pair(node)
        pair.begin(change)
        led = self.leader == node
        self.release[node] = change.release
        meanwhile()
        pair.end(change)
        return led


def update(nodes: Nodes, change: Change) -> dict[str, bool]:
    """As `pulumi up` does it, in its fixed order; which node led while it was changed."""
    return {node: nodes.change(node, change) for node in ("vps-02", "vps-01")}


@pytest.mark.parametrize(("leader", "handovers"), [("vps-01", 1), ("vps-02", 2)])
def test_whoever_leads_postgresql_is_changed_on_a_standby_alone(
    leader: str, handovers: int
) -> None:
    nodes = Nodes(leader)
    assert update(nodes, DATABASE) == {"vps-01": False, "vps-02": False}
    assert nodes.handovers == handovers
    assert set(nodes.release.values()) == {NEW}


@pytest.mark.parametrize(("leader", "handovers"), [("vps-01", 0), ("vps-02", 1)])
def test_the_api_is_changed_first_on_a_standby(leader: str, handovers: int) -> None:
    nodes = Nodes(leader)
    assert update(nodes, API) == {"vps-01": True, "vps-02": False}
    assert nodes.handovers == handovers


@pytest.mark.parametrize("leader", ["vps-01", "vps-02"])
def test_a_changed_rule_costs_no_switchover(leader: str) -> None:
    nodes = Nodes(leader)
    update(nodes, RULES)
    assert nodes.handovers == 0


def test_after_a_handover_the_node_follows_in_sync_before_it_is_changed() -> None:
    nodes = Nodes("vps-01")
    nodes.release["vps-02"] = NEW
    nodes.pair("vps-01").begin(DATABASE)
    assert nodes.now >= nodes.sync_after > 0


def test_a_standby_that_comes_into_sync_is_waited_for() -> None:
    nodes = Nodes("vps-01", sync_after=60.0)
    nodes.release["vps-02"] = NEW
    assert nodes.change("vps-01", DATABASE) is False
    assert "waiting for at most 120 s: cannot hand over" in nodes.said[0]


def test_without_a_standby_in_sync_it_restarts_in_place_and_says_for_how_long() -> None:
    nodes = Nodes("vps-01", sync=False)
    nodes.release["vps-02"] = NEW
    assert nodes.change("vps-01", DATABASE) is True
    assert nodes.now >= SYNC_SECONDS
    assert any("PostgreSQL restarts in place" in line for line in nodes.said)
    assert nodes.said[-1].startswith("writes stopped for ")


def test_a_release_that_keeps_a_standby_from_following_is_at_fault() -> None:
    nodes = Nodes("vps-01")

    def break_replication() -> None:
        nodes.sync = False

    with pytest.raises(OverlordError, match="does not follow in sync within 120 s"):
        nodes.change("vps-02", DATABASE, break_replication)


def test_a_primary_that_died_meanwhile_is_no_fault_of_the_release() -> None:
    nodes = Nodes("vps-01")

    def die() -> None:
        nodes.leader, nodes.reachable = "", False

    nodes.change("vps-02", DATABASE, die)
    assert "no primary is in sight" in nodes.said[-1]


def test_a_leader_that_takes_no_writes_afterwards_is_a_failed_change() -> None:
    nodes = Nodes("vps-01")
    nodes.release["vps-02"] = NEW

    def stop_writing() -> None:
        nodes.writes = False

    with pytest.raises(OverlordError, match="does not take writes again"):
        nodes.change("vps-01", API, stop_writing)


def test_a_rotated_secret_of_the_pair_is_changed_in_place_and_not_waited_for() -> None:
    nodes = Nodes("vps-01")

    def part() -> None:
        nodes.sync = False

    assert nodes.change("vps-02", ROTATION, part) is False
    assert nodes.said[-1] == "streams again once both nodes have the new secret"
    assert nodes.change("vps-01", ROTATION) is True
    assert nodes.handovers == 0


def test_the_preview_changes_nothing() -> None:
    nodes = Nodes("vps-01")
    said = nodes.pair("vps-01").preview(DATABASE)
    assert said == "this node leads, and PostgreSQL restarts: would hand over first"
    assert nodes.handovers == 0
