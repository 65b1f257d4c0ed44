"""Faults as data: what would be done, without a world to do it to."""

from __future__ import annotations

import pytest

from chaos.faults import ALL, CHAIN, FAULTS, TWO_AT_ONCE, Fault, by_name, draw, every, together
from chaos.steps import OnNode, Place, Power

PLACE = Place(
    "vps-01",
    "vps-02",
    {
        "vps-01": ("198.51.100.10", "2001:db8:1::1"),
        "vps-02": ("198.51.100.11", "2001:db8:2::1"),
    },
    ("198.51.100.1", 8807),
)


def appended(fault: Fault) -> list[str]:
    """The rules that a fault appends to its chain."""
    scripts = [" ".join(step.argv) for step in fault.begin(PLACE) if isinstance(step, OnNode)]
    return [line for script in scripts for line in script.splitlines() if f"-A {CHAIN}" in line]


def test_the_same_seed_and_number_draw_the_same_round() -> None:
    def told(seed: int) -> list[tuple[str, bool, float]]:
        drawn = [draw(seed, number) for number in range(20)]
        return [(one.fault.name, one.to_primary, one.hold) for one in drawn]

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_every_fault_is_drawn_sooner_or_later_and_some_two_at_once() -> None:
    names = [draw(1, number).fault.name for number in range(500)]
    assert {one.name for one in FAULTS} <= set(names)
    assert 0 < sum(" + " in name for name in names) < 2 * TWO_AT_ONCE * len(names)


def test_a_fault_of_the_primary_is_never_drawn_for_the_standby() -> None:
    drawn = [draw(3, number) for number in range(500)]
    only = [one.to_primary for one in drawn if one.fault.target == "primary"]
    assert only
    assert all(only)


def test_each_fault_once_to_either_node() -> None:
    names = [(one.fault.name, one.to_primary) for one in every(1)]
    assert len(set(names)) == len(names)
    assert {name for name, _ in names} == {one.name for one in ALL}
    assert ("power off", False) in names
    assert ("standby far behind, then power off", False) not in names


def test_of_two_faults_the_one_that_stops_a_node_comes_last_and_ends_first() -> None:
    both = together(by_name("power off"), by_name("cut from the arbiter"), elsewhere=False)
    begin, end = both.begin(PLACE), both.end(PLACE)
    assert isinstance(begin[-1], Power)
    assert isinstance(end[0], Power)
    assert all(isinstance(step, OnNode) for step in [*begin[:-1], *end[1:]])


def test_the_second_of_two_faults_can_happen_to_the_other_node() -> None:
    both = together(by_name("power off"), by_name("kill -9 agent"), elsewhere=True)
    [killed, off] = both.begin(PLACE)
    assert isinstance(killed, OnNode)
    assert isinstance(off, Power)
    assert (killed.node, off.node) == ("vps-02", "vps-01")


def test_a_cut_from_the_peer_covers_both_families_and_both_ways() -> None:
    rules = appended(by_name("cut from the peer"))
    assert {(rule.split()[0], way) for rule in rules for way in ("-s", "-d") if way in rule} == {
        (program, way) for program in ("iptables", "ip6tables") for way in ("-s", "-d")
    }
    assert all("198.51.100.11" in rule or "2001:db8:2::1" in rule for rule in rules)


def test_a_one_way_cut_leaves_the_other_way_open() -> None:
    rules = appended(by_name("cut from the peer, one way"))
    assert rules
    assert all(" -s " in rule and " -d " not in rule for rule in rules)


@pytest.mark.parametrize("fault", ALL, ids=lambda one: one.name)
def test_whatever_a_fault_cuts_it_heals(fault: Fault) -> None:
    def touched(steps: object) -> set[str]:
        assert isinstance(steps, list | tuple)
        return {
            step.node for step in steps if isinstance(step, OnNode) and CHAIN in " ".join(step.argv)
        }

    assert touched(fault.begin(PLACE)) <= touched(fault.end(PLACE))


@pytest.mark.parametrize("fault", ALL, ids=lambda one: one.name)
def test_what_a_fault_prepares_it_puts_back(fault: Fault) -> None:
    assert bool(fault.prepare(PLACE)) == bool(fault.restore(PLACE))


def test_an_unknown_fault_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match="power off"):
        by_name("earthquake")
