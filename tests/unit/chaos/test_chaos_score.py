"""What a round cost, told from times alone."""

from __future__ import annotations

import pytest

from chaos.score import (
    Acknowledgement,
    Claim,
    Outage,
    Parts,
    Score,
    outage,
    parts,
    stale_writes,
    two_primaries,
)


def acks(*times: float, epoch: int | None = None) -> list[Acknowledgement]:
    return [Acknowledgement(sent=time - 0.05, at=time, epoch=epoch) for time in times]


def claims(node: str, start: float, end: float, every: float = 0.2) -> list[Claim]:
    count = round((end - start) / every)
    return [
        Claim(node, start + number * every, start + number * every + 0.01)
        for number in range(count)
    ]


def test_the_outage_is_the_longest_gap_that_ends_after_the_fault() -> None:
    gap = outage(acks(1.0, 1.5, 2.0, 9.0, 9.5, 12.0), fault_at=2.2)
    assert (gap.began, gap.ended) == (2.0, 9.0)


def test_a_gap_before_the_fault_is_not_its_outage() -> None:
    gap = outage(acks(1.0, 20.0, 20.5, 21.0), fault_at=20.2)
    assert gap.seconds == pytest.approx(0.5)


def test_a_fault_without_anything_acknowledged_after_it_has_no_outage_to_tell() -> None:
    with pytest.raises(ValueError, match="nothing was acknowledged"):
        outage(acks(1.0, 2.0), fault_at=3.0)


def takeover() -> Outage:
    seen = claims("vps-01", 0.0, 10.0) + claims("vps-02", 22.0, 40.0)
    return outage(acks(9.0, 10.0, 25.0, 26.0), fault_at=10.1, claims=seen)


def test_an_outage_is_split_at_the_lease_the_next_node_that_leads_and_the_name() -> None:
    split = parts(takeover(), granted=20.0, led=23.0)
    assert split is not None
    assert split.detection == pytest.approx(10.0)
    assert split.promotion == pytest.approx(2.01)
    assert split.steering == pytest.approx(0.99)
    assert split.client == pytest.approx(2.0)


def test_a_name_that_moved_before_the_promotion_cost_nothing() -> None:
    split = parts(takeover(), granted=20.0, led=20.3)
    assert split is not None
    assert split.steering == 0
    assert split.client == pytest.approx(2.99)


def test_where_nobody_waited_for_the_name_it_has_no_part() -> None:
    split = parts(takeover(), granted=20.0, led=None)
    assert split is not None
    assert split.steering is None
    assert split.client == pytest.approx(2.99)


def test_an_outage_without_a_new_lease_has_no_such_parts() -> None:
    assert parts(takeover(), granted=None, led=None) is None


def test_an_outage_under_the_same_leader_waited_for_nobody() -> None:
    gap = outage(acks(9.0, 10.0, 14.0), fault_at=10.1, claims=claims("vps-01", 0.0, 20.0))
    assert gap.claimed is not None
    assert gap.claimed - gap.began < 0.3


def test_a_handover_has_no_two_primaries() -> None:
    assert two_primaries(claims("vps-01", 0, 10) + claims("vps-02", 10.5, 20)) == 0


def test_two_nodes_that_lead_at_once_are_seen() -> None:
    seen = claims("vps-01", 0, 10) + claims("vps-02", 8.05, 20)
    assert two_primaries(seen) > 0


def test_a_slow_answer_proves_no_second_primary() -> None:
    # Asked before the handover, answered after it: true when it was said.
    slow = Claim("vps-01", 9.9, 11.5)
    assert two_primaries([*claims("vps-01", 0, 9.8), slow, *claims("vps-02", 10.5, 20)]) == 0


def test_a_node_that_leads_again_later_is_no_second_primary() -> None:
    seen = claims("vps-01", 0, 5) + claims("vps-02", 6, 10) + claims("vps-01", 11, 15)
    assert two_primaries(seen) == 0


def test_a_write_under_an_epoch_that_had_ended_is_stale() -> None:
    newer = acks(10.0, epoch=2)
    late = [Acknowledgement(sent=10.5, at=10.6, epoch=1)]
    assert stale_writes([*acks(9.0, epoch=1), *newer, *late]) == 1


def test_a_write_that_was_on_its_way_when_the_epoch_changed_is_not_stale() -> None:
    on_its_way = [Acknowledgement(sent=9.5, at=10.6, epoch=1)]
    assert stale_writes([*acks(10.0, epoch=2), *on_its_way]) == 0


def score(**fields: object) -> Score:
    fine: dict[str, object] = {
        "seed": 7, "number": 1, "fault": "power off", "node": "primary", "hold": 20.0,
        "outage": 12.0, "parts": Parts(9.0, 1.0, None, 2.0), "acknowledged": 100, "lost": 0,
        "doubled": 0, "stale": 0, "two_primaries": 0.0, "converged": 30.0, "load": 1.0,
    }  # fmt: skip
    return Score(**{**fine, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"lost": 1},
        {"lost": None},
        {"doubled": 1},
        {"stale": 1},
        {"two_primaries": 0.01},
        {"converged": None},
        {"outage": None},
    ],
)
def test_a_round_with_any_harm_is_not_good(fields: dict[str, object]) -> None:
    assert score().good
    assert not score(**fields).good


@pytest.mark.parametrize("fields", [{}, {"parts": None}, {"outage": None, "lost": None}])
def test_a_score_is_read_as_it_was_written(fields: dict[str, object]) -> None:
    assert Score.of(score(**fields).line()) == score(**fields)
