"""Two repositories for the database's backups, each at a service of its own: what the loss of one
means for the archive, for a backup and for a restore."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlord.backup.examination import faults, parse_found
from overlord.backup.manager import Manager
from overlord.backup.managers import in_turn, of_each
from overlord.backup.repository import (
    Repository,
    segment_number,
    segment_of_lsn,
)
from overlord.backup.source import Look, Source, backups_word, choose, look_at, read_repository
from overlord.commands.backup import BackupTool
from overlord.commands.compose import Compose
from overlord.errors import OverlordError
from overlord.paths import Paths
from tests.support.backup_site import DATA, TOOL, Site, SiteRunner, objects, site
from tests.support.emptied import empty_bucket

REPOSITORY = "/etc/overlord/postgres/pgbackrest-repository"
ONE = BackupTool(Compose(Path("/compose.yaml"), Path("/compose.env")))
TOOLS = ONE.of_each(2)
KEYS = {1: "b2_key", 2: "second_b2_key"}
ROWS = 600
pytestmark = pytest.mark.timeout(300)


def alone(here: Site, number: int, *args: str) -> str:
    return here.run(REPOSITORY, str(number), TOOL, *args)


def repository(here: Site, number: int) -> Repository:
    """Raises OverlordError where it cannot be read."""
    return read_repository(SiteRunner(here), TOOLS[number - 1])


def looks(here: Site) -> list[Look]:
    return look_at(SiteRunner(here), TOOLS)


def source(here: Site) -> Source:
    chosen = choose(looks(here), None)
    assert chosen is not None
    return chosen


def examine(here: Site, number: int) -> tuple[str, ...]:
    """What the nightly restore test says of one repository."""
    before = repository(here, number)
    here.run("rm", "-rf", f"{DATA}/restore-test")
    output = alone(here, number, "examine", f"{DATA}/restore-test")
    return faults(parse_found(output), before, {})


def segment(here: Site) -> str:
    """Close the piece of the log that is written now; returns its name."""
    here.sql("CREATE TABLE IF NOT EXISTS beat (at timestamptz)")
    here.sql("INSERT INTO beat VALUES (now())")
    name = here.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
    here.sql("SELECT pg_switch_wal()")
    return name


def waiting(here: Site) -> int:
    query = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
    return int(here.sql(query))


def until_waiting(here: Site, most: int) -> None:
    deadline = time.monotonic() + 150
    while waiting(here) > most:
        assert time.monotonic() < deadline, here.run("tail", "-n", "30", f"{DATA}/log")
        time.sleep(0.2)


def until_archived(here: Site, number: int, name: str) -> None:
    deadline = time.monotonic() + 150
    while repository(here, number).last_segment < name:
        assert time.monotonic() < deadline, here.run("tail", "-n", "30", f"{DATA}/log")
        time.sleep(0.2)


@contextmanager
def refused(here: Site, number: int) -> Iterator[None]:
    """Meanwhile the service of a repository does not take the node's key."""
    file = here.data.parent / "secrets" / KEYS[number]
    key = file.read_text()
    file.write_text("wrong")
    try:
        with pytest.raises(OverlordError, match="cannot be read"):
            repository(here, number)
        yield
    finally:
        file.write_text(key)


@pytest.fixture
def pair() -> Iterator[Site]:
    """A full backup in each repository, and rows that are in the log alone."""
    with site(second=True) as here:
        alone(here, 2, "stanza-create")
        here.sql("CREATE TABLE devices AS SELECT g AS id FROM generate_series(1, 500) g")
        for number in KEYS:
            alone(here, number, "mark", f"{number:02}")
            alone(here, number, "--type=full", "backup")
        here.sql(f"INSERT INTO devices SELECT g FROM generate_series(501, {ROWS}) g")
        segment(here)
        until_waiting(here, 0)
        yield here


def lose_the_database(here: Site) -> None:
    here.stop()
    here.run("rm", "-rf", f"{DATA}/pgdata")


def empty(here: Site) -> None:
    """Take all there is out of the first bucket for good."""
    empty_bucket(here.cloud.s3(), here.bucket)
    assert objects(here, "") == []


def restore(here: Site, which: str) -> None:
    """As the first boot does it, and then the database takes writes."""
    pgdata = ("env", f"PGDATA={DATA}/pgdata")
    here.run(*pgdata, REPOSITORY, which, "database-tool", "restore")
    here.run("rm", f"{DATA}/pgdata/standby.signal")
    here.start()
    assert here.sql("SELECT count(*) FROM devices") == str(ROWS)


def test_the_timer_fills_a_second_repository_that_is_new_and_the_restore_test_proves_both(
    tmp_path: Path,
) -> None:
    with site(second=True) as here:
        here.sql("CREATE TABLE devices AS SELECT g AS id FROM generate_series(1, 500) g")
        managers = of_each(Manager(Paths(tmp_path), SiteRunner(here), ONE, lambda: True), 2)
        assert not repository(here, 2).has_stanza
        assert in_turn(managers, Manager.tend) == ["full", "full"]
        assert in_turn(managers, Manager.tend) == [None, None]
        said = r"repository 1: .* refuses the node's key"
        with refused(here, 1), pytest.raises(OverlordError, match=said):
            in_turn(managers, lambda manager: manager.back_up("diff"))
        assert [len(repository(here, number).backups) for number in KEYS] == [1, 2]
        assert [test.faults for test in in_turn(managers, Manager.verify)] == [(), ()]


def test_backups_and_the_log_are_in_both_and_each_repository_restores_alone(pair: Site) -> None:
    first, second = (repository(pair, number) for number in KEYS)
    assert [len(one.backups) for one in (first, second)] == [1, 1]
    assert first.backups != second.backups
    assert first.last_segment == second.last_segment
    assert first.system == second.system
    for number in KEYS:
        assert examine(pair, number) == (), f"repository {number}"


def test_a_lost_database_comes_back_from_the_second_where_the_first_bucket_is_empty(
    pair: Site,
) -> None:
    lose_the_database(pair)
    empty(pair)
    assert backups_word(looks(pair)) == "exists"
    chosen = source(pair)
    assert (chosen.number, chosen.which) == (2, "2")
    restore(pair, chosen.which)
    # The first repository is made anew and has backups again, as the timer does it.
    alone(pair, 1, "stanza-create")
    segment(pair)
    until_waiting(pair, 0)
    alone(pair, 1, "mark", "03")
    alone(pair, 1, "--type=full", "backup")
    assert examine(pair, 1) == ()


def test_a_lost_database_comes_back_from_the_second_where_the_first_refuses_the_key(
    pair: Site,
) -> None:
    lose_the_database(pair)
    with refused(pair, 1):
        # A first boot does not decide this; `overlordctl restore` does.
        assert backups_word(looks(pair)) == "second"
        chosen = source(pair)
        assert (chosen.number, chosen.which) == (2, "2")
        restore(pair, chosen.which)


def test_a_lost_database_comes_back_from_the_first_where_the_second_is_away(pair: Site) -> None:
    lose_the_database(pair)
    with refused(pair, 2):
        assert backups_word(looks(pair)) == "exists"
        chosen = source(pair)
        assert (chosen.number, chosen.which) == (1, "1")
        restore(pair, chosen.which)


@pytest.mark.parametrize("away", list(KEYS))
def test_a_repository_that_is_away_holds_neither_the_log_nor_a_backup_of_the_other_up(
    pair: Site, away: int
) -> None:
    other = 3 - away
    with refused(pair, away):
        names = [segment(pair) for _ in range(3)]
        until_archived(pair, other, names[-1])
        # The log waits for the one that is away.
        assert waiting(pair) >= len(names)
        alone(pair, other, "--type=diff", "backup")
        assert examine(pair, other) == ()
    last = segment(pair)
    until_waiting(pair, 0)
    assert repository(pair, away).last_segment >= last
    assert examine(pair, away) == ()


@pytest.mark.parametrize("away", list(KEYS))
def test_a_repository_that_stays_away_does_not_fill_the_disk_and_its_next_backup_closes_the_gap(
    pair: Site, away: int
) -> None:
    other, most = 3 - away, 2
    pair.stop()
    pair.start("pgdata", f"OVERLORD_ARCHIVE_WAITING={most}")
    with refused(pair, away):
        names = [segment(pair) for _ in range(most + 3)]
        until_archived(pair, other, names[-1])
        until_waiting(pair, most)
        assert waiting(pair) > 0
    segment(pair)
    until_waiting(pair, 0)
    assert examine(pair, other) == ()
    assert any("is missing or damaged" in fault for fault in examine(pair, away))
    # With both, one fills the gap of the other.
    newest = segment_number(repository(pair, other).last_segment)
    report = parse_found(
        f"{pair.run(REPOSITORY, 'both', TOOL, 'recover', f'{DATA}/copy')}{{}}\nnull"
    )
    assert segment_of_lsn(report.replayed_lsn) >= newest
    alone(pair, away, "mark", "04")
    alone(pair, away, "--type=diff", "backup")
    assert examine(pair, away) == ()


def test_where_both_are_away_every_piece_of_the_log_waits(pair: Site) -> None:
    pair.stop()
    pair.start("pgdata", "OVERLORD_ARCHIVE_WAITING=0")
    with refused(pair, 1), refused(pair, 2):
        names = [segment(pair) for _ in range(3)]
        failed = "SELECT failed_count >= 3 FROM pg_stat_archiver"
        deadline = time.monotonic() + 150
        while pair.sql(failed) != "t":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert waiting(pair) >= len(names)
        # As long as none may wait, a piece is let go once the first of them is back and has it.
        pair.stop()
        pair.start()
        assert waiting(pair) >= len(names)
    segment(pair)
    until_waiting(pair, 0)
    for number in KEYS:
        assert examine(pair, number) == (), f"repository {number}"
