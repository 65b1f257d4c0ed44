"""The rendered backup configuration, with the programs that it is for: PostgreSQL and pgBackRest
of the sandbox's image, and a bucket with Object Lock at the emulated B2, by the nodes' own key."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from overlord.backup.manager import Manager
from overlord.backup.objects import Bucket
from overlord.backup.repository import Repository, parse_info
from overlord.backup.restore import Restore
from overlord.commands.backup import BackupTool
from overlord.commands.compose import Compose
from overlord.errors import OverlordError
from overlord.paths import Paths
from tests.contract.test_s3 import md5, with_md5
from tests.support import backup_kills
from tests.support.backup_kills import BATCH, KINDS, Record, gaps
from tests.support.backup_site import DATA, TOOL, Site, SiteRunner, objects, put, site

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def backed_up() -> Iterator[Site]:
    """A database with a full backup and changes after it."""
    with site() as here:
        here.sql("CREATE TABLE devices AS SELECT g AS id, 'x' AS t FROM generate_series(1, 5000) g")
        here.back_up()
        here.sql("INSERT INTO devices SELECT g, 'later' FROM generate_series(5001, 6000) g")
        here.flush()
        yield here


def test_the_newest_backup_and_the_log_after_it_restore_and_are_sound(backed_up: Site) -> None:
    assert backed_up.examine() == ()


def test_a_dropped_table_is_back_as_of_the_second_before(backed_up: Site) -> None:
    backed_up.sql("CREATE TABLE dear AS SELECT g AS id FROM generate_series(1, 700) g")
    before = backed_up.sql("SELECT clock_timestamp()")
    backed_up.sql("SELECT pg_sleep(1)")
    backed_up.sql("DROP TABLE dear")
    backed_up.flush()
    backed_up.run("rm", "-rf", f"{DATA}/past")
    backed_up.tool("recover", f"{DATA}/past", "--at", before)
    settings = backed_up.run("cat", f"{DATA}/past/postgresql.auto.conf")
    assert "recovery_target" not in settings
    assert "restore_command" not in settings
    backed_up.stop()
    try:
        backed_up.start("past")
        assert backed_up.sql("SELECT count(*) FROM dear") == "700"
        backed_up.stop("past")
    finally:
        backed_up.start()


def test_nothing_readable_and_no_key_is_in_the_bucket(backed_up: Site) -> None:
    client = backed_up.cloud.s3()
    keys = objects(backed_up, "")
    assert keys
    for key in keys:
        body = client.get_object(Bucket=backed_up.bucket, Key=key)["Body"].read()
        assert body.startswith(b"Salted__"), f"{key} is not encrypted"


def test_the_nodes_key_cannot_take_a_backup_away(backed_up: Site) -> None:
    """What an intruder with all that is on a node can try."""
    node, owner = backed_up.cloud.node_s3(), backed_up.cloud.s3()
    versions = owner.list_object_versions(Bucket=backed_up.bucket, Prefix="database/")["Versions"]
    tries = 0
    for version in versions[:5]:
        where = {
            "Bucket": backed_up.bucket,
            "Key": version["Key"],
            "VersionId": version["VersionId"],
        }
        retention = {"Mode": "GOVERNANCE", "RetainUntilDate": "2020-01-01T00:00:00Z"}
        tried: list[tuple[Any, dict[str, Any]]] = [
            (node.delete_object, where),
            (node.delete_object, {**where, "BypassGovernanceRetention": True}),
            (
                with_md5(node).put_object_retention,
                {**where, "Retention": retention, "BypassGovernanceRetention": True},
            ),
        ]
        for call, arguments in tried:
            with pytest.raises(ClientError, match="AccessDenied"):
                call(**arguments)
            tries += 1
    with pytest.raises(ClientError, match="AccessDenied"):
        node.delete_bucket(Bucket=backed_up.bucket)
    assert tries == 15
    assert (
        owner.list_object_versions(Bucket=backed_up.bucket, Prefix="database/")["Versions"]
        == versions
    )


def test_a_lost_database_is_restored_in_its_place_and_starts_as_a_standby() -> None:
    """As the first boot does it: by the image's own tools, with PGDATA empty."""
    with site() as here:
        here.sql("CREATE TABLE devices AS SELECT g AS id FROM generate_series(1, 77) g")
        here.back_up()
        here.sql("INSERT INTO devices VALUES (78)")
        here.flush()
        here.stop()
        here.run("rm", "-rf", f"{DATA}/pgdata")
        pgdata = ("env", f"PGDATA={DATA}/pgdata")
        report = here.run(*pgdata, "database-tool", "restore")
        assert '"fetch_seconds"' in report
        assert not here.run("sh", "-c", f"ls -A {DATA} | grep -c draft || true").strip("0\n")
        server = (
            "overlord-postgres postgres -c config_file=/etc/overlord/postgres/postgresql.conf "
            f"-c hba_file={DATA}/hba -c listen_addresses= -c shared_buffers=64MB"
        )
        here.run(*pgdata, "sh", "-c", f"{server} > {DATA}/log 2>&1 &")
        answers = "psql -XqAt -U postgres -d overlord -c 'SELECT 1' > /dev/null"
        here.run("timeout", "30", "sh", "-c", f"until {answers}; do sleep 0.1; done")
        assert here.sql("SELECT pg_is_in_recovery()") == "t"
        assert here.sql("SELECT count(*) FROM devices") == "78"
        here.sql("SELECT pg_promote()")
        here.sql("INSERT INTO devices VALUES (79)")
        here.flush()
        here.back_up("diff")
        assert here.examine() == ()
        # In its place there is a database now, which a second restore keeps aside.
        here.stop()
        here.run(*pgdata, "database-tool", "restore")
        assert here.run("sh", "-c", f"ls {DATA}/kept | wc -l").strip() == "1"


def test_a_copy_leaves_the_next_restore_alone() -> None:
    """A copy has a timeline of its own, which nobody must follow."""
    with site() as here:
        here.sql("CREATE TABLE devices AS SELECT g AS id FROM generate_series(1, 10) g")
        here.back_up()
        here.flush()
        here.tool("recover", f"{DATA}/copy")
        here.sql("INSERT INTO devices VALUES (11)")
        here.flush()
        here.stop()
        here.run("env", f"PGDATA={DATA}/pgdata", "database-tool", "restore")
        here.run("rm", f"{DATA}/pgdata/standby.signal")
        here.start()
        assert here.sql("SELECT count(*) FROM devices") == "11"


def test_the_database_as_of_before_a_break_in_comes_out_of_the_bucket(tmp_path: Path) -> None:
    """An intruder with the nodes' key hides and overwrites all there is."""
    with site() as here:
        here.sql("CREATE TABLE devices AS SELECT g AS id FROM generate_series(1, 4321) g")
        here.back_up()
        here.flush()
        here.stop()
        time.sleep(1.1)  # versions are dated by the second
        before = datetime.now(UTC)
        time.sleep(1.1)
        node = here.cloud.node_s3()
        for number, key in enumerate(objects(here, "database/")):
            if number % 2:
                node.delete_object(Bucket=here.bucket, Key=key)
            else:
                node.put_object(Bucket=here.bucket, Key=key, Body=b"x", ContentMD5=md5(b"x"))
        lost = here.try_(TOOL, "recover", f"{DATA}/lost")
        assert lost.returncode != 0
        said: list[str] = []
        runner, compose = SiteRunner(here), Compose(Path("/compose.yaml"), Path("/env"))
        manager = Manager(Paths(tmp_path), runner, BackupTool(compose), lambda: False)
        Restore(
            *(manager.paths, runner, compose, manager, None, here.data / "found", said.append),
            partial(Bucket(here.bucket, node).fetch_as_of, "database/", before),
        ).run()
        assert int(said[0].split()[1]) > 10
        here.start("found/pgdata")
        assert here.sql("SELECT count(*) FROM devices") == "4321"
        here.stop("found/pgdata")


def test_a_damaged_backup_is_found() -> None:
    with site() as here:
        here.sql(
            "CREATE TABLE devices AS SELECT g AS id, md5(g::text) FROM generate_series(1, 9999) g"
        )
        here.back_up()
        here.flush()
        damaged = [key for key in objects(here, "/bundle/") if re.search(r"/bundle/\d+$", key)]
        assert damaged
        body = bytearray(
            here.cloud.s3().get_object(Bucket=here.bucket, Key=damaged[0])["Body"].read()
        )
        middle = len(body) // 2
        body[middle : middle + 64] = bytes(64)
        put(here, damaged[0], bytes(body))
        here.run("rm", "-rf", f"{DATA}/restore-test")
        assert here.try_(TOOL, "examine", f"{DATA}/restore-test").returncode != 0


def test_a_backup_right_after_a_promotion_does_not_wait_for_the_next_checkpoint() -> None:
    with site() as here:
        here.sql("CREATE TABLE devices AS SELECT g AS id FROM generate_series(1, 10) g")
        here.back_up()
        here.stop()
        here.run("touch", f"{DATA}/pgdata/standby.signal")
        here.start()
        # The checkpoint that follows a promotion may take minutes. Here it waits for a second.
        (checkpointer,) = here.processes("postgres: checkpointer")
        os.kill(checkpointer, signal.SIGSTOP)
        go_on = threading.Timer(1, os.kill, (checkpointer, signal.SIGCONT))
        try:
            here.sql("SELECT pg_promote()")
            go_on.start()
            here.back_up("diff")
        finally:
            go_on.join()
        assert here.repository().newest_full != here.repository().newest


def test_whatever_is_killed_the_next_restore_is_whole() -> None:
    """Each kind once; many rounds are played by hand, see docs/benchmarks.md."""
    with site() as here:
        played = backup_kills.play(here, rounds=len(KINDS), seed=20261127, every=2, say=print)
    assert {one.kind for one in played} == set(KINDS)
    assert all(one.killed for one in played)
    assert [one.restored is not None for one in played] == [False, True] * 3


def test_a_commit_that_is_lost_torn_or_never_sent_is_seen() -> None:
    record = Record(acknowledged={1, 2}, doubtful={3})
    whole = {1: BATCH, 2: BATCH}
    assert record.wrong(whole) == []
    assert record.wrong({**whole, 3: BATCH}) == []
    assert record.wrong({1: BATCH}) == ["acknowledged and not there: [2]"]
    assert record.wrong({**whole, 4: BATCH}) == ["there and never sent: [4]"]
    assert record.wrong({**whole, 3: 7}) == ["there in part: {3: 7}"]


def test_a_gap_in_the_archive_is_seen_within_a_timeline_and_where_one_branches_off() -> None:
    def archive(*names: str) -> list[str]:
        return [
            f"database/archive/overlord/15-1/{name[:16]}/{name}-{'0' * 40}.zst" for name in names
        ]

    first = ("0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000")
    assert gaps(archive(*first)) == []
    assert gaps(archive(first[0], first[2])) == ["0000000100000000000000FF"]
    assert gaps(archive(*first, "000000020000000100000000")) == []
    assert gaps(archive(*first, "000000020000000100000001")) == []
    assert gaps(archive(*first, "000000020000000100000002")) == ["000000020000000100000001"]


def test_a_missing_piece_of_the_log_is_found() -> None:
    with site() as here:
        here.sql("CREATE TABLE devices AS SELECT g AS id FROM generate_series(1, 999) g")
        here.back_up()
        for number in range(3):
            here.sql(f"INSERT INTO devices VALUES ({number})")
            here.flush()
        segments = sorted(key for key in objects(here, "/archive/") if key.endswith(".zst"))
        here.cloud.s3().delete_object(Bucket=here.bucket, Key=segments[-3])
        wrong = here.examine()
        assert any("is missing or damaged" in fault for fault in wrong), wrong


def test_an_empty_database_is_no_backup() -> None:
    with site() as here:
        here.tool("--type=full", "backup")
        here.flush()
        wrong = here.examine()
        assert "the row that every backup has to hold is not in it" in wrong
        assert "no table of the application has a row" in wrong


@pytest.mark.parametrize("key", ["b2_key", "backup_cipher_key"])
def test_a_repository_that_cannot_be_read_is_not_taken_for_an_empty_one(
    backed_up: Site, key: str
) -> None:
    script = (
        "rm -rf /tmp/wrong && cp -r /run/secrets /tmp/wrong && "
        f"echo wrong > /tmp/wrong/{key} && OVERLORD_SECRETS=/tmp/wrong {TOOL} --output=json info"
    )
    answer = backed_up.try_("sh", "-c", script)
    with pytest.raises(OverlordError, match="cannot be read"):
        parse_info(answer.stdout if answer.returncode == 0 else "nothing")


def test_a_bucket_without_a_backup_is_seen_as_such(backed_up: Site) -> None:
    text = backed_up.run("env", "PGBACKREST_REPO1_PATH=/elsewhere", TOOL, "--output=json", "info")
    assert parse_info(text) == Repository(backups=(), has_stanza=False)
