"""Something is made again exactly when what it is made from has changed."""

from __future__ import annotations

from pathlib import Path

from sandbox.stamps import Stamps, digest


def test_the_hash_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = digest(tmp_path)
    (tmp_path / "a").write_text("2")
    second = digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, digest(tmp_path)}) == 3


def test_what_python_and_node_leave_behind_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = digest(tmp_path)
    for name in ("__pycache__", "node_modules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    assert digest(tmp_path) == before


def test_parts_do_not_run_into_each_other() -> None:
    assert digest("ab", "c") != digest("a", "bc")


def test_a_stamp_matches_until_it_is_forgotten(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    assert not stamps.matches("tool", "one")
    stamps.write("tool", "one")
    assert stamps.matches("tool", "one")
    assert not stamps.matches("tool", "two")
    stamps.forget("tool")
    assert not stamps.matches("tool", "one")
