"""Who is primary, for any facts."""

from dataclasses import replace
from typing import Any

import pytest

from overlord.facts.database import Slot, Standby
from overlord.roles.decide import (
    PEER_GRACE,
    STANDBY_GRACE,
    STUCK_SECONDS,
    Copy,
    DropSlots,
    Fence,
    Follow,
    MakeSlot,
    Migrate,
    Promote,
    RecordMode,
    RoleAction,
    SetSynchronous,
    decide,
)
from overlord.roles.facts import Memory, RoleFacts, remember
from tests.unit.overlord.role_fakes import primary, primary_database, standby, standby_database


def with_database(facts: RoleFacts, **changes: Any) -> RoleFacts:
    assert facts.database is not None
    return replace(facts, database=replace(facts.database, **changes))


def with_peer(facts: RoleFacts, **changes: Any) -> RoleFacts:
    assert facts.peer is not None
    return replace(facts, peer=replace(facts.peer, **changes))


def restarted() -> RoleFacts:
    """The primary's server after a restart: in recovery."""
    return replace(primary(), database=replace(standby_database(), conninfo=""))


def test_a_pair_at_rest_does_nothing() -> None:
    for facts in (primary(), standby()):
        assert decide(facts).actions == ()
    assert (decide(primary()).state, decide(primary()).writes) == ("primary", True)
    assert (decide(standby()).state, decide(standby()).writes) == ("standby", False)


@pytest.mark.parametrize(
    ("facts", "actions"),
    [
        # Without an arbiter the configured primary is primary.
        (restarted(), (Promote("vps-02"),)),
        (replace(restarted(), mode="async"), (RecordMode("async"), Promote(""))),
        (replace(restarted(), configured="standby", peer=None), ()),
        (replace(restarted(), configured="standby", role="primary"), (Promote("vps-02"),)),
        # It may have been replaced while it was away, so it asks its peer first.
        (replace(restarted(), peer=None, peer_asked=False, now=PEER_GRACE - 1), ()),
        (replace(restarted(), peer=None, peer_asked=False, now=PEER_GRACE), (Promote("vps-02"),)),
        (with_peer(restarted(), primary=True, epoch=4), (Follow("vps-02"),)),
        (with_peer(primary(), primary=True, epoch=4), (Fence("no right to take writes"),)),
        (with_peer(primary(), primary=True, epoch=2), ()),
        (replace(primary(), role="standby"), (Fence("no right to take writes"),)),
        # What the primary keeps for its standby.
        (with_database(primary(), slots=()), (MakeSlot("vps-02"),)),
        (
            with_database(primary(), slots=(Slot("vps_02", lost=True),)),
            (DropSlots(("vps_02",)),),
        ),
        (with_database(standby(), slots=(Slot("vps_02"),)), (DropSlots(("vps_02",)),)),
        # Schema and passwords.
        (with_database(primary(), mark="older"), (Migrate(),)),
        # Whom the standby follows.
        (with_database(standby(), conninfo=""), (Follow("vps-02"),)),
        (with_database(standby(), conninfo="host=vps-09 port=5432"), (Follow("vps-02"),)),
        (
            with_database(standby(), timeline=2, lsn=250, history=((1, 100),)),
            (Copy("vps-02", "the history here parts from that of vps-02", 50),),
        ),
        (with_database(standby(), system="8"), ()),
    ],
)
def test_each_situation_has_its_actions(facts: RoleFacts, actions: tuple[RoleAction, ...]) -> None:
    assert decide(facts).actions == actions


def asynchronous(flushed: int | None = 1000, state: str = "streaming") -> RoleFacts:
    follower = Standby("vps-02", state, "async", flushed)
    facts = with_database(primary(), synchronous="", standbys=(follower,))
    return replace(facts, mode="async", memory=Memory())


def test_replication_becomes_synchronous_first_and_is_recorded_so_afterwards() -> None:
    facts = asynchronous()
    assert decide(facts).actions == (SetSynchronous("vps-02"),)
    # In force, but the standby has not confirmed all that was written until then.
    now = remember(with_database(facts, synchronous='"vps-02"', lsn=2000))
    assert decide(now).actions == ()
    confirmed = Standby("vps-02", "streaming", "sync", 1999)
    assert decide(with_database(now, standbys=(confirmed,))).actions == ()
    complete = with_database(now, standbys=(replace(confirmed, flushed=2000),))
    assert decide(complete).actions == (RecordMode("sync"),)


@pytest.mark.parametrize("facts", [asynchronous(None), asynchronous(1000, "catchup")])
def test_a_standby_that_has_not_caught_up_holds_no_write_back(facts: RoleFacts) -> None:
    assert decide(facts).actions == ()


def test_a_standby_that_is_far_behind_holds_no_write_back() -> None:
    assert decide(with_database(asynchronous(), lsn=10**9)).actions == ()


def test_a_lost_standby_is_recorded_before_writes_go_on_without_it() -> None:
    lost = remember(with_database(primary(), standbys=()))
    assert decide(lost).actions == ()
    later = remember(replace(lost, now=lost.now + STANDBY_GRACE))
    assert decide(later).actions == (RecordMode("async"), SetSynchronous(""))


def test_what_is_recorded_as_synchronous_is_made_so() -> None:
    assert decide(replace(asynchronous(), mode="sync")).actions == (SetSynchronous("vps-02"),)


def test_before_its_first_schema_a_primary_takes_no_writes() -> None:
    decision = decide(with_database(primary(), mark=None))
    assert (decision.state, decision.writes) == ("primary", False)
    assert decision.actions == (Migrate(),)


def test_a_standby_that_cannot_stream_is_copied_anew_after_a_while() -> None:
    stuck = remember(with_database(standby(), receiving=False))
    assert decide(stuck).actions == ()
    assert decide(stuck).state == "catching up"
    later = remember(replace(stuck, now=stuck.now + STUCK_SECONDS))
    [action] = decide(later).actions
    assert isinstance(action, Copy)


def test_a_database_of_another_origin_is_not_touched_and_the_reason_says_so() -> None:
    decision = decide(with_database(standby(), system="8"))
    assert decision.state == "unknown"
    assert "not a copy" in decision.reason


def test_while_the_database_is_copied_nothing_else_is_done() -> None:
    decision = decide(replace(standby(), busy="copying", database=None))
    assert (decision.state, decision.actions) == ("catching up", ())


def test_a_silent_server_is_no_primary() -> None:
    decision = decide(replace(primary(), database=None))
    assert (decision.state, decision.writes) == ("unknown", False)
    assert primary_database().mark == "mark"
