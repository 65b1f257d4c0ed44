"""The pair under any sequence of faults: never two, nothing lost, and it comes back by itself."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.unit.overlord.pair_model import NODES, PairModel

SETTLED_SECONDS = 90.0

nodes = st.sampled_from(NODES)
# In memory, as /run is on a node: the lease is written down with each renewal.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pair-", dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def pair() -> Iterator[PairModel]:
    with folder() as one:
        yield PairModel(one)


def leaders(pair: PairModel) -> list[str]:
    return [node.name for node in pair.nodes.values() if node.leader]


def until_leader(pair: PairModel, name: str, seconds: float) -> float:
    began = pair.now
    while leaders(pair) != [name]:
        assert pair.now - began < seconds, f"no leader {name} after {seconds} s"
        pair.tick(0.5)
    return pair.now - began


def test_a_new_pair_comes_up_with_its_configured_primary_in_sync(pair: PairModel) -> None:
    pair.tick(20)
    assert leaders(pair) == ["vps-01"]
    assert (pair.arbiter.replication, pair.arbiter.cluster) == ("sync", "7")
    assert pair.acknowledged


def test_a_dead_primary_is_replaced_within_a_lease_and_loses_nothing(pair: PairModel) -> None:
    pair.tick(30)
    pair.nodes["vps-01"].power_off()
    seconds = until_leader(pair, "vps-02", 20)
    assert seconds <= 18
    before = len(pair.acknowledged)
    pair.tick(5)
    assert len(pair.acknowledged) > before
    pair.nodes["vps-01"].power_on()
    pair.tick(30)
    assert leaders(pair) == ["vps-02"]
    assert pair.arbiter.replication == "sync"
    assert pair.nodes["vps-01"].streams()


def test_a_standby_that_is_known_to_be_behind_is_not_promoted(pair: PairModel) -> None:
    pair.tick(30)
    pair.peers_cut = True
    pair.tick(30)
    assert pair.arbiter.replication == "async"
    assert leaders(pair) == ["vps-01"]
    pair.nodes["vps-01"].power_off()
    pair.tick(120)
    assert leaders(pair) == []
    pair.nodes["vps-01"].power_on()
    until_leader(pair, "vps-01", 30)


def test_without_the_arbiter_a_primary_goes_on_for_an_hour_while_its_peer_pledges(
    pair: PairModel,
) -> None:
    pair.tick(30)
    pair.arbiter_down = True
    for _ in range(3600):
        pair.tick(1)
        assert leaders(pair) == ["vps-01"]
    pair.arbiter_down = False
    for _ in range(60):
        pair.tick(1)
        assert leaders(pair) == ["vps-01"]


def test_without_arbiter_and_peer_a_primary_stops(pair: PairModel) -> None:
    pair.tick(30)
    pair.arbiter_down = pair.peers_cut = True
    pair.tick(15)
    assert leaders(pair) == []
    assert pair.nodes["vps-01"].disk.in_recovery
    pair.heal()
    until_leader(pair, "vps-01", 30)


def test_a_primary_that_alone_cannot_reach_the_arbiter_is_replaced(pair: PairModel) -> None:
    pair.tick(30)
    pair.nodes["vps-01"].arbiter_cut = True
    until_leader(pair, "vps-02", 30)


def test_an_agent_that_starts_again_keeps_its_right(pair: PairModel) -> None:
    pair.tick(30)
    epoch = pair.arbiter.epoch
    pair.nodes["vps-01"].start_agent()
    pair.tick(2)
    assert leaders(pair) == ["vps-01"]
    assert (pair.arbiter.epoch, pair.nodes["vps-01"].disk.timeline) == (epoch, 2)


def test_an_arbiter_without_memory_gives_the_lease_to_the_last_primary_whichever_it_was(
    pair: PairModel,
) -> None:
    pair.tick(30)
    pair.nodes["vps-01"].power_off()
    until_leader(pair, "vps-02", 20)
    pair.nodes["vps-01"].power_on()
    pair.tick(30)
    pair.arbiter.wipe()
    pair.tick(1)
    # All that its agent knew in memory is gone with it.
    pair.nodes["vps-02"].power_off()
    pair.tick(60)
    assert leaders(pair) == []
    pair.nodes["vps-02"].power_on()
    until_leader(pair, "vps-02", 10)


def test_a_frozen_agent_loses_its_role_and_its_server_is_fenced_when_it_thaws(
    pair: PairModel,
) -> None:
    pair.tick(30)
    pair.nodes["vps-01"].frozen = True
    until_leader(pair, "vps-02", 30)
    pair.nodes["vps-01"].frozen = False
    pair.tick(30)
    assert pair.nodes["vps-01"].streams()


class Weather(RuleBasedStateMachine):
    """Faults in any order, and time."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="pair-", dir=MEMORY)
        self.pair = PairModel(Path(self.folder.name))
        self.pair.tick(20)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 4.0, 9.0, 17.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.pair.tick(seconds)

    @rule(node=nodes)
    def power(self, node: str) -> None:
        one = self.pair.nodes[node]
        if one.up:
            one.power_off()
        else:
            one.power_on()

    @rule(node=nodes)
    def freeze(self, node: str) -> None:
        self.pair.nodes[node].frozen = not self.pair.nodes[node].frozen

    @rule(node=nodes)
    def the_agent_starts_again(self, node: str) -> None:
        if self.pair.nodes[node].up:
            self.pair.nodes[node].start_agent()

    @rule(node=nodes)
    def the_server_crashes(self, node: str) -> None:
        self.pair.nodes[node].disk.restart()

    @rule(node=nodes)
    def cut_from_the_arbiter(self, node: str) -> None:
        self.pair.nodes[node].arbiter_cut = not self.pair.nodes[node].arbiter_cut

    @rule(node=nodes)
    def lose_the_arbiters_answers(self, node: str) -> None:
        self.pair.nodes[node].answers_lost = not self.pair.nodes[node].answers_lost

    @rule()
    def cut_between_the_nodes(self) -> None:
        self.pair.peers_cut = not self.pair.peers_cut

    @rule()
    def the_arbiter_goes_or_comes(self) -> None:
        self.pair.arbiter_down = not self.pair.arbiter_down

    @rule()
    def the_arbiter_loses_its_storage(self) -> None:
        """Where both nodes know of the last primary. One that has not heard of it can, asked alone,
        be taken for it; docs/architecture.md says so."""
        arbiter, nodes = self.pair.arbiter, self.pair.nodes.values()
        if all(max(node.record.epoch, node.record.seen) >= arbiter.epoch for node in nodes):
            arbiter.wipe()

    @rule()
    def heal_and_settle(self) -> None:
        self.pair.heal()
        self.pair.tick(SETTLED_SECONDS)
        assert len(leaders(self.pair)) == 1, "no primary although everything works"
        assert self.pair.arbiter.replication == "sync"
        [leader] = leaders(self.pair)
        assert self.pair.nodes[leader].peer.streams()
        assert not self.pair.waiting or max(self.pair.waiting) > self.pair.writes - 3

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


# OVERLORD_WEATHER_EXAMPLES=1000 looks for longer.
TestWeather = pytest.mark.timeout(0)(Weather.TestCase)
TestWeather.settings = settings(
    max_examples=int(os.environ.get("OVERLORD_WEATHER_EXAMPLES", "20")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
