"""Loki's files go into the bucket once and in their order, and come back from there."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from overlord.backup import logs
from overlord.backup.logs import (
    back_up_logs,
    for_loki,
    has_earlier_days,
    newest_archives,
    put_back_logs,
)
from overlord.backup.manager import LOGS_EVERY
from overlord.backup.objects import Bucket, Stored
from overlord.backup.state import Logs, read_logs, write_logs
from overlord.backup.words import of_logs
from overlord.errors import OverlordError
from overlord.firstboot import data
from overlord.node import BootSettings, read_backup_terms
from overlord.paths import Paths
from stack.render import render_stack
from tests.support.stack import VPS_01
from tests.unit.overlord.fakes import FakeRunner
from tests.unit.overlord.test_backup import Desk
from tests.unit.overlord.test_backup_copy import KilledError, Node, Operator
from tests.unit.overlord.test_firstboot import make_context

NOW = 1_795_800_000.0
DAY = 86400
CHUNKS = ("fake/a1/MTE6MQ==", "fake/a1/MTI6MQ==", "fake/b2/MTM6MQ==")
INDEX = "index/index_20784/1795800000-vps-01-1.tsdb.gz"
COMPACTED = "index/index_20784/fake/1795800600-compactor-1-2-3.tsdb.gz"


class Loki:
    """What a Loki has on its disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "chunks").mkdir(parents=True)

    def writes(self, name: str, at: float, content: bytes = b"") -> None:
        path = self.folder / "chunks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or name.encode())
        os.utime(path, (at, at))

    def files(self) -> dict[str, bytes]:
        chunks = self.folder / "chunks"
        found = [one for one in chunks.rglob("*") if one.is_file()]
        return {one.relative_to(chunks).as_posix(): one.read_bytes() for one in found}


class Shelf:
    """The bucket, as much of it as archives need."""

    name = "overlord-logs"

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.changed = NOW
        self.dies_after = -1
        self.away = False

    def upload(self, key: str, source: BinaryIO) -> int:
        if self.away:
            raise OverlordError("B2 does not answer", "wait")
        content = b"".join(iter(lambda: source.read(1000), b""))
        if len(self.held) == self.dies_after:
            raise KilledError
        self.held[key] = content
        return len(content)

    def objects(self, prefix: str = logs.LOGS) -> list[Stored]:
        if self.away:
            raise OverlordError("B2 does not answer", "wait")
        return [
            Stored(key, len(content), int(self.changed))
            for key, content in self.held.items()
            if key.startswith(prefix)
        ]

    def opener(self) -> Bucket:
        return self  # type: ignore[return-value]

    def holds_earlier_ones(self) -> None:
        empty = io.BytesIO()
        tarfile.open(fileobj=empty, mode="w").close()
        self.held["logs/vps-01/2026-11-01T000000.000000Z.tar"] = empty.getvalue()

    @contextmanager
    def opened(self, key: str) -> Iterator[BinaryIO]:
        yield io.BytesIO(self.held[key])

    def names(self) -> list[list[str]]:
        """Of each archive, in the order in which they were stored."""
        found = []
        for one in self.held.values():
            with tarfile.open(fileobj=io.BytesIO(one)) as archive:
                found.append(archive.getnames())
        return [names for names in found if names]


@pytest.fixture
def loki(tmp_path: Path) -> Loki:
    loki = Loki(tmp_path / "old")
    for place, chunk in enumerate(CHUNKS):
        loki.writes(chunk, NOW - 1000 + place)
    loki.writes(INDEX, NOW - 900)
    return loki


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    use_disk(monkeypatch, free=50_000_000)
    return Shelf()


def use_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Let this machine's disk be one of 100 MB."""
    disk = shutil._ntuple_diskusage(100_000_000, 100_000_000 - free, free)
    monkeypatch.setattr("overlord.backup.objects.shutil.disk_usage", lambda _: disk)


def send(loki: Loki, shelf: Shelf, since: int = 0, now: float = NOW) -> int:
    """Until when all is in the bucket."""
    return list(back_up_logs(loki.folder, "vps-01", shelf.opener(), since, now))[-1].until


def restored(shelf: Shelf, folder: Path) -> dict[str, bytes]:
    new = Loki(folder)
    put_back_logs(new.folder, shelf.opener(), newest_archives(shelf.objects()))
    return new.files()


def test_what_is_new_goes_into_the_bucket_once(loki: Loki, shelf: Shelf) -> None:
    until = send(loki, shelf)
    assert shelf.names() == [[*CHUNKS, INDEX]]
    assert list(shelf.held) == ["logs/vps-01/2026-11-27T170500.000000Z.tar"]
    assert send(loki, shelf, until) == until
    assert len(shelf.held) == 1
    loki.writes("fake/b2/MTQ6MQ==", NOW + 10)
    loki.writes(COMPACTED, NOW + 20)
    (loki.folder / "chunks" / INDEX).unlink()
    assert send(loki, shelf, until, NOW + 3600) == (NOW + 3600 - logs.SETTLED) * 10**9
    assert shelf.names()[1:] == [["fake/b2/MTQ6MQ==", COMPACTED]]


def test_no_index_is_in_the_bucket_before_the_chunks_that_it_names(
    loki: Loki, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "ARCHIVE_BYTES", 1)
    later = ("index/index_20785/1795800000-vps-01-2.tsdb.gz", "fake/a1/MTU6MQ==")
    loki.writes(later[1], NOW - 800)
    loki.writes(later[0], NOW - 800)
    send(loki, shelf)
    assert shelf.names() == [[CHUNKS[0]], [CHUNKS[1]], [CHUNKS[2]], [INDEX], [later[1], later[0]]]


def test_they_go_in_the_order_in_which_they_were_written(loki: Loki, shelf: Shelf) -> None:
    loki.writes("fake/a1/MTA6MQ==", NOW - 850)
    until = send(loki, shelf)
    assert shelf.names() == [[*CHUNKS, INDEX, "fake/a1/MTA6MQ=="]]
    assert send(loki, shelf, until) == until
    assert len(shelf.held) == 1


def test_a_folder_is_older_than_the_file_that_was_begun_in_it(loki: Loki, shelf: Shelf) -> None:
    """Loki may write on after a folder shows its last change."""
    shelf.holds_earlier_ones()
    late = loki.folder / "chunks" / CHUNKS[2]
    since = int((NOW - 500) * 10**9)
    os.utime(late, (NOW - 499, NOW - 499))
    os.utime(late.parent, (NOW - 510, NOW - 510))
    send(loki, shelf, since)
    assert shelf.names() == [[CHUNKS[2]]]


def test_an_archive_has_no_more_than_a_short_header_for_each_file(loki: Loki, shelf: Shelf) -> None:
    loki.writes(CHUNKS[0], NOW - 999.5)
    send(loki, shelf)
    [content] = shelf.held.values()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert [one.pax_headers for one in archive.getmembers()] == [{}] * 4


def test_files_of_one_moment_are_not_parted(
    loki: Loki, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system's clock has coarse steps: what comes after a moment would leave some behind."""
    monkeypatch.setattr(logs, "ARCHIVE_FILES", 2)
    for number in range(5):
        loki.writes(f"fake/c3/{number}", NOW - 950)
    send(loki, shelf)
    assert [len(names) for names in shelf.names()] == [2, 6, 1]
    assert [names[-1] for names in shelf.names()] == [CHUNKS[1], "fake/c3/4", INDEX]


def test_a_file_that_may_still_be_written_waits(loki: Loki, shelf: Shelf) -> None:
    loki.writes("fake/a1/MTU6MQ==", NOW - 30)
    until = send(loki, shelf)
    assert shelf.names() == [[*CHUNKS, INDEX]]
    send(loki, shelf, until, NOW + 31)
    assert shelf.names()[1:] == [["fake/a1/MTU6MQ=="]]


def test_a_clock_that_was_set_back_sends_all_of_it_again(loki: Loki, shelf: Shelf) -> None:
    shelf.holds_earlier_ones()
    send(loki, shelf, int((NOW + 5000) * 10**9))
    assert shelf.names() == [[*CHUNKS, INDEX]]


def test_a_bucket_that_was_made_anew_gets_all_of_it(loki: Loki, shelf: Shelf) -> None:
    until = send(loki, shelf)
    shelf.held = {"logs/vps-02/2026-11-27T170500.000000Z.tar": shelf.held.popitem()[1]}
    send(loki, shelf, until)
    assert shelf.names() == [[*CHUNKS, INDEX]] * 2


def test_only_chunks_and_the_index_are_taken(loki: Loki, shelf: Shelf) -> None:
    for name in (
        "loki_cluster_seed.json",
        "index/delete_requests/delete_requests.gz",
        "fake/a1/not base64",
        "index/index_20784/.hidden.tsdb",
    ):
        loki.writes(name, NOW - 500)
    link = loki.folder / "chunks/fake/a1/bGluaw=="
    link.symlink_to("/etc/passwd")
    os.utime(link, (NOW - 500, NOW - 500), follow_symlinks=False)
    send(loki, shelf)
    assert shelf.names() == [[*CHUNKS, INDEX]]


def test_a_loki_without_files_sends_nothing(tmp_path: Path, shelf: Shelf) -> None:
    send(Loki(tmp_path / "empty"), shelf)
    assert shelf.held == {}


def test_where_loki_has_never_run_nothing_is_told_to_be_in_the_bucket(
    tmp_path: Path, shelf: Shelf
) -> None:
    desk = Desk(tmp_path)
    desk.time = NOW
    assert desk.manager.tend_logs(shelf.opener, "vps-01") == 0
    assert "overlord_logs_backup_timestamp_seconds" not in desk.metrics()


def test_all_of_it_comes_back_and_counts_as_written_now(
    loki: Loki, shelf: Shelf, tmp_path: Path
) -> None:
    until = send(loki, shelf)
    loki.writes(COMPACTED, NOW + 20)
    send(loki, shelf, until, NOW + 3600)
    assert restored(shelf, tmp_path / "new") == loki.files()
    assert not (tmp_path / "new/arriving").exists()
    written = [one.stat().st_mtime for one in (tmp_path / "new").rglob("*") if one.is_file()]
    assert min(written) > loki.folder.stat().st_mtime - 1


def test_what_is_there_already_stays_as_it_is(loki: Loki, shelf: Shelf, tmp_path: Path) -> None:
    send(loki, shelf)
    new = Loki(tmp_path / "new")
    new.writes(CHUNKS[0], NOW, b"there")
    again = newest_archives(shelf.objects())
    assert put_back_logs(new.folder, shelf.opener(), again) == len(CHUNKS)
    assert put_back_logs(new.folder, shelf.opener(), again) == 0
    assert new.files() == {**loki.files(), CHUNKS[0]: b"there"}


def test_a_restore_that_is_cut_short_leaves_no_index_without_its_chunks_and_goes_on(
    loki: Loki, shelf: Shelf, tmp_path: Path
) -> None:
    send(loki, shelf)
    [(key, whole)] = shelf.held.items()
    for part in (700, 1700, 2048, 2300, 3300, 4096):
        shelf.held[key] = whole[:part]
        new = Loki(tmp_path / f"cut-{part}")
        with pytest.raises(OverlordError, match="damaged"):
            put_back_logs(new.folder, shelf.opener(), shelf.objects())
        assert INDEX not in new.files() or set(CHUNKS) <= set(new.files())
        shelf.held[key] = whole
        put_back_logs(new.folder, shelf.opener(), shelf.objects())
        assert new.files() == loki.files()


def test_an_archive_cannot_write_elsewhere(shelf: Shelf, tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in (
            "../outside", "/outside", "fake/../../outside", "fake/a1/../../../outside",
            "index/index_1/../outside.tsdb", "loki_cluster_seed.json", CHUNKS[0],
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("fake/a1/bGluaw==")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    shelf.held["logs/../../outside/1.tar"] = made.getvalue()
    assert restored(shelf, tmp_path / "new") == {CHUNKS[0]: b"x"}
    assert {one.name for one in tmp_path.rglob("*") if one.is_file()} == {"MTE6MQ=="}


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    loki: Loki, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(loki, shelf)
    use_disk(monkeypatch, free=20_005_000)
    with pytest.raises(OverlordError, match="no room for the logs"):
        restored(shelf, tmp_path / "new")
    assert list((tmp_path / "new").rglob("*")) == [tmp_path / "new/chunks"]


def test_a_disk_that_gets_full_meanwhile_is_told(
    loki: Loki, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(loki, shelf)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("overlord.backup.logs.shutil.copyfileobj", fails)
    with pytest.raises(OverlordError, match=r"the logs cannot be put back: .*No space left"):
        restored(shelf, tmp_path / "new")
    assert not (tmp_path / "new/arriving").exists()


def test_the_archive_that_was_added_to_last_is_taken_in_its_order() -> None:
    kept = [
        Stored("logs/vps-01/2026-11-27T1.tar", 1, 200),
        Stored("logs/vps-02/2026-11-27T2.tar", 1, 300),
        Stored("logs/vps-02/2026-11-27T1.tar", 1, 100),
    ]
    assert newest_archives(kept) == [kept[2], kept[1]]
    assert newest_archives([]) == []


def test_what_loki_would_no_longer_keep_is_not_fetched_for_it() -> None:
    old, new = (Stored("logs/a/1.tar", 1, int(NOW - days * DAY)) for days in (31, 29))
    assert for_loki([old, new], NOW) == [new]


def test_loki_keeps_its_lines_for_as_long_as_is_assumed() -> None:
    config = render_stack(VPS_01)["loki/loki.yaml"].decode()
    assert f"retention_period: {logs.LOKI_DAYS * 24}h" in config


def test_a_new_loki_has_no_index_of_earlier_days(tmp_path: Path) -> None:
    loki, today = Loki(tmp_path / "loki"), int(NOW // DAY)
    for day in (str(today), str(today - 1), "other"):
        loki.writes(f"index/index_{day}/1.tsdb.gz", NOW)
    assert not has_earlier_days(loki.folder, NOW)
    loki.writes(f"index/index_{today - 2}/1.tsdb.gz", NOW)
    assert has_earlier_days(loki.folder, NOW)


def test_what_is_in_the_bucket_is_told_with_its_cost() -> None:
    kept = [Stored(f"logs/vps-0{node}/1.tar", 5 * 10**9, int(NOW) + node) for node in (1, 2)]
    assert of_logs(kept) == (
        "logs of both nodes: 10.00 GB in the bucket, about 0.06 USD a month, the last of "
        "2026-11-27 17:20:02 UTC"
    )
    assert of_logs([]) == "no logs in the bucket"


@pytest.fixture
def desk(tmp_path: Path, loki: Loki) -> Desk:
    desk = Desk(tmp_path / "root")
    desk.paths.loki_volume.parent.mkdir(parents=True)
    desk.paths.loki_volume.symlink_to(loki.folder)
    desk.time = NOW
    desk.leads = False
    return desk


def test_each_node_sends_its_own_once_an_hour_whichever_leads(desk: Desk, shelf: Shelf) -> None:
    assert "overlord_logs_backup" not in desk.metrics()
    size = desk.manager.tend_logs(shelf.opener, "vps-02")
    assert size == len(shelf.held["logs/vps-02/2026-11-27T170500.000000Z.tar"])
    desk.time += LOGS_EVERY - 1
    assert desk.manager.tend_logs(shelf.opener, "vps-02") is None
    desk.time += 1
    assert desk.manager.tend_logs(shelf.opener, "vps-02") == 0
    metrics = desk.metrics()
    assert "overlord_logs_backup_failed 0.0" in metrics
    [told] = [one for one in metrics.splitlines() if one.startswith("overlord_logs_backup_times")]
    assert float(told.split()[1]) == NOW + LOGS_EVERY - logs.SETTLED


def test_a_bucket_that_is_away_is_told_and_tried_again(desk: Desk, shelf: Shelf) -> None:
    shelf.away = True
    for _ in range(2):
        with pytest.raises(OverlordError, match="does not answer"):
            desk.manager.tend_logs(shelf.opener, "vps-01")
    assert "overlord_logs_backup_failed 1.0" in desk.metrics()
    assert "overlord_logs_backup_timestamp_seconds" not in desk.metrics()
    shelf.away = False
    assert desk.manager.tend_logs(shelf.opener, "vps-01")
    assert "overlord_logs_backup_failed 0.0" in desk.metrics()


def test_whenever_it_is_killed_the_next_run_sends_the_rest_and_nothing_twice(
    desk: Desk, loki: Loki, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "ARCHIVE_BYTES", 1)
    for shelf.dies_after in range(4):
        with pytest.raises(KilledError):
            desk.manager.tend_logs(shelf.opener, "vps-01")
        assert len(shelf.held) == shelf.dies_after
        # And in the moment after it was stored, before that was written down.
        with monkeypatch.context() as patched:
            patched.setattr("overlord.backup.manager.write_logs", killed)
            shelf.dies_after = -1
            with pytest.raises(KilledError):
                desk.manager.tend_logs(shelf.opener, "vps-01")
        assert len(shelf.held) == len(set(shelf.held))
    desk.manager.tend_logs(shelf.opener, "vps-01")
    assert sorted(name for names in shelf.names() for name in names) == sorted([*CHUNKS, INDEX])
    assert restored(shelf, tmp_path / "new") == loki.files()


def killed(*_: object) -> None:
    raise KilledError


def test_a_kill_after_the_first_archive_in_a_new_bucket_costs_none_of_the_others(
    desk: Desk, loki: Loki, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "ARCHIVE_BYTES", 1)
    desk.manager.tend_logs(shelf.opener, "vps-01")
    shelf.held.clear()
    desk.time += LOGS_EVERY

    def write(paths: Paths, state: Logs) -> None:
        if shelf.held:
            raise KilledError
        write_logs(paths, state)

    with monkeypatch.context() as patched:
        patched.setattr("overlord.backup.manager.write_logs", write)
        with pytest.raises(KilledError):
            desk.manager.tend_logs(shelf.opener, "vps-01")
    assert len(shelf.held) == 1
    desk.manager.tend_logs(shelf.opener, "vps-01")
    assert restored(shelf, tmp_path / "new") == loki.files()


def test_while_something_else_is_at_work_it_waits_for_its_turn(desk: Desk, shelf: Shelf) -> None:
    with desk.manager.alone():
        assert desk.manager.tend_logs(shelf.opener, "vps-01") is None
        assert read_logs(desk.paths) is None
    assert desk.manager.tend_logs(shelf.opener, "vps-01")


@pytest.fixture
def node(tmp_path: Path, loki: Loki, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A new node, while the bucket has the logs of an old one."""
    send(loki, shelf)
    shelf.changed = time.time()
    node = Node(tmp_path / "node")
    Loki(node.paths.loki_volume)
    monkeypatch.setattr("overlord.firstboot.data.logs_bucket", lambda _: shelf)
    return node


@pytest.fixture
def operator(node: Node, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Operator:
    operator = Operator(node, monkeypatch)
    for module in ("cli", "restore_cli"):
        monkeypatch.setattr(f"overlord.backup.{module}.logs_bucket", lambda _: shelf)
    monkeypatch.setattr("overlord.backup.cli._tend_locks", lambda _: None)
    return operator


def found(node: Node) -> dict[str, bytes]:
    chunks = node.paths.loki_volume / "chunks"
    files = [one for one in chunks.rglob("*") if one.is_file()]
    return {one.relative_to(chunks).as_posix(): one.read_bytes() for one in files}


def test_an_operator_puts_them_back(
    node: Node, operator: Operator, loki: Loki, shelf: Shelf
) -> None:
    code, said = operator.does("restore", "--logs", "--dry-run")
    assert (code, found(node)) == (0, {})
    assert "1 archives of logs, 0.00 GB, up to logs/vps-01/2026-11-27T170500" in said
    code, said = operator.does("restore", "--logs")
    assert (code, "4 files put back" in said, found(node)) == (0, True, loki.files())
    shelf.away = True
    code, said = operator.does("restore", "--logs")
    assert (code, "B2 does not answer" in said) == (1, True)


def test_what_loki_no_longer_keeps_comes_back_into_a_folder_alone(
    node: Node, operator: Operator, loki: Loki, shelf: Shelf, tmp_path: Path
) -> None:
    shelf.changed -= 40 * DAY
    code, said = operator.does("restore", "--logs")
    assert (code, "there are no logs in the bucket" in said) == (1, True)
    code, said = operator.does("restore", "--logs", "--to", str(tmp_path / "copy"))
    assert (code, found(node)) == (0, {})
    copied = tmp_path / "copy/chunks"
    assert {
        one.relative_to(copied).as_posix(): one.read_bytes()
        for one in copied.rglob("*")
        if one.is_file()
    } == loki.files()


@pytest.mark.parametrize(
    "words",
    [("--at", "2026-01-01"), ("--bucket-as-of", "2026-01-01"), ("--from-copy",), ("--metrics",)],
)
def test_what_does_not_go_with_logs_is_refused(
    node: Node, operator: Operator, words: tuple[str, ...]
) -> None:
    code, said = operator.does("restore", "--logs", *words)
    assert (code, "what to do: " in said, found(node)) == (1, True, {})


def test_the_list_tells_of_them(operator: Operator) -> None:
    code, said = operator.does("backup", "list")
    assert (code, "logs of both nodes: 0.00 GB in the bucket" in said) == (0, True)


def test_a_timers_run_sends_them_although_the_snapshot_of_the_metrics_fails(
    node: Node, operator: Operator, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> tuple[str, int]:
        raise OverlordError("Prometheus made no snapshot", "look")

    monkeypatch.setattr("overlord.backup.manager.back_up_samples", fails)
    operator.leads = True
    loki = node.paths.loki_volume / "chunks"
    (loki / "fake/a1").mkdir(parents=True)
    (loki / CHUNKS[0]).write_bytes(b"chunk")
    os.utime(loki / CHUNKS[0], (1000, 1000))
    code, said = operator.does("backup", "tend")
    assert code == 1
    assert "Prometheus made no snapshot" in said
    assert "0.0 MB of logs stored" in said
    assert [one for one in shelf.held if "vps-02" in one] == [
        "logs/vps-02/1970-01-01T001640.000000Z.tar"
    ]


def boots(node: Node) -> str:
    """What the step of a first boot says."""
    context = make_context(node.paths.root / "boot", FakeRunner())
    [said] = data.logs(replace(context, paths=node.paths))
    return said


def test_a_new_node_gets_them_and_one_that_has_some_keeps_them(node: Node, loki: Loki) -> None:
    assert boots(node) == "4 files of 1 archives"
    assert found(node) == loki.files()
    old = node.paths.loki_volume / "chunks/index/index_20000"
    old.mkdir()
    assert boots(node) == "kept what is there"


def test_no_failure_of_it_stops_a_boot(node: Node, shelf: Shelf) -> None:
    [(key, whole)] = shelf.held.items()
    shelf.held[key] = whole[:700]
    assert boots(node).startswith("none from before: the archive is damaged")
    shelf.away = True
    assert "restore --logs` tries again" in boots(node)
    shelf.away = False
    shelf.held.clear()
    assert boots(node) == "there are none"


def test_the_name_of_the_bucket_reaches_the_node(tmp_path: Path) -> None:
    boot = BootSettings("vps-01", "a", "d", (), (), None, None)
    file = Paths(tmp_path).current / "nodes/vps-01/node.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"backup": {"buckets": {"data": "d", "logs": "l"}}}))
    assert read_backup_terms(Paths(tmp_path), boot).logs == "l"
