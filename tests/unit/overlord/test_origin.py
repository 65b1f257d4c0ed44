"""Where the database of a new node comes from."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlord.facts.peer import Peer
from overlord.roles.origin import (
    PATIENCE,
    Clone,
    Init,
    Keep,
    OriginFacts,
    Restore,
    Stop,
    Wait,
    decide_origin,
)


def peer(primary: bool, data: bool, migrated: bool = True) -> Peer:
    return Peer("vps-02", "primary" if primary else "standby", primary, 1, data, migrated=migrated)


def facts(**changes: Any) -> OriginFacts:
    found = {
        "data": False,
        "role": "primary",
        "peer_name": "vps-02",
        "peer": None,
        "arbiter": "none",
        "waited": 0.0,
        "backup": "none",
    }
    return OriginFacts(**{**found, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data": True}, Keep),
        ({"data": True, "peer": peer(True, True)}, Keep),
        ({"peer": peer(True, True)}, Clone),
        ({"peer": peer(True, True), "role": "standby"}, Clone),
        # Its roles are not made yet: a copy would be refused.
        ({"peer": peer(True, True, migrated=False), "role": "standby"}, Wait),
        ({"peer": peer(False, True)}, Wait),
        ({"peer": peer(False, False)}, Init),
        ({"peer": peer(False, False), "role": "standby"}, Wait),
        ({"role": "standby"}, Wait),
        ({}, Wait),
        ({"arbiter": "empty"}, Init),
        ({"arbiter": "empty", "peer": peer(False, True)}, Wait),
        ({"arbiter": "known"}, Wait),
        ({"arbiter": "known", "peer": peer(False, False)}, Wait),
        ({"arbiter": "silent", "peer": peer(False, False)}, Wait),
        ({"arbiter": "silent", "peer": peer(True, True)}, Clone),
        ({"backup": "exists", "peer": peer(False, False)}, Restore),
        ({"backup": "exists", "peer": peer(False, False), "arbiter": "known"}, Restore),
        ({"backup": "exists", "peer": peer(True, True)}, Clone),
        ({"backup": "exists", "peer": peer(False, True)}, Wait),
        # The peer may have a newer database than the backup.
        ({"backup": "exists"}, Wait),
        ({"backup": "exists", "waited": PATIENCE}, Stop),
        ({"backup": "exists", "peer": peer(False, False), "role": "standby"}, Wait),
        # What cannot be read is not empty.
        ({"backup": "unclear", "peer": peer(False, False)}, Wait),
        ({"backup": "unclear", "arbiter": "empty"}, Wait),
        ({"backup": "unread", "arbiter": "empty", "peer": peer(False, False)}, Wait),
        ({"backup": "unclear", "peer": peer(False, False), "waited": PATIENCE}, Stop),
        ({"waited": PATIENCE}, Stop),
        ({"waited": PATIENCE, "role": "standby"}, Stop),
        ({"waited": PATIENCE, "peer": peer(True, True)}, Clone),
    ],
)
def test_a_database_is_kept_copied_made_or_waited_for(
    changes: dict[str, Any], expected: type
) -> None:
    assert type(decide_origin(facts(**changes))) is expected


any_facts = st.builds(
    OriginFacts,
    data=st.booleans(),
    role=st.sampled_from(["primary", "standby"]),
    peer_name=st.just("vps-02"),
    peer=st.none() | st.builds(peer, st.booleans(), st.booleans(), st.booleans()),
    arbiter=st.sampled_from(["none", "silent", "empty", "known"]),
    waited=st.floats(0, 2 * PATIENCE),
    backup=st.sampled_from(["unread", "unclear", "second", "none", "exists"]),
)


@given(any_facts)
def test_a_new_database_is_made_only_where_nobody_can_have_one(one: OriginFacts) -> None:
    if isinstance(decide_origin(one), Init):
        assert not one.data
        assert one.role == "primary"
        assert one.peer is None or not (one.peer.data or one.peer.primary)
        assert one.arbiter in ("none", "empty")
        assert one.peer is not None or one.arbiter == "empty"
        assert one.backup == "none"


@given(any_facts)
def test_a_backup_is_restored_only_where_no_node_has_the_database(one: OriginFacts) -> None:
    if isinstance(decide_origin(one), Restore):
        assert not one.data
        assert one.peer is not None
        assert not one.peer.data
        assert not one.peer.primary
        assert one.asks_for_backup


@given(any_facts)
def test_no_first_boot_waits_for_ever_and_every_end_has_a_remedy(one: OriginFacts) -> None:
    found = decide_origin(one)
    if one.waited >= PATIENCE:
        assert not isinstance(found, Wait)
    if isinstance(found, Stop):
        assert found.what
        assert found.remedy
