"""The copy of the newest backup on a node's own disk: what is in it, and that it is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from overlord.agent.metrics import render
from overlord.agent.state import State
from overlord.backup import cli, managers, restore_cli
from overlord.backup.copy import LONGEST, Copier, Whole, copy_failure, find_copy
from overlord.backup.objects import Bucket, place
from overlord.backup.repository import Backup, Kind, Repository
from overlord.backup.restore import Restore
from overlord.backup.words import of_copy
from overlord.errors import OverlordError
from overlord.node import BackupTerms
from overlord.paths import Paths
from overlord.runner import Result
from tests.unit.overlord.test_backup import FOUND, Desk, info

OLD, FULL = "20261120-020000F", "20261127-020000F"
DIFF = f"{FULL}_20261128-020000D"
LOG = "database/archive/overlord/15-1"
GIGABYTE = 1000**3


class KilledError(BaseException):
    """The process ends here: nothing in the program catches it."""


@dataclass
class FakeClient:
    """A bucket, as much of S3 as the copy asks for."""

    held: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Content and time of change by key."""
    fetched: list[str] = field(default_factory=list)
    dies_at: int = -1
    """How many objects are read whole before the process dies in the next one."""
    away: bool = False

    def put(self, key: str, content: bytes, changed: int = 1000) -> None:
        self.held[key] = (content, changed)

    def get_paginator(self, name: str) -> Any:
        assert name == "list_objects_v2"
        return SimpleNamespace(paginate=self._pages)

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        self._answer()
        whole = BytesIO(self.held[Key][0])
        return {"Body": SimpleNamespace(iter_chunks=lambda size: self._read(Key), read=whole.read)}

    def _pages(self, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:  # noqa: N803
        self._answer()
        for key, (content, changed) in sorted(self.held.items()):
            if key.startswith(Prefix):
                moment = datetime.fromtimestamp(changed, UTC)
                yield {"Contents": [{"Key": key, "Size": len(content), "LastModified": moment}]}

    def _read(self, key: str) -> Iterator[bytes]:
        content = self.held[key][0]
        half = len(content) // 2
        yield content[:half]
        if len(self.fetched) == self.dies_at:
            raise KilledError
        yield content[half:]
        self.fetched.append(key)

    def _answer(self) -> None:
        if self.away:
            error = {"Code": "InvalidAccessKeyId", "Message": "no"}
            raise ClientError({"Error": error}, "GetObject")  # type: ignore[no-untyped-call]


def backup(label: str, ended: float, first: str) -> Backup:
    kind: Kind = "full" if label.endswith("F") else "diff"
    return Backup(label, kind, ended - 60, ended, 1000, 100, False, first)


class Node:
    """A node that copies, and its bucket: two full backups, the log after each, two snapshots."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        self.client = FakeClient()
        self.backups = [backup(OLD, 100, segment(1)), backup(FULL, 800, segment(3))]
        self.leads = False
        self.times: Callable[[], float] = count(2000.0).__next__
        for kind in ("backup", "archive"):
            for twin in ("", ".copy"):
                self.client.put(f"database/{kind}/overlord/{kind}.info{twin}", b"info")
        for label in (OLD, FULL):
            self.put_backup(label)
        for number in range(1, 6):
            self.put_piece(number)
        self.client.put(f"{LOG}/00000002.history", b"history")
        self.client.put("metrics/vps-02/2026-11-26T020000Z.tar", b"older", 900)
        self.client.put("metrics/vps-01/2026-11-27T020000Z.tar", b"newest", 1000)

    def put_backup(self, label: str) -> None:
        for name in ("backup.manifest", "bundle/1", "pg_data/base/1/2.zst"):
            self.client.put(f"database/backup/overlord/{label}/{name}", f"{label}{name}".encode())

    def put_piece(self, number: int) -> str:
        key = f"{LOG}/{segment(number)[:16]}/{segment(number)}-{number:040x}.zst"
        self.client.put(key, f"piece {number}".encode())
        return key

    def copy(self) -> Whole:
        copier = Copier(
            *(self.paths.backup_copy, Bucket("overlord-data", self.client), self._read),
            *(lambda: self.leads, lambda _: None, lambda: self.times()),
        )
        return copier.make()

    def slow(self) -> None:
        """There is something to fetch, and it takes too long."""
        self.put_piece(6)
        began = iter([3000.0])
        self.times = lambda: next(began, 3001 + LONGEST)

    def has(self) -> dict[str, bytes]:
        """Content of the whole copy, by key."""
        kept = find_copy(self.paths.backup_copy)
        assert kept
        files = [one for one in kept.folder.rglob("*") if one.is_file()]
        content = {str(one.relative_to(kept.folder)): one.read_bytes() for one in files}
        content.pop("index.json")
        return content

    def metrics(self) -> str:
        return render(State(), self.paths).decode()

    def _read(self, folder: Path) -> Repository:
        assert (folder / "backup/overlord/backup.info").is_file()
        assert (folder / "archive/overlord/archive.info.copy").is_file()
        return Repository(tuple(self.backups), True)


def segment(number: int) -> str:
    timeline = 1 if number < 5 else 2
    return f"{timeline:08X}{0:08X}{number:08X}"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_the_newest_full_backup_is_copied_with_the_log_after_it_and_the_newest_snapshot(
    node: Node,
) -> None:
    wanted = {key: content for key, (content, _) in node.client.held.items() if needed(key)}
    node.client.put("database/backup/overlord/backup.history/2026/x.manifest.zst", b"history")
    node.client.put(f"database/backup/overlord/{FULL}_20261129-020000D/bundle/1", b"unfinished")
    kept = node.copy()
    assert node.has() == wanted
    assert len(wanted) == 4 + 3 + 3 + 1 + 1
    assert (kept.label, kept.made, kept.since) == (FULL, 2000.0, 800)
    assert kept.samples == "metrics/vps-01/2026-11-27T020000Z.tar"
    assert kept.bytes == sum(len(content) for content in wanted.values())
    assert node.paths.backup_copy.stat().st_mode & 0o777 == 0o700


def needed(key: str) -> bool:
    older = (OLD, segment(1), segment(2), "2026-11-26T020000Z")
    return not any(one in key for one in older)


def test_the_second_copy_fetches_only_what_is_new_and_forgets_what_is_not_needed(
    node: Node,
) -> None:
    node.copy()
    node.client.fetched.clear()
    node.backups.append(backup(DIFF, 1900, segment(6)))
    node.put_backup(DIFF)
    node.client.put("database/backup/overlord/backup.info", b"INFO", 1900)
    piece = node.put_piece(6)
    assert node.copy().label == DIFF
    new = {key for key in node.client.held if DIFF in key}
    assert set(node.client.fetched) == new | {piece, "database/backup/overlord/backup.info"}
    assert node.has()["database/backup/overlord/backup.info"] == b"INFO"
    assert any(FULL in key and DIFF not in key for key in node.has())

    later = "20261204-020000F"
    node.backups.append(backup(later, 3000, segment(7)))
    node.put_backup(later)
    node.put_piece(7)
    node.copy()
    assert not any(FULL in key or segment(6) in key for key in node.has())
    assert len(list(node.paths.backup_copy.glob("[ab]"))) == 1


def test_whenever_the_copy_is_killed_the_earlier_one_stays_and_the_next_goes_on(
    node: Node,
) -> None:
    node.copy()
    earlier = node.has()
    later = "20261204-020000F"
    node.backups.append(backup(later, 3000, segment(6)))
    node.put_backup(later)
    node.put_piece(6)
    node.client.put("metrics/vps-01/2026-12-04T020000Z.tar", b"metrics", 3000)
    for done in (0, 1, 0, 1, 1, 1, 1):
        # It dies in the middle of an object, the first of the night or the second. By the third
        # night the repository has changed once more.
        if node.client.dies_at == 1:
            node.client.put("database/backup/overlord/backup.info", b"INFO", 3000)
        node.client.fetched.clear()
        node.client.dies_at = done
        with pytest.raises(KilledError):
            node.copy()
        assert node.has() == earlier
    node.client.dies_at = -1
    node.client.fetched.clear()
    assert node.copy().label == later
    assert len(node.client.fetched) == 1
    assert any(later in key for key in node.has())


def test_what_a_killed_copy_fetched_for_nothing_does_not_stay(node: Node) -> None:
    node.copy()
    earlier = node.has()
    node.put_piece(6)
    passing = node.put_piece(7)
    node.client.dies_at = len(node.client.fetched) + 2
    node.client.put("metrics/vps-01/2026-12-04T020000Z.tar", b"metrics", 3000)
    with pytest.raises(KilledError):
        node.copy()
    assert len(list(node.paths.backup_copy.rglob(f"{segment(7)}*"))) == 1
    del node.client.held[passing]
    node.client.dies_at = -1
    node.copy()
    assert len(node.has()) == len(earlier) + 1


def test_of_two_whole_copies_the_newer_one_counts_and_the_older_one_is_worked_on(
    node: Node,
) -> None:
    """As a kill between the new one's index and the end of the old one leaves them."""
    node.copy()
    older = node.paths.backup_copy / "a"
    shutil.copytree(older, node.paths.root / "older")
    node.put_piece(6)
    node.copy()
    newer = node.has()
    shutil.copytree(node.paths.root / "older", older)
    assert node.has() == newer
    node.put_piece(7)
    node.client.dies_at = len(node.client.fetched)
    with pytest.raises(KilledError):
        node.copy()
    assert node.has() == newer
    assert [one.parent.name for one in node.paths.backup_copy.glob("*/index.json")] == ["b"]


@pytest.mark.parametrize("step", ["sync", "rmtree"])
def test_a_kill_at_the_end_leaves_a_whole_copy_too(
    node: Node, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.copy()
    earlier = node.has()
    piece = node.put_piece(6)

    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(f"overlord.backup.copy.{'os' if step == 'sync' else 'shutil'}.{step}", die)
        with pytest.raises(KilledError):
            node.copy()
    assert (piece in node.has()) == (step == "rmtree")
    assert set(node.has()) - {piece} == set(earlier)
    node.copy()
    assert piece in node.has()


def test_a_copy_for_which_there_is_no_room_is_refused_before_anything_is_fetched(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.copy()
    earlier = node.has()
    piece = node.put_piece(6)
    node.client.fetched.clear()
    free = 20 * GIGABYTE
    monkeypatch.setattr(
        "overlord.backup.objects.shutil.disk_usage",
        lambda _: shutil._ntuple_diskusage(100 * GIGABYTE, 80 * GIGABYTE, free),
    )
    with pytest.raises(OverlordError, match="no room for a copy of the backup"):
        node.copy()
    assert node.client.fetched == []
    assert node.has() == earlier
    assert "overlord_backup_copy_failed 1.0" in node.metrics()
    free += 1000
    assert piece not in earlier
    node.copy()
    assert piece in node.has()
    assert "overlord_backup_copy_failed 0.0" in node.metrics()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda node: setattr(node.client, "away", True), "InvalidAccessKeyId"),
        (lambda node: node.backups.clear(), "there is no backup to copy"),
        (
            lambda node: node.client.held.pop(f"database/backup/overlord/{FULL}/backup.manifest"),
            f"the bucket lacks database/backup/overlord/{FULL}/",
        ),
        (
            lambda node: node.backups.append(backup(DIFF, 1900, segment(5))),
            f"the bucket lacks database/backup/overlord/{DIFF}/",
        ),
        (
            lambda node: node.client.held.pop(
                next(key for key in node.client.held if segment(3) in key)
            ),
            f"the bucket lacks {segment(3)}",
        ),
        (
            lambda node: node.client.put(f"database/backup/overlord/{FULL}/../../../x", b"x"),
            "a name that is no path",
        ),
        (lambda node: node.slow(), "took longer than 4 h"),
    ],
)
def test_what_cannot_be_copied_whole_leaves_the_earlier_copy_and_is_told(
    node: Node, spoil: Callable[[Node], object], said: str
) -> None:
    node.copy()
    earlier = node.has()
    spoil(node)
    with pytest.raises(OverlordError, match=said):
        node.copy()
    assert node.has() == earlier
    assert said in (copy_failure(node.paths.backup_copy) or "")
    metrics = node.metrics()
    assert "overlord_backup_copy_failed 1.0" in metrics
    assert "overlord_backup_copy_timestamp_seconds 2000.0" in metrics


def test_an_object_that_changes_meanwhile_is_not_taken(node: Node) -> None:
    node.copy()
    earlier = node.has()
    piece = node.put_piece(6)
    whole = node.client.get_object

    def get(Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        answer = whole(Bucket, Key)
        return (
            {"Body": SimpleNamespace(iter_chunks=lambda _: iter([b"x"]))}
            if Key == piece
            else answer
        )

    node.client.get_object = get  # type: ignore[method-assign]
    with pytest.raises(OverlordError, match="was changed meanwhile"):
        node.copy()
    assert node.has() == earlier


def test_a_node_that_leads_by_now_leaves_it_and_that_is_no_failure(node: Node) -> None:
    node.leads = True
    with pytest.raises(OverlordError, match="this node leads by now"):
        node.copy()
    assert find_copy(node.paths.backup_copy) is None
    assert "overlord_backup_copy" not in node.metrics()


def test_a_bucket_without_a_snapshot_of_the_metrics_is_copied_all_the_same(node: Node) -> None:
    for key in [key for key in node.client.held if key.startswith("metrics/")]:
        del node.client.held[key]
    assert node.copy().samples == ""


@pytest.mark.parametrize("name", ["", "/etc/x", "a/../b", "..", "a//b", "a/", "./a"])
def test_an_object_never_lands_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(OverlordError, match="no path"):
        place(tmp_path, name)
    assert place(tmp_path, "a/..b") == tmp_path / "a/..b"


def test_the_list_tells_of_the_copy_and_of_a_failed_one() -> None:
    kept = Whole(Path("/x"), 86400.0, 3600.0, FULL, 2 * GIGABYTE, "metrics/vps-01/x.tar")
    failed, line = of_copy(kept, "no room")
    assert "FAILED: no room" in failed
    assert f"{FULL}, 2.00 GB" in line
    assert "at 1970-01-02 00:00:00 UTC, back to 1970-01-01 01:00:00, with metrics/vps-01" in line
    assert of_copy(None, None) == []


def _restore(tmp_path: Path, at: float | None, to: Path | None) -> tuple[Desk, Restore]:
    desk = Desk(tmp_path, **{" info": Result(0, info(backups=("full", "full", "diff")))})
    kept = Whole(tmp_path / "a", 2000.0, 1061.0, "20261122-020000F", 1, "")
    tool = replace(desk.manager.tool, repository=kept.repository)
    manager = replace(desk.manager, tool=tool)
    moment = datetime.fromtimestamp(at, UTC) if at else None
    job = Restore(desk.paths, desk.runner, desk.compose, manager, moment, to, print, kept=kept)
    return desk, job


def test_a_restore_from_the_copy_reads_it_and_nothing_else(tmp_path: Path) -> None:
    desk, job = _restore(tmp_path, None, None)
    assert "out of this node's own copy of 1970-01-01 00:33:20 UTC" in "\n".join(job.plan())
    job.run()
    mount = f"--volume {tmp_path}/a/database:/repository:ro"
    runs = [line for line in desk.runner.lines if "database-tool" in line]
    assert len(runs) == 3
    assert all(mount in line for line in runs)
    assert all("posix" in line for line in runs if " info" in line)
    assert runs[-1].endswith("database-tool restore --repository /repository")


def test_a_moment_before_the_copy_is_refused(tmp_path: Path) -> None:
    _, job = _restore(tmp_path, 1061.0, None)
    with pytest.raises(OverlordError, match="the copy does not go back to"):
        job.plan()


class Operator:
    """`overlordctl` on that node, whose restore test ends well or not."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        found = json.loads(info())
        found[0]["backup"][0] |= {"label": FULL, "archive": {"start": segment(3)}}
        self.proved, self.leads = True, False
        self.desk = Desk(
            node.paths.root,
            **{
                " info": Result(0, json.dumps(found)),
                "pgbackrest-tool examine": lambda _: (
                    Result(0, "\n".join(FOUND)) if self.proved else Result(1)
                ),
            },
        )
        replaced: dict[str, Any] = {
            "PATHS": node.paths,
            "SystemRunner": lambda: self.desk.runner,
            "leads": lambda: self.leads,
            "read_boot_settings": lambda _: SimpleNamespace(node="vps-02"),
            "read_backup_terms": lambda *_: BackupTerms("overlord-data", 30, 14),
            "data_bucket": lambda _: Bucket("overlord-data", node.client),
            "logs_bucket": lambda _: Bucket("overlord-logs", node.client),
        }
        for module in (cli, managers, restore_cli):
            for name in replaced.keys() & vars(module).keys():
                monkeypatch.setattr(module, name, replaced[name])

    def does(self, *words: str) -> tuple[int, str]:
        """Code and all that was said."""
        command = {"backup": cli.backup, "restore": restore_cli.restore}[words[0]]
        done = CliRunner().invoke(command, words[1:])
        return done.exit_code, done.output


@pytest.fixture
def operator(node: Node, monkeypatch: pytest.MonkeyPatch) -> Operator:
    return Operator(node, monkeypatch)


def test_at_night_the_standby_copies_what_it_has_proved_good(
    node: Node, operator: Operator
) -> None:
    operator.leads = True
    assert operator.does("backup", "nightly")[0] == 0
    operator.leads, operator.proved = False, False
    assert operator.does("backup", "nightly")[0] == 1
    assert node.client.fetched == []
    operator.proved = True
    code, said = operator.does("backup", "nightly")
    assert code == 0, said
    assert f"copy on this node: {FULL}" in said
    assert node.has()


def test_the_list_shows_the_copy_when_the_bucket_is_gone(node: Node, operator: Operator) -> None:
    assert operator.does("backup", "copy")[0] == 0
    node.client.away = True
    assert operator.does("backup", "copy")[0] == 1
    operator.desk.runner.answers = {" info": Result(1, "", "no such bucket")}
    code, said = operator.does("backup", "list")
    assert code == 1
    assert "THE LAST COPY ON THIS NODE FAILED" in said
    assert f"copy on this node: {FULL}" in said


def test_a_restore_from_the_copy_needs_no_bucket(node: Node, operator: Operator) -> None:
    code, said = operator.does("restore", "--from-copy", "--dry-run")
    assert (code, "there is no copy of a backup on this node" in said) == (1, True)
    operator.does("backup", "copy")
    node.client.away = True
    operator.desk.runner.commands.clear()
    code, said = operator.does("restore", "--from-copy", "--dry-run")
    assert code == 0, said
    assert f"from full backup {FULL}" in said
    assert "out of this node's own copy" in said
    assert all("--repo1-type=posix" in line for line in operator.desk.runner.lines)
    both = ("--from-copy", "--bucket-as-of", "2026-01-01", "--to", "/x")
    assert operator.does("restore", *both)[0] == 1


def test_metrics_from_the_copy_need_not_even_a_key_of_the_bucket(
    node: Node, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert operator.does("restore", "--metrics", "--dry-run")[0] == 0
    operator.does("backup", "copy")

    def lost(_: object) -> Bucket:
        raise OverlordError("the key is lost", "")

    monkeypatch.setattr(restore_cli, "data_bucket", lost)
    assert operator.does("restore", "--metrics", "--dry-run")[0] == 1
    code, said = operator.does("restore", "--metrics", "--from-copy", "--dry-run")
    assert (code, "snapshot of Prometheus: metrics/" in said) == (0, True), said
