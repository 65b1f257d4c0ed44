"""Files that changed, and processes that nothing here starts."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from overlord.errors import OverlordError
from overlord.facts.processes import out_of_place
from overlord.integrity import (
    SETTLE_SECONDS,
    FileCheck,
    changed_packaged,
    check_files,
    read_file_check,
)
from overlord.paths import Paths
from overlord.runner import Result
from tests.unit.overlord.fakes import FakeRunner

# Copied from a terminal, but for the names.
DPKG_SAYS = """\
??5??????   /usr/bin/ls
missing     /usr/sbin/sshd
missing     /usr/share/man/man1/ls.1.gz
missing     /usr/share/doc/coreutils/copyright
??5?????? c /etc/ssh/sshd_config
missing   c /etc/motd
"""


class Answers(FakeRunner):
    """What dpkg says, one call after the other; the last for ever."""

    def __init__(self, said: Sequence[Result]) -> None:
        super().__init__({"dpkg --verify": lambda _: said[min(len(self.commands), len(said)) - 1]})


def release(root: Path, files: dict[str, bytes]) -> Paths:
    paths = Paths(root)
    paths.current.mkdir(parents=True)
    paths.state.mkdir(parents=True)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    for name, content in {
        "bundle.json": json.dumps({"files": checksums}).encode(),
        **files,
    }.items():
        (paths.current / name).write_bytes(content)
    return paths


def test_what_differs_or_is_gone_is_found_but_settings_and_documentation_may() -> None:
    assert changed_packaged(DPKG_SAYS) == ["/usr/bin/ls differs", "/usr/sbin/sshd is gone"]
    assert changed_packaged("") == []


def test_a_sound_node_is_written_down_as_such_at_once(tmp_path: Path) -> None:
    paths = release(tmp_path, {"node.json": b"{}"})
    assert read_file_check(paths) is None
    runner = Answers([Result(0, "??5?????? c /etc/motd\n")])
    waits: list[float] = []

    check_files(paths, runner, lambda: 1000.0, waits.append)

    assert read_file_check(paths) == FileCheck(1000.0, 0, ())
    assert (waits, len(runner.commands)) == ([], 1)


def test_changed_files_of_packages_and_of_the_release_are_named(tmp_path: Path) -> None:
    paths = release(tmp_path, {"node.json": b"{}", "compose.yaml": b"services: {}", "same": b"1"})
    (paths.current / "node.json").write_bytes(b"{ }")
    (paths.current / "compose.yaml").unlink()

    check_files(paths, Answers([Result(0, DPKG_SAYS)]), lambda: 1000.0, lambda _: None)

    found = read_file_check(paths)
    assert found is not None
    assert found.changed == 4
    assert found.files == (
        "/usr/bin/ls differs",
        "/usr/sbin/sshd is gone",
        f"{paths.current}/node.json differs",
        f"{paths.current}/compose.yaml is gone",
    )


def test_what_an_update_is_just_replacing_is_no_change(tmp_path: Path) -> None:
    paths = release(tmp_path, {})
    waits: list[float] = []

    check_files(
        paths,
        Answers([Result(0, "??5??????   /usr/bin/ls\n"), Result(0, "")]),
        lambda: 1000.0,
        waits.append,
    )

    assert read_file_check(paths) == FileCheck(1000.0, 0, ())
    assert waits == [SETTLE_SECONDS]


def test_a_check_that_could_not_be_made_leaves_the_last_one(tmp_path: Path) -> None:
    paths = release(tmp_path, {})
    check_files(paths, Answers([Result(0, "")]), lambda: 1000.0, lambda _: None)

    with pytest.raises(OverlordError, match="dpkg --verify"):
        check_files(paths, Answers([Result(2, errors="locked")]), lambda: 2000.0, lambda _: None)

    assert read_file_check(paths) == FileCheck(1000.0, 0, ())


def test_a_release_from_before_the_checksums_is_not_complained_about(tmp_path: Path) -> None:
    paths = release(tmp_path, {})
    (paths.current / "bundle.json").write_text('{"version": 1}')
    assert check_files(paths, Answers([Result(0, "")]), lambda: 1.0, lambda _: None).changed == 0


def test_processes_from_where_anybody_may_write_are_named(tmp_path: Path) -> None:
    programs = {
        1: "/usr/lib/systemd/systemd",
        2: None,
        30: "/tmp/.x/miner",
        31: "/memfd:payload (deleted)",
        32: "/memfd:runc_cloned:/proc/self/exe (deleted)",
        33: "/usr/bin/python3.11 (deleted)",
        34: "/app/tmp/gitea",
    }
    for number, program in programs.items():
        process = tmp_path / "proc" / str(number)
        process.mkdir(parents=True)
        if program:
            (process / "exe").symlink_to(program)
    (tmp_path / "proc/self").symlink_to("1")

    assert out_of_place(tmp_path) == ("30 /tmp/.x/miner", "31 /memfd:payload (deleted)")
