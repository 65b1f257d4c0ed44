"""Two repositories: each gets its backups; the loss of one is seen and does not stop the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import click.testing
import pytest
from click.testing import CliRunner

from overlord.backup.cli import backup
from overlord.backup.manager import Manager
from overlord.backup.managers import in_turn, of_each
from overlord.backup.repository import Repository, parse_info
from overlord.backup.restore import Restore
from overlord.backup.source import Look, backups_word, choose
from overlord.backup.state import forget_second, read_lock, read_watch
from overlord.commands.backup import TOOL
from overlord.errors import OverlordError
from overlord.firstboot import data
from overlord.firstboot.context import Context
from overlord.node import BackupTerms, BundleStore, read_backup_terms
from overlord.runner import Result
from tests.unit.overlord.fakes import FakeRunner
from tests.unit.overlord.test_backup import Desk, info
from tests.unit.overlord.test_database_step import EMPTY, context

UNREAD = OverlordError("the backup repository cannot be read: 403", "check the key")
FULL = parse_info(info())
NONE = Repository(backups=(), has_stanza=True)
BARE = Repository(backups=(), has_stanza=False)
AWAY = Result(1, "", "no route to host")


def looks(*found: Repository | None) -> list[Look]:
    return [Look(number, one, None if one else UNREAD) for number, one in enumerate(found, 1)]


@pytest.mark.parametrize(
    ("found", "number", "which"),
    [
        ((FULL,), 1, ""),
        ((FULL, FULL), 1, "both"),
        ((NONE, FULL), 2, "both"),
        ((FULL, NONE), 1, "both"),
        ((BARE, FULL), 2, "2"),
        ((FULL, BARE), 1, "1"),
        ((FULL, None), 1, "1"),
        ((None, FULL), 2, "2"),
    ],
)
def test_the_first_repository_with_a_backup_is_taken_and_one_that_is_away_is_left_out(
    found: tuple[Repository | None, ...], number: int, which: str
) -> None:
    source = choose(looks(*found), None)
    assert source is not None
    assert (source.number, source.which) == (number, which)
    assert (source.unread is None) == (None not in found)


@pytest.mark.parametrize("found", [(None,), (NONE, None), (None, NONE), (None, None)])
def test_without_a_backup_a_repository_that_cannot_be_read_is_an_error(
    found: tuple[Repository | None, ...],
) -> None:
    with pytest.raises(OverlordError, match="cannot be read"):
        choose(looks(*found), None)


def test_a_moment_before_the_first_repositorys_backups_is_looked_for_in_the_second() -> None:
    older = replace(FULL, backups=(replace(FULL.backups[0], ended=100.0),))
    source = choose(looks(FULL, older), datetime.fromtimestamp(500, UTC))
    assert source is not None
    assert source.number == 2
    assert choose(looks(FULL, older), datetime.fromtimestamp(50, UTC)) is None


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ((NONE,), "none"),
        ((FULL,), "exists"),
        ((None,), "unclear"),
        ((NONE, NONE), "none"),
        ((NONE, FULL), "exists"),
        ((FULL, None), "exists"),
        ((NONE, None), "unclear"),
        ((None, NONE), "unclear"),
        ((None, FULL), "second"),
        ((None, None), "unclear"),
    ],
)
def test_a_first_boot_believes_in_no_history_only_where_every_repository_is_empty(
    found: tuple[Repository | None, ...], word: str
) -> None:
    assert backups_word(looks(*found)) == word


class Pair:
    """A manager for each repository, on one fake node."""

    def __init__(self, root: Path) -> None:
        self.answers = {1: Result(0, info()), 2: Result(0, info())}
        by_number = {
            f"pgbackrest-repository {number} {TOOL} --output=json info": lambda _, number=number: (
                self.answers[number]
            )
            for number in self.answers
        }
        self.desk = Desk(root)
        # The first key that fits answers.
        self.desk.runner.answers = {**by_number, **self.desk.runner.answers}
        self.managers = of_each(self.desk.manager, 2)

    def tend(self) -> list[str | None]:
        return in_turn(self.managers, Manager.tend)

    def backups(self, number: int) -> list[str]:
        part = f"pgbackrest-repository {number} /etc/overlord/postgres/pgbackrest-tool --type="
        return [line for line in self.desk.runner.lines if part in line]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_each_repository_is_judged_by_itself(pair: Pair) -> None:
    pair.answers[2] = Result(0, info(1, 1, ()))
    pair.desk.time = 2000.0
    assert pair.tend() == [None, "full"]
    assert pair.backups(1) == []
    assert len(pair.backups(2)) == 1
    assert pair.desk.runner.ran("pgbackrest-repository 2 /etc/overlord/postgres/pgbackrest-tool st")


def test_a_first_repository_that_is_away_keeps_no_backup_from_the_second(pair: Pair) -> None:
    pair.answers = {1: AWAY, 2: Result(0, info(2, 2, ()))}
    with pytest.raises(OverlordError, match=r"^repository 1: .*no route to host$"):
        pair.tend()
    assert len(pair.backups(2)) == 1


def test_the_metrics_tell_of_both_repositories_and_of_one_queue(pair: Pair) -> None:
    pair.desk.time = 2000.0
    pair.tend()
    pair.answers[2] = AWAY
    with pytest.raises(OverlordError, match="repository 2"):
        pair.tend()
    metrics = pair.desk.metrics()
    assert 'overlord_backup_failed{repository="1"} 0.0' in metrics
    assert 'overlord_backup_failed{repository="2"} 1.0' in metrics
    assert 'overlord_backup_last_timestamp_seconds{repository="2"} 1060.0' in metrics
    assert metrics.count("overlord_backup_failed{") == 2
    assert "overlord_archive_waiting_segments 2.0" in metrics


def test_a_restore_test_of_each_repository_is_kept_by_itself(pair: Pair) -> None:
    assert [test.ok for test in in_turn(pair.managers, Manager.verify)] == [True, True]
    pair.answers[2] = AWAY
    assert [test.ok for test in in_turn(pair.managers, Manager.verify)] == [True, False]
    metrics = pair.desk.metrics()
    assert 'overlord_restore_test_ok{repository="1"} 1.0' in metrics
    assert 'overlord_restore_test_ok{repository="2"} 0.0' in metrics


def test_what_was_known_of_a_second_repository_goes_with_it(pair: Pair) -> None:
    pair.desk.time = 2000.0
    pair.tend()
    forget_second(pair.desk.paths)
    assert read_watch(pair.desk.paths, 2) is None
    assert 'repository="2"' not in pair.desk.metrics()
    assert 'repository="1"' in pair.desk.metrics()


@pytest.fixture
def overlordctl(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Callable[..., click.testing.Result]:
    """`overlordctl backup …` on that node."""
    monkeypatch.setattr("overlord.backup.cli.PATHS", pair.desk.paths)
    monkeypatch.setattr("overlord.backup.cli.managers_of", lambda _: pair.managers)
    monkeypatch.setattr("overlord.backup.cli.read_boot_settings", lambda _: None)
    terms = BackupTerms("a-data", 30, 14, BundleStore("https://b.test", "b", "b-data"))
    monkeypatch.setattr("overlord.backup.cli.read_backup_terms", lambda *_: terms)
    logs = SimpleNamespace(objects=lambda _: [])
    monkeypatch.setattr("overlord.backup.cli.logs_bucket", lambda _: logs)
    for part in ("samples", "logs"):
        monkeypatch.setattr(f"overlord.backup.cli._tend_{part}", lambda _: None)
    return lambda *args: CliRunner().invoke(backup, args)


def test_the_list_shows_both_repositories(
    pair: Pair, overlordctl: Callable[..., click.testing.Result]
) -> None:
    shown = overlordctl("list")
    assert shown.exit_code == 0
    assert "repository 1\n" in shown.output
    assert "repository 2\n" in shown.output
    assert shown.output.count("kept 30 days") == 2


def test_the_list_shows_the_second_repository_and_the_error_of_a_first_that_is_away(
    pair: Pair, overlordctl: Callable[..., click.testing.Result]
) -> None:
    pair.answers[1] = AWAY
    shown = overlordctl("list")
    assert shown.exit_code == 1
    assert "repository 1: the backup repository cannot be read: no route to host" in shown.output
    assert "repository 2\n" in shown.output
    assert shown.output.count("kept 30 days") == 1


def test_a_restore_test_that_fails_in_one_repository_is_a_failure(
    pair: Pair, overlordctl: Callable[..., click.testing.Result]
) -> None:
    pair.answers[2] = AWAY
    shown = overlordctl("verify")
    assert shown.exit_code == 1
    assert "in repository 1 is good" in shown.output
    assert "fault in repository 2: the backup repository cannot be read" in shown.output


def test_a_timers_run_stores_samples_and_logs_although_a_repository_is_away(
    pair: Pair,
    overlordctl: Callable[..., click.testing.Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair.answers[2] = AWAY
    pair.desk.time = 2000.0
    done: list[str] = []
    for part in ("samples", "logs"):
        monkeypatch.setattr(
            f"overlord.backup.cli._tend_{part}", lambda _, part=part: done.append(part)
        )
    shown = overlordctl("tend")
    assert shown.exit_code == 1
    assert "repository 2: " in shown.output
    assert done == ["samples", "logs"]


def test_a_timers_run_looks_at_the_lock_of_each_bucket(
    pair: Pair,
    overlordctl: Callable[..., click.testing.Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair.desk.time = 10_000.0
    for name, days in (("data_bucket", 14), ("second_bucket", 3)):
        bucket = SimpleNamespace(lock_days=lambda days=days: days)
        monkeypatch.setattr(f"overlord.backup.cli.{name}", lambda _, bucket=bucket: bucket)
    overlordctl("tend")
    seen = [read_lock(pair.desk.paths, number) for number in (1, 2)]
    assert [(one.days, one.wanted) for one in seen if one] == [(14, 14), (3, 14)]


def restore(pair: Pair, to: Path | None = None) -> Restore:
    desk, (first, second) = pair.desk, pair.managers
    return Restore(desk.paths, desk.runner, desk.compose, first, None, to, print, second=second)


def test_a_restore_takes_the_second_where_the_first_cannot_be_read_and_says_so(pair: Pair) -> None:
    pair.answers[1] = AWAY
    job = restore(pair)
    plan = "\n".join(job.plan())
    assert "in repository 2" in plan
    assert "left out: the backup repository cannot be read: no route to host" in plan
    job.run()
    assert pair.desk.runner.ran("pgbackrest-repository 2 database-tool restore")


def test_a_restore_reads_the_log_of_both_where_both_can_be_read(pair: Pair) -> None:
    job = restore(pair)
    assert "in repository 1" in "\n".join(job.plan())
    job.run()
    assert pair.desk.runner.ran("pgbackrest-repository both database-tool restore")


def first_boot(root: Path, first: Result, second: Result) -> tuple[Context, FakeRunner]:
    runner = FakeRunner(
        {
            f"pgbackrest-repository {number} {TOOL} --output=json info": answer
            for number, answer in enumerate((first, second), 1)
        }
    )
    found = context(root, runner, lambda _: EMPTY)
    document = {"backup": {"buckets": {"data": "a-data", "second": "b-data"}}}
    (found.paths.current / "nodes/vps-01/node.json").write_text(json.dumps(document))
    assert read_backup_terms(found.paths, found.boot).repositories == (1, 2)
    return found, runner


EMPTY_ONE, FULL_ONE = Result(0, info(2, 2, ())), Result(0, info())


def test_a_first_boot_makes_a_database_where_both_repositories_are_empty(tmp_path: Path) -> None:
    found, _ = first_boot(tmp_path, EMPTY_ONE, EMPTY_ONE)
    assert data.database(found) == ["made an empty one"]


def test_a_first_boot_restores_from_the_second_where_the_first_is_empty(tmp_path: Path) -> None:
    found, runner = first_boot(tmp_path, EMPTY_ONE, FULL_ONE)
    assert data.database(found)[0] == "restored the newest backup of the second repository"
    assert runner.ran("pgbackrest-repository both database-tool restore")
    assert not runner.ran("database-tool init")


def test_a_first_boot_restores_from_the_first_alone_where_the_second_is_away(
    tmp_path: Path,
) -> None:
    found, runner = first_boot(tmp_path, FULL_ONE, AWAY)
    assert data.database(found)[0] == "restored the newest backup"
    assert runner.ran("pgbackrest-repository 1 database-tool restore")


@pytest.mark.parametrize(
    ("first", "second", "remedy"),
    [
        (AWAY, FULL_ONE, "takes the second"),
        (AWAY, EMPTY_ONE, "B2 key"),
        (EMPTY_ONE, AWAY, "B2 key"),
    ],
)
def test_a_first_boot_stops_while_a_repository_may_hide_the_history(
    tmp_path: Path, first: Result, second: Result, remedy: str
) -> None:
    found, runner = first_boot(tmp_path, first, second)
    with pytest.raises(OverlordError, match="cannot be read") as failure:
        data.database(found)
    assert remedy in failure.value.remedy
    assert not runner.ran("database-tool init")
    assert not runner.ran("database-tool restore")
