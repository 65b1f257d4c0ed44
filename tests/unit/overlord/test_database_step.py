"""The first boot's step `database`: it does what was decided, and asks again while it waits."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from overlord.actions.database import has_database, wanted_mark
from overlord.errors import OverlordError
from overlord.facts.peer import Peer
from overlord.firstboot import data
from overlord.firstboot.context import Context
from overlord.roles.origin import PATIENCE
from overlord.runner import Command, Result
from tests.unit.overlord.fakes import FakeRunner
from tests.unit.overlord.test_backup import info
from tests.unit.overlord.test_firstboot import make_context

EMPTY = Peer("vps-02", "unknown", False, 0, data=False)
NO_BACKUP = {" info": Result(0, info(2, 2, ()))}
PRIMARY = Peer("vps-02", "primary", True, 2, data=True, migrated=True)


def context(root: Path, runner: FakeRunner, peer: Callable[[str], Peer | None]) -> Context:
    found = make_context(root, runner)
    home = found.paths.current / "nodes/vps-01"
    (home / "secrets.json").write_text('{"gid": 0, "mode": "0440", "files": []}')
    return replace(found, node=replace(found.node, peer="vps-02"), ask_peer=peer)


def test_the_first_primary_makes_an_empty_database(tmp_path: Path) -> None:
    runner = FakeRunner(NO_BACKUP)
    assert data.database(context(tmp_path, runner, lambda _: EMPTY)) == ["made an empty one"]
    assert runner.ran("database-tool init")


def test_what_is_on_disk_is_kept(tmp_path: Path) -> None:
    runner = FakeRunner()
    found = context(tmp_path, runner, lambda _: PRIMARY)
    (found.paths.database_volume / "pgdata").mkdir(parents=True)
    (found.paths.database_volume / "pgdata/PG_VERSION").write_text("15\n")
    assert has_database(found.paths)
    assert data.database(found) == ["kept what is there"]
    assert not runner.ran("database-tool")


def test_a_copy_that_fails_is_tried_again(tmp_path: Path) -> None:
    results = [Result(1), Result(0)]

    def clone(_: Command) -> Result:
        return results.pop(0)

    runner = FakeRunner({"database-tool clone vps-02": clone})
    assert data.database(context(tmp_path, runner, lambda _: PRIMARY)) == ["copied from vps-02"]
    assert results == []


def test_a_peer_that_never_answers_ends_the_step_with_a_remedy(tmp_path: Path) -> None:
    found = context(tmp_path, FakeRunner(NO_BACKUP), lambda _: None)
    with pytest.raises(OverlordError) as failure:
        data.database(found)
    assert found.clock() >= PATIENCE
    assert "vps-02" in failure.value.what
    assert "overlord-launch run" in failure.value.remedy


def test_when_no_node_has_the_database_the_newest_backup_is_restored(tmp_path: Path) -> None:
    report = '{"bytes": 5000000, "fetch_seconds": 7, "replay_seconds": 2, "last_commit": 1000.0}'
    runner = FakeRunner({" info": Result(0, info()), "restore": Result(0, f"a line\n{report}\n")})
    assert data.database(context(tmp_path, runner, lambda _: EMPTY)) == [
        "restored the newest backup",
        "5 MB, fetched in 7 s, log replayed in 2 s",
        "last transaction 1970-01-01 00:16:40 UTC",
    ]
    assert not runner.ran("database-tool init")


def test_a_restore_that_fails_is_tried_again_and_then_named(tmp_path: Path) -> None:
    runner = FakeRunner({" info": Result(0, info()), "restore": Result(1, "", "no route to host")})
    with pytest.raises(OverlordError, match="no route to host"):
        data.database(context(tmp_path, runner, lambda _: EMPTY))
    assert len([line for line in runner.lines if "database-tool restore" in line]) == 3
    assert not runner.ran("database-tool init")


def test_no_database_is_made_while_the_bucket_cannot_be_read(tmp_path: Path) -> None:
    runner = FakeRunner({" info": Result(1, "", "403")})
    with pytest.raises(OverlordError, match="backup repository cannot be read"):
        data.database(context(tmp_path, runner, lambda _: EMPTY))
    assert not runner.ran("database-tool init")


def test_the_schema_is_due_again_when_a_password_or_the_image_changes(tmp_path: Path) -> None:
    found = context(tmp_path, FakeRunner(), lambda _: None)
    assert wanted_mark(found.paths, "vps-01") == ""  # a secret is missing: nothing can be said
    for name in ("postgres_superuser_password", "postgres_app_password"):
        (found.paths.secrets / name).write_text(name)
    first = wanted_mark(found.paths, "vps-01")
    assert first.startswith("api:1 ")
    secret = found.paths.secrets / "postgres_app_password"
    secret.write_text("another")
    assert wanted_mark(found.paths, "vps-01") != first
    assert secret.read_text() not in wanted_mark(found.paths, "vps-01")


def test_the_schema_is_due_when_a_release_needs_the_role_of_one_more_service(
    tmp_path: Path,
) -> None:
    """As OpenBao does where it is switched on."""
    found = context(tmp_path, FakeRunner(), lambda _: None)
    for name in ("postgres_superuser_password", "postgres_app_password", "postgres_more_password"):
        (found.paths.secrets / name).write_text(name)
    first = wanted_mark(found.paths, "vps-01")
    after = tmp_path / "after"
    shutil.copytree(found.paths.current, after)
    file = after / "nodes/vps-01/compose.yaml"
    file.write_text(
        file.read_text().replace("app_password]", "app_password, postgres_more_password]")
    )
    found.paths.current.unlink()
    found.paths.current.symlink_to(after)
    assert wanted_mark(found.paths, "vps-01") != first
