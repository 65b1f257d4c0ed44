"""Who is primary, for any facts."""

from dataclasses import replace
from typing import Any

import pytest

from overlord.facts.database import Slot, Standby
from overlord.facts.peer import Peer
from overlord.roles.decide import (
    DATABASE_GRACE,
    FULL_BYTES,
    PEER_GRACE,
    ROOM_BYTES,
    STANDBY_GRACE,
    STUCK_SECONDS,
    Copy,
    DropSlots,
    Fence,
    Follow,
    GiveUp,
    HandOver,
    MakeSlot,
    Migrate,
    Promote,
    RecordMode,
    RoleAction,
    SetSynchronous,
    decide,
    promote_obstacle,
    switchover_obstacle,
)
from overlord.roles.facts import Lease, Memory, RoleFacts, remember
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
        (replace(restarted(), mode="async"), (Promote(""),)),
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
        (with_database(standby(), slots=(Slot("vps_02", active=True),)), ()),
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


def word(facts: RoleFacts, when: float) -> RoleFacts:
    """The standby has sent word, at that moment by its own clock."""
    assert facts.database is not None
    [one] = facts.database.standbys
    return with_database(facts, standbys=(replace(one, replied=when),))


def after(facts: RoleFacts, seconds: float) -> RoleFacts:
    """The same so much later, looked at each second."""
    facts = remember(facts)
    for _ in range(int(seconds)):
        facts = remember(replace(facts, now=facts.now + 1))
    return facts


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
    lost = with_database(primary(), standbys=())
    assert decide(after(lost, STANDBY_GRACE - 1)).actions == ()
    assert decide(after(lost, STANDBY_GRACE)).actions == (RecordMode("async"), SetSynchronous(""))


def test_a_standby_that_says_nothing_is_lost_long_before_its_connection_is_given_up() -> None:
    assert decide(after(primary(), STANDBY_GRACE - 1)).actions == ()
    silent = after(primary(), STANDBY_GRACE)
    assert decide(silent).actions == (RecordMode("async"), SetSynchronous(""))
    # Nothing waits for it again before it has spoken.
    alone = replace(with_database(silent, synchronous=""), mode="async")
    assert decide(after(alone, 1)).actions == ()
    assert decide(remember(word(alone, 501.0))).actions == (SetSynchronous("vps-02"),)


def test_a_standby_that_speaks_is_not_lost() -> None:
    facts = primary()
    for second in range(20):
        facts = after(word(facts, 500.0 + second), 1)
        assert decide(facts).actions == ()


def test_a_node_that_slept_does_not_take_its_sleep_for_silence() -> None:
    facts = after(primary(), 1)
    woken = remember(replace(facts, now=facts.now + 100))
    assert decide(woken).actions == ()


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


# With an arbiter


def leased(facts: RoleFacts, **changes: Any) -> RoleFacts:
    """The same with an arbiter, and its lease for ten more seconds."""
    lease = Lease(
        epoch=4, until=facts.now + 10, replication="sync", cluster="7", answered=facts.now, seen=4
    )
    return replace(facts, arbiter=True, lease=replace(lease, **changes))


GONE = {"until": 0.0}


@pytest.mark.parametrize(
    ("facts", "state", "actions"),
    [
        (leased(primary()), "primary", ()),
        (leased(primary(), **GONE), "fenced", (Fence("no right to take writes"),)),
        (leased(primary(), until=0.0, pledge_until=1001.0), "primary", ()),
        (leased(restarted()), "catching up", (Promote("vps-02"),)),
        (leased(restarted(), replication="async"), "catching up", (Promote(""),)),
        (
            leased(restarted(), cluster=None, replication="async"),
            "catching up",
            (RecordMode("async"), Promote("")),
        ),
        (leased(restarted(), cluster="8"), "unknown", ()),
        (leased(restarted(), **GONE), "standby", ()),
        # The configured role counts for nothing where an arbiter decides.
        (leased(replace(restarted(), configured="standby")), "catching up", (Promote("vps-02"),)),
        (leased(replace(restarted(), forced=True), **GONE), "catching up", (Promote(""),)),
        (
            leased(replace(primary(), forced=True), other_holds=True, **GONE),
            "fenced",
            (Fence("no right to take writes"),),
        ),
        (leased(replace(primary(), handing_over=True)), "fenced", ()),
    ],
)
def test_with_an_arbiter_the_lease_decides(
    facts: RoleFacts, state: str, actions: tuple[RoleAction, ...]
) -> None:
    decision = decide(facts)
    assert (decision.state, decision.actions) == (state, actions)


def test_a_pledge_prolongs_a_lease_before_that_ends() -> None:
    right = decide(leased(primary(), pledge_until=1020.0)).right
    assert right is not None
    assert (right.source, right.until) == ("lease", 1020.0)


@pytest.mark.parametrize(
    ("facts", "wants"),
    [
        (leased(standby(), **GONE), True),
        (leased(standby(), until=0.0, cluster="8"), False),
        (leased(replace(standby(), epoch=0), until=0.0, cluster=None), False),
        (leased(standby(), until=0.0, cluster=None), True),
        (
            leased(
                replace(standby(), epoch=0, configured="primary"),
                until=0.0,
                cluster=None,
            ),
            True,
        ),
        (leased(replace(standby(), maintenance=True), **GONE), False),
        (leased(replace(standby(), pledged_until=1001.0), **GONE), False),
        (leased(replace(standby(), busy="copying"), **GONE), False),
        (leased(replace(standby(), database=None), **GONE), False),
        (leased(with_peer(standby(), epoch=5), **GONE), False),
        (leased(replace(primary(), handing_over=True)), True),
    ],
)
def test_a_node_wants_the_lease_only_while_it_could_use_it(facts: RoleFacts, wants: bool) -> None:
    assert decide(facts).wants_lease is wants


def test_a_primary_without_its_server_keeps_the_lease_for_a_while_and_then_gives_it_away() -> None:
    silent = remember(leased(replace(primary(), database=None)))
    assert (decide(silent).wants_lease, decide(silent).actions) == (True, ())
    later = replace(silent, now=silent.now + DATABASE_GRACE)
    later = leased(later)
    assert decide(later).wants_lease is False
    assert decide(later).actions == (GiveUp("PostgreSQL does not answer"),)


def with_room(own: int | None, peers: int | None) -> RoleFacts:
    facts = primary()
    assert facts.peer is not None
    return replace(facts, room=own, peer=replace(facts.peer, room=peers))


def test_a_primary_whose_disk_is_full_hands_over_while_it_still_takes_writes() -> None:
    decision = decide(with_room(FULL_BYTES - 1, ROOM_BYTES))
    assert decision.actions == (HandOver("the disk is full, and the other node's is not"),)
    assert decision.writes


@pytest.mark.parametrize(
    ("own", "peers"),
    [(FULL_BYTES, ROOM_BYTES), (0, ROOM_BYTES - 1), (0, None), (None, ROOM_BYTES)],
)
def test_a_role_stays_where_there_is_room_or_none_elsewhere(
    own: int | None, peers: int | None
) -> None:
    assert decide(with_room(own, peers)).actions == ()


def test_a_full_disk_is_no_reason_to_hand_over_to_a_standby_that_may_lack_writes() -> None:
    full = with_room(0, ROOM_BYTES)
    behind = remember(with_database(full, synchronous="", standbys=()))
    assert not any(isinstance(one, HandOver) for one in decide(behind).actions)


def in_maintenance() -> Peer:
    peer = primary().peer
    assert peer is not None
    return replace(peer, maintenance=True)


def test_a_server_that_an_operator_promoted_waits_for_nobody() -> None:
    lost = remember(with_database(primary(), synchronous="", standbys=()))
    forced = leased(replace(lost, forced=True), **GONE)
    assert decide(forced).actions == ()
    assert decide(forced).writes


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (standby(), "run it on the primary"),
        (replace(primary(), peer=None), "does not answer"),
        (replace(primary(), peer=in_maintenance()), "in maintenance"),
        (with_database(primary(), standbys=()), "does not stream"),
        (asynchronous(), "not synchronous"),
        (leased(primary(), until=0.0, pledge_until=1001.0), "arbiter does not answer"),
        (leased(primary()), None),
        (primary(), None),
    ],
)
def test_a_switchover_that_would_lose_or_wait_is_refused(
    facts: RoleFacts, word: str | None
) -> None:
    obstacle = switchover_obstacle(facts, decide(facts))
    assert obstacle is None if word is None else word in (obstacle or "")


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (primary(), "already"),
        (standby(), "use switchover"),
        (leased(replace(standby(), peer=None), **GONE), "the arbiter answers"),
        (leased(replace(standby(), peer=None), until=0.0, answered=0.0), None),
        (replace(standby(), peer=None), None),
    ],
)
def test_promotion_by_hand_is_refused_while_somebody_else_decides(
    facts: RoleFacts, word: str | None
) -> None:
    obstacle = promote_obstacle(facts, decide(facts))
    assert obstacle is None if word is None else word in (obstacle or "")
