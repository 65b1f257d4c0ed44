"""Faults as data: what would be done, without a world to do it to."""

from __future__ import annotations

import pytest

from chaos.faults import CHAIN, FAULTS, Fault, OnNode, Place, by_name, draw

PLACE = Place(
    "vps-01",
    "vps-02",
    {
        "vps-01": ("198.51.100.10", "2001:db8:1::1"),
        "vps-02": ("198.51.100.11", "2001:db8:2::1"),
    },
    ("198.51.100.1", 8807),
)


def rules(fault: Fault) -> list[tuple[str, ...]]:
    return [step.argv for step in fault.begin(PLACE) if isinstance(step, OnNode)]


def test_the_same_seed_and_number_draw_the_same_round() -> None:
    assert [draw(7, number) for number in range(20)] == [draw(7, number) for number in range(20)]
    assert [draw(7, number) for number in range(20)] != [draw(8, number) for number in range(20)]


def test_every_fault_is_drawn_sooner_or_later() -> None:
    assert {draw(1, number).fault.name for number in range(500)} == {one.name for one in FAULTS}


def test_a_cut_from_the_peer_covers_both_families_and_both_ways() -> None:
    appended = [argv for argv in rules(by_name("cut from the peer")) if "-A" in argv]
    assert {(argv[0], argv[4]) for argv in appended} == {
        (program, way) for program in ("iptables", "ip6tables") for way in ("-s", "-d")
    }
    assert all("198.51.100.11" in argv or "2001:db8:2::1" in argv for argv in appended)


def test_a_one_way_cut_leaves_the_other_way_open() -> None:
    appended = [argv for argv in rules(by_name("cut from the peer, one way")) if "-A" in argv]
    assert appended
    assert all("-s" in argv and "-d" not in argv for argv in appended)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.name)
def test_whatever_a_fault_cuts_it_heals(fault: Fault) -> None:
    cut = {s.node for s in fault.begin(PLACE) if isinstance(s, OnNode) and CHAIN in s.argv}
    healed = {
        s.node for s in fault.end(PLACE) if isinstance(s, OnNode) and CHAIN in " ".join(s.argv)
    }
    assert cut <= healed


def test_an_unknown_fault_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match="power off"):
        by_name("earthquake")
