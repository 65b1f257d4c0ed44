"""A pair at rest: facts of a primary and of its standby."""

from dataclasses import replace

from overlord.facts.database import Database, Slot, Standby
from overlord.facts.peer import Peer
from overlord.roles.facts import Lease, Memory, RoleFacts

SYSTEM = "7"
HISTORY = ((1, 100), (2, 200))


def primary_database() -> Database:
    return Database(
        in_recovery=False,
        system=SYSTEM,
        timeline=3,
        lsn=1000,
        synchronous='"vps-02"',
        standbys=(Standby("vps-02", "streaming", "sync", 1000, 500.0),),
        slots=(Slot("vps_02", active=True),),
        mark="mark",
        history=HISTORY,
    )


def standby_database() -> Database:
    return Database(
        in_recovery=True,
        system=SYSTEM,
        timeline=3,
        lsn=1000,
        replayed=1000,
        receiving=True,
        conninfo="host=vps-02 port=5432",
        mark="mark",
        history=HISTORY,
    )


def primary() -> RoleFacts:
    """vps-01, primary by configuration, with vps-02 in sync."""
    return RoleFacts(
        now=1000.0,
        started=0.0,
        node="vps-01",
        peer_name="vps-02",
        configured="primary",
        arbiter=False,
        lease=Lease(),
        role=None,
        epoch=3,
        mode="sync",
        forced=False,
        maintenance=False,
        database=primary_database(),
        data=True,
        peer=Peer("vps-02", "standby", False, 3, True, SYSTEM, 3, 1000, HISTORY, True),
        peer_asked=True,
        busy=None,
        wanted_mark="mark",
        memory=Memory(synchronous_from=900),
    )


def standby() -> RoleFacts:
    """vps-01 as a standby of vps-02."""
    return replace(
        primary(),
        configured="standby",
        mode="async",
        database=standby_database(),
        peer=Peer("vps-02", "primary", True, 3, True, SYSTEM, 3, 1000, HISTORY, True),
        memory=Memory(),
    )
