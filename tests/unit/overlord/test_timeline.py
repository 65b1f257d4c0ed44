"""When a copy of the database can follow another one, and what it alone has when it cannot."""

import pytest

from overlord.facts.database import Database, parse_history
from overlord.roles.timeline import ahead_of

History = tuple[tuple[int, int], ...]


def own(timeline: int, lsn: int, history: History = ()) -> Database:
    return Database(in_recovery=True, system="7", timeline=timeline, lsn=lsn, history=history)


@pytest.mark.parametrize(
    ("mine", "timeline", "history", "ahead"),
    [
        (own(1, 500), 1, (), 0),
        (own(1, 500), 2, ((1, 500),), 0),
        (own(1, 400), 2, ((1, 500),), 0),
        (own(1, 650), 2, ((1, 500),), 150),
        (own(2, 700, ((1, 500),)), 3, ((1, 500), (2, 700)), 0),
        (own(2, 701, ((1, 500),)), 3, ((1, 500), (2, 700)), 1),
        # Both were promoted on their own and took the same number.
        (own(2, 900, ((1, 500),)), 2, ((1, 400),), 500),
        (own(2, 900, ((1, 400),)), 2, ((1, 500),), 500),
        # This one went on to a timeline that the other one never saw.
        (own(2, 900, ((1, 500),)), 1, (), 400),
        (own(3, 900, ((1, 500),)), 2, ((1, 500),), 400),
        (own(4, 900, ((2, 500),)), 3, ((1, 500),), None),
        # A history file that is not there (yet) is no reason to give a copy up.
        (own(3, 900), 3, ((1, 500), (2, 700)), 0),
        (own(2, 900, ((1, 500),)), 3, (), 0),
    ],
)
def test_a_copy_follows_only_where_it_ends_on_the_others_way(
    mine: Database, timeline: int, history: History, ahead: int | None
) -> None:
    assert ahead_of(mine, timeline, history) == ahead


def test_a_history_file_is_read_as_postgresql_writes_it() -> None:
    text = "1\t0/3000148\tno recovery target specified\n\n2\t1/A0\tbefore 2026-01-01\n"
    assert parse_history(text) == ((1, 0x3000148), (2, (1 << 32) + 0xA0))
