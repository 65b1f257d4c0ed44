"""Backups: when one is due, what a restored database has to hold, and what is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlord.agent.metrics import render
from overlord.agent.state import State
from overlord.backup.archive import Upload
from overlord.backup.causes import cause_of
from overlord.backup.examination import Found, faults, parse_found
from overlord.backup.manager import Manager
from overlord.backup.repository import (
    Backup,
    Kind,
    Repository,
    parse_info,
    segment_number,
    segment_of_lsn,
)
from overlord.backup.restore import Restore, recovery_notes
from overlord.backup.restore_cli import parse_moment
from overlord.backup.schedule import due
from overlord.backup.state import read_restore_test, read_watch
from overlord.backup.words import summary
from overlord.commands.backup import BackupTool
from overlord.commands.compose import Compose
from overlord.errors import OverlordError
from overlord.node import BackupTerms
from overlord.paths import Paths
from overlord.runner import Result
from tests.unit.overlord.fakes import FakeRunner

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
TOKEN_ROWS = {"devices": 50, "status_history": 1000}


def backup(kind: Kind, age: timedelta, **changes: Any) -> Backup:
    started = (NOON - age).timestamp()
    whole = Backup(f"{kind}{started}", kind, started, started + 60, 1_000_000, 200_000, False)
    return replace(whole, **changes)


def repository(*backups: Backup, **changes: Any) -> Repository:
    ordered = tuple(sorted(backups, key=lambda one: one.ended))
    return replace(Repository(ordered, True, "77", "000000010000000000000005"), **changes)


def refusal(code: str, message: str) -> str:
    """As pgBackRest passes an answer of S3 on."""
    return (
        "ERROR: [039]: unable to load info file '/database/backup/overlord/backup.info':\n"
        "  ProtocolError: HTTP request failed with 403 (Forbidden):\n"
        "  *** Response Content ***:\n"
        f"  <Error>\n      <Code>{code}</Code>\n      <Message>{message}</Message>\n  </Error>\n"
        "  HINT: has a stanza-create been performed?"
    )


@pytest.mark.parametrize(
    ("said", "what", "remedy"),
    [
        (
            refusal("AccessDenied", "storage cap exceeded. See the Caps &amp; Alerts page"),
            "takes no more: storage cap exceeded. See the Caps & Alerts page",
            "raise the cap",
        ),
        (refusal("AccessDenied", "not entitled"), "may not do this", "production.md"),
        (refusal("InvalidAccessKeyId", "no"), "wrong or revoked", "set a valid key"),
        (refusal("RequestTimeTooSkewed", "no"), "clock is too far off", "chronyc"),
        (refusal("NoSuchBucket", "no"), "no such bucket", "pulumi up"),
        (refusal("InternalError", "later"), "InternalError: later", "status.backblaze.com"),
        ("HTTP request failed with 503 (Service Unavailable):", "B2 is down", "by itself"),
        ("TLS error [1:167772454] unexpected eof while reading", "does not answer", "by itself"),
        ("unable to connect to 'b2.test:443': [111] refused", "does not answer", "by itself"),
        ("PANIC: write: No space left on device", "disk is full", "df -h"),
        ("unable to write '/x/backup.manifest': [2] No such file", "disk is full", "df -h"),
        (
            "unable to connect to 'dbname='postgres'': connection to server on socket failed",
            "PostgreSQL of this node",
            "overlordctl logs postgres",
        ),
        ("FormatError: key/value found outside of section at line 1", "decrypted", "nothing"),
        (
            "ERROR: [042]: raised from local-1 protocol: unable to get 000000010000000000000009:\n"
            "       repo1: 15-1/0000000100000000/000000010000000000000009-b9.zst [CryptoError] no",
            "piece 000000010000000000000009 of the log in the archive is damaged",
            "full backup",
        ),
        ("info files exist but do not match the database", "another database", "stop"),
        ("WAL segment 0000 was not archived before the 60000ms timeout", "log does not", "logs"),
    ],
)
def test_what_pgbackrest_says_is_told_with_its_cause_and_what_to_do(
    said: str, what: str, remedy: str
) -> None:
    cause = cause_of(said)
    assert cause
    assert what in cause.what
    assert remedy in cause.remedy
    assert "\n" not in cause.what


def test_no_cause_is_made_up() -> None:
    assert cause_of("amcheck found damage") is None
    assert cause_of("") is None


DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("backups", "kind"),
    [
        ((), "full"),
        ((backup("full", 2 * HOUR),), None),
        ((backup("full", 11 * HOUR),), "diff"),
        ((backup("full", 3 * DAY), backup("diff", 9 * HOUR)), None),
        ((backup("full", 3 * DAY), backup("diff", DAY)), "diff"),
        ((backup("full", 7 * DAY), backup("diff", DAY)), "full"),
        ((backup("full", 20 * DAY),), "full"),
        ((backup("diff", DAY),), "full"),
    ],
)
def test_a_full_backup_a_week_and_a_differential_one_a_day(
    backups: tuple[Backup, ...], kind: Kind | None
) -> None:
    assert due(repository(*backups), NOON) == kind


@given(st.lists(st.integers(0, 60 * 24), max_size=8), st.integers(0, 24 * 60))
def test_whatever_there_is_a_backup_is_due_when_the_newest_is_older_than_a_day(
    hours: list[int], minutes: int
) -> None:
    now = NOON + timedelta(minutes=minutes)
    found = repository(*(backup("full", hour * HOUR) for hour in hours))
    newest = found.newest
    if newest is None or now - datetime.fromtimestamp(newest.started, UTC) > DAY:
        assert due(found, now) is not None


def info(status: int = 0, repo: int = 0, backups: tuple[str, ...] = ("full",)) -> str:
    entries = [
        {
            "label": f"2026112{number}-020000F",
            "type": kind,
            "timestamp": {"start": 1000 + number, "stop": 1060 + number},
            "info": {"size": 100, "repository": {"delta": 40}},
            "error": False,
        }
        for number, kind in enumerate(backups)
    ]
    stanza = {
        "archive": [{"id": "15-1", "max": "000000010000000000000005"}],
        "backup": entries,
        "db": [{"system-id": 77}],
        "repo": [{"key": 1, "status": {"code": repo, "message": "said\nmore"}}],
        "status": {"code": status, "message": "ok"},
    }
    return json.dumps([stanza])


def test_the_repository_is_read_from_what_pgbackrest_says() -> None:
    found = parse_info(info(backups=("full", "diff")))
    assert [one.kind for one in found.backups] == ["full", "diff"]
    assert (found.system, found.last_segment) == ("77", "000000010000000000000005")
    assert found.stored_bytes == 80
    assert found.has_stanza


@pytest.mark.parametrize(("code", "stanza"), [(1, False), (2, True), (3, False)])
def test_an_empty_repository_is_known_as_one(code: int, stanza: bool) -> None:
    found = parse_info(info(code, code, ()))
    assert (found.backups, found.has_stanza) == ((), stanza)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[{}]", info(99), info(0, 99), info(5)])
def test_no_clear_answer_is_an_error_and_not_an_empty_repository(text: str) -> None:
    with pytest.raises(OverlordError, match="cannot be read"):
        parse_info(text)


@pytest.mark.parametrize(
    ("lsn", "segment"),
    [
        ("0/5000000", "000000010000000000000004"),
        ("0/5000001", "000000010000000000000005"),
        ("0/6000000", "000000030000000000000005"),
        ("1/0", "0000000100000000000000FF"),
        ("2/FF000001", "0000000100000002000000FF"),
    ],
)
def test_a_position_of_the_log_is_in_its_segment_whatever_the_timeline(
    lsn: str, segment: str
) -> None:
    assert segment_of_lsn(lsn) == segment_number(segment)


GOOD = Found(
    fetch_seconds=1,
    replay_seconds=1,
    system="77",
    replayed_lsn="0/6000000",
    last_commit=NOON.timestamp() - 40,
    bytes=10**9,
    rows={"devices": 50, "status_history": 1200},
    canary="ab",
    canary_written=(NOON - HOUR).timestamp() - 5,
    canary_rows=TOKEN_ROWS,
)
BACKED_UP = repository(backup("full", HOUR))


def test_a_sound_database_has_no_fault() -> None:
    assert faults(GOOD, BACKED_UP, TOKEN_ROWS) == ()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"system": "78"}, "it is database 78 and not 77"),
        ({"canary": None, "canary_written": None}, "has to hold is not in it"),
        ({"canary_written": (NOON - DAY).timestamp()}, "written for the newest backup"),
        ({"rows": {}}, "no table of the application has a row"),
        ({"rows": {"devices": 24, "status_history": 1200}}, "devices has 24 rows and had 50"),
        ({"replayed_lsn": "0/5000000"}, "000000010000000000000005 is missing or damaged"),
        ({"replayed_lsn": "0/4000077"}, "000000010000000000000004 or the piece after it is"),
        ({"replayed_lsn": ""}, "nothing of the log was replayed"),
    ],
)
def test_a_database_that_is_not_the_one_backed_up_is_found(
    changes: dict[str, Any], fault: str
) -> None:
    assert any(fault in one for one in faults(replace(GOOD, **changes), BACKED_UP, {}))


@pytest.mark.parametrize(
    ("last_segment", "notes"),
    [("", 2), ("000000010000000000000005", 2), ("000000010000000000000006", 3)],
)
def test_a_restore_tells_of_a_gap_in_the_log(last_segment: str, notes: int) -> None:
    told = recovery_notes(FOUND[0], last_segment)
    assert len(told) == notes
    assert ("NOT ALL OF THE LOG" in told[-1]) == (notes == 3)


def test_a_table_emptied_before_the_backup_is_found_by_the_last_good_restore() -> None:
    emptied = replace(GOOD, rows={"devices": 0, "status_history": 5}, canary_rows={})
    assert "devices has 0 rows and had 50 before" in faults(emptied, BACKED_UP, {"devices": 50})


FOUND = (
    json.dumps(
        {
            "fetch_seconds": 3,
            "replay_seconds": 2,
            "system": "77",
            "timeline": 2,
            "replayed_lsn": "0/6000000",
            "last_commit": 990.0,
            "bytes": 1000,
        }
    ),
    json.dumps({"devices": 50}),
    json.dumps({"token": "ab", "rows": {"devices": 50}, "written_at": 1000.0}),
)


def test_what_an_examination_found_is_read_line_by_line() -> None:
    found = parse_found("\n".join(FOUND))
    assert (found.rows, found.canary, found.last_commit) == ({"devices": 50}, "ab", 990.0)
    with pytest.raises(ValueError):
        parse_found("\n".join(FOUND[:2]))
    assert parse_found("\n".join((*FOUND[:2], "null"))).canary is None


ARCHIVER = json.dumps(
    {"recovering": False, "waiting": 2, "oldest_waiting": 900.0, "last_archived": 880.0}
)


class Desk:
    """A manager on a fake node."""

    def __init__(self, root: Path, **answers: Any) -> None:
        self.paths = Paths(root)
        self.leads = True
        self.time = 1000.0
        self.info = Result(0, info())
        self.examined = Result(0, "\n".join(FOUND))
        known: dict[str, Any] = {
            "archiver": Result(0, ARCHIVER),
            " info": lambda _: self.info,
            "pgbackrest-tool examine": lambda _: self.examined,
            **answers,
        }
        self.runner = FakeRunner(known)
        self.compose = Compose(Path("/opt/compose.yaml"), Path("/run/compose.env"))
        self.said: list[str] = []
        self.manager = Manager(
            self.paths,
            self.runner,
            BackupTool(self.compose),
            lambda: self.leads,
            self.said.append,
            lambda: self.time,
        )

    def metrics(self) -> str:
        return render(State(), self.paths).decode()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_node_that_does_not_lead_leaves_the_repository_alone(desk: Desk) -> None:
    desk.leads = False
    assert desk.manager.tend() is None
    with pytest.raises(OverlordError, match="does not lead"):
        desk.manager.back_up("full")
    assert desk.runner.commands == []


def test_the_first_look_prepares_the_repository_and_makes_a_full_backup(desk: Desk) -> None:
    desk.info = Result(0, info(1, 1, ()))
    assert desk.manager.tend() == "full"
    order = ["stanza-create", "mark", "--type=full"]
    places = [next(i for i, line in enumerate(desk.runner.lines) if part in line) for part in order]
    assert places == sorted(places)
    # Behind everything else, in the database's own container.
    assert desk.runner.ran(" 43200 nice -n 15 ionice -c 3")


def test_a_look_is_written_down_for_the_alerts(desk: Desk) -> None:
    desk.manager.tend()
    watch = read_watch(desk.paths)
    assert watch is not None
    assert (watch.newest, watch.archive_waiting, watch.error) == (1060.0, 2, "")
    metrics = desk.metrics()
    assert "overlord_archive_behind_seconds 100.0" in metrics
    assert 'overlord_backup_last_timestamp_seconds{repository="1"} 1060.0' in metrics
    assert 'overlord_backup_failed{repository="1"} 0.0' in metrics


def test_a_failed_backup_is_an_error_and_a_metric_and_old_knowledge_stays(desk: Desk) -> None:
    desk.manager.tend()
    desk.info = Result(0, info(99))
    with pytest.raises(OverlordError, match="cannot be read"):
        desk.manager.tend()
    metrics = desk.metrics()
    assert 'overlord_backup_failed{repository="1"} 1.0' in metrics
    assert 'overlord_backup_last_timestamp_seconds{repository="1"} 1060.0' in metrics


def test_a_look_that_goes_well_does_not_hide_that_the_backup_fails(tmp_path: Path) -> None:
    during: list[str] = []

    def mark(_: object) -> Result:
        during.append(node.metrics())
        return Result(1, "", "PANIC:  could not write: No space left on device")

    node = Desk(tmp_path, **{"pgbackrest-tool mark": mark})
    for _ in range(2):
        with pytest.raises(OverlordError, match="the disk is full"):
            node.manager.back_up("full")
    assert 'overlord_backup_failed{repository="1"} 0.0' in during[0]
    assert 'overlord_backup_failed{repository="1"} 1.0' in during[1]
    node.manager.tend()
    assert 'overlord_backup_failed{repository="1"} 0.0' in node.metrics()


def test_how_far_the_archive_is_behind_is_known_without_the_bucket(desk: Desk) -> None:
    desk.manager.tend()
    desk.info, desk.time = Result(0, info(99)), 4900.0
    with pytest.raises(OverlordError):
        desk.manager.tend()
    metrics = desk.metrics()
    assert "overlord_archive_behind_seconds 4000.0" in metrics
    assert 'overlord_backup_seen_timestamp_seconds{repository="1"} 1000.0' in metrics


def test_only_one_thing_at_a_time(desk: Desk) -> None:
    with desk.manager.alone(), pytest.raises(OverlordError, match="is at work on this node"):
        desk.manager.verify()
    assert desk.manager.verify().ok


def test_a_good_restore_is_written_down_with_its_recovery_point(desk: Desk) -> None:
    test = desk.manager.verify()
    assert (test.ok, test.recovery_point_age, test.good_rows) == (True, 10.0, {"devices": 50})
    assert 'overlord_restore_test_ok{repository="1"} 1.0' in desk.metrics()
    assert desk.runner.lines[-1].endswith(" rm -rf /var/lib/postgresql/data/restore-test")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda desk: setattr(desk, "examined", Result(1, "", "amcheck found damage")),
        lambda desk: setattr(desk, "examined", Result(0, "nothing of use")),
        lambda desk: setattr(desk, "examined", Result(124, "", "no end")),
        lambda desk: setattr(desk, "info", Result(1, "", "no route to host")),
        lambda desk: setattr(desk, "info", Result(0, info(2, 2, ()))),
    ],
)
def test_a_restore_that_could_not_be_proved_has_failed_and_the_last_good_one_is_remembered(
    desk: Desk, break_it: Callable[[Desk], None]
) -> None:
    desk.manager.verify()
    break_it(desk)
    assert not desk.manager.verify().ok
    test = read_restore_test(desk.paths)
    assert test is not None
    assert test.faults
    assert (test.last_good, test.good_rows) == (1000.0, {"devices": 50})
    assert 'overlord_restore_test_ok{repository="1"} 0.0' in desk.metrics()


def test_a_snapshot_of_the_metrics_is_stored_once_a_day_by_the_node_that_leads(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overlord.backup.manager.back_up_samples", lambda *_: ("metrics/x", 77))
    upload: Upload = lambda _key, _source: 77  # noqa: E731
    desk.time = NOON.timestamp()
    desk.leads = False
    assert not desk.manager.tend_samples(upload, "vps-01")
    desk.leads = True
    assert desk.manager.tend_samples(upload, "vps-01")
    assert not desk.manager.tend_samples(upload, "vps-01")
    assert "overlord_metrics_backup_bytes 77.0" in desk.metrics()
    desk.time += 13 * 3600
    assert not desk.manager.tend_samples(upload, "vps-01")
    desk.time += 2 * 3600
    assert desk.manager.tend_samples(upload, "vps-01")


def test_a_snapshot_that_fails_is_told_and_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> tuple[str, int]:
        raise OverlordError("Prometheus made no snapshot", "look")

    monkeypatch.setattr("overlord.backup.manager.back_up_samples", fails)
    desk.time = NOON.timestamp()
    for _ in range(2):
        with pytest.raises(OverlordError, match="made no snapshot"):
            desk.manager.tend_samples(lambda _key, _source: 0, "vps-01")
    assert "overlord_metrics_backup_failed 1.0" in desk.metrics()


def test_no_metric_of_what_was_never_done(desk: Desk) -> None:
    assert "overlord_backup" not in desk.metrics()
    assert "overlord_restore_test" not in desk.metrics()


def test_a_dry_run_names_the_backup_and_the_moment(desk: Desk, tmp_path: Path) -> None:
    moment = datetime.fromtimestamp(1070, UTC)
    job = Restore(
        desk.paths, desk.runner, desk.compose, desk.manager, moment, tmp_path / "copy", print
    )
    plan = "\n".join(job.plan())
    assert "20261120-020000F" in plan
    assert "1970-01-01 00:17:50" in plan
    assert not desk.runner.ran("recover")


def test_a_moment_before_the_first_backup_is_refused(desk: Desk) -> None:
    moment = datetime.fromtimestamp(1050, UTC)
    job = Restore(desk.paths, desk.runner, desk.compose, desk.manager, moment, None, print)
    with pytest.raises(OverlordError, match="there is no backup before 1970-01-01 00:17:30"):
        job.plan()


def test_postgresql_comes_back_when_a_restore_in_its_place_fails(tmp_path: Path) -> None:
    desk = Desk(tmp_path, **{"database-tool restore": Result(1, "", "no route to host")})
    job = Restore(desk.paths, desk.runner, desk.compose, desk.manager, None, None, print)
    with pytest.raises(OverlordError):
        job.run()
    verbs = [line.split("compose.yaml ")[1] for line in desk.runner.lines]
    assert verbs[1] == "stop postgres"
    assert verbs[-1] == "up --detach --no-deps postgres"


@pytest.mark.parametrize(
    "text", ["2026-11-27T04:30:00", "2026-11-27 04:30:00Z", "2026-11-27T05:30:00+01:00"]
)
def test_a_moment_is_in_utc_unless_it_says_otherwise(text: str) -> None:
    assert parse_moment(text) == datetime(2026, 11, 27, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "", "2999-01-01T00:00:00"])
def test_what_is_no_moment_in_the_past_is_refused(text: str) -> None:
    with pytest.raises(OverlordError, match="no moment in the past"):
        parse_moment(text)


def test_the_list_says_how_long_backups_are_kept_and_what_they_cost() -> None:
    big = backup("full", HOUR, stored_bytes=100 * 10**9)
    lines = summary(repository(big), BackupTerms("overlord-data", 30, 14))
    assert "kept 30 days" in lines[0]
    assert "for 14 days" in lines[1]
    assert "100.00 GB in the bucket, about 0.60 USD a month" in lines[2]
