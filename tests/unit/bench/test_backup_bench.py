"""The parts of the backup benchmark that need no server."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click
import pytest

from bench.backup import __main__ as bench
from bench.backup.floors import Moved, Streams, copy
from bench.backup.posts import within
from bench.fleet import Post
from stack.render import render_stack
from tests.support.stack import VPS_01


class Usage(NamedTuple):
    free: float


def test_a_copy_has_every_byte_and_says_how_many(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "base" / "1").mkdir(parents=True)
    (source / "PG_VERSION").write_bytes(b"17\n")
    (source / "base" / "1" / "1259").write_bytes(bytes(range(256)) * 9000)
    (source / "pg_wal").mkdir()
    (source / "pg_wal" / "000000010000000000000001").write_bytes(bytes(99))
    moved = copy(source, tmp_path / "target", 4, but="pg_wal")
    assert moved.bytes == 3 + 256 * 9000
    assert moved.seconds > 0
    for file in ("PG_VERSION", "base/1/1259"):
        assert (tmp_path / "target" / file).read_bytes() == (source / file).read_bytes()
    assert not (tmp_path / "target" / "pg_wal").exists()


def test_streams_are_those_of_the_rendered_configuration() -> None:
    settings = render_stack(VPS_01)["postgres/pgbackrest.conf"].decode()
    assert Streams.of(settings) == Streams(backup=2, restore=4)


def test_a_command_without_a_number_of_its_own_has_the_common_one() -> None:
    assert Streams.of("[global]\nprocess-max=3\n") == Streams(3, 3)


def test_the_tables_hold_what_was_asked_for_in_pieces_of_one_size() -> None:
    rows = bench.pieces(1.2)
    assert sum(rows) == 1_171_875
    assert rows == [500_000, 500_000, 171_875]
    assert bench.pieces(0.001) == [977]


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(35.9e9))
    with pytest.raises(click.ClickException, match="36 GB free, and 10 GB of data need 36 GB"):
        bench.check_room(tmp_path, 10)
    bench.check_room(tmp_path, 9.9)


def test_only_posts_of_the_time_in_which_the_backup_ran_count() -> None:
    posts = [Post(sent, seconds) for sent, seconds in ((0.9, 1), (1.0, 2), (3.0, 3), (3.1, 4))]
    assert within(posts, 1.0, 3.0) == [2, 3]


def test_a_line_says_how_many_times_longer_than_its_floor_a_job_took() -> None:
    line = bench.Line("restore", Moved(10**9, 20.0), "the disk", Moved(2 * 10**9, 8.0))
    assert line.cells == ("restore", "20.0", "50", "the disk", "8.0", "250", "2.50")
