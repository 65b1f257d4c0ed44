"""What happens to backups when the bucket, the key, the disk or the clock fails: what the operator
is told, that nothing is lost, and that it goes on by itself."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlord.agent.metrics import render
from overlord.agent.state import State
from overlord.backup.causes import cause_of
from overlord.backup.manager import Manager
from overlord.backup.repository import segment_number
from overlord.commands.backup import BackupTool
from overlord.commands.compose import Compose
from overlord.errors import OverlordError
from overlord.paths import Paths
from sandbox.cloud.faults import Fault
from sandbox.cloud.s3 import api
from sandbox.cloud.s3.errors import S3Error
from tests.support.backup_site import DATA, TOOL, Site, SiteRunner, objects, put, site

pytestmark = pytest.mark.timeout(300)

# In a node both are 60 s.
PATIENCE = {"PGBACKREST_IO_TIMEOUT": "3", "PGBACKREST_ARCHIVE_TIMEOUT": "4"}
DAY = 86400.0
FULL = S3Error(
    403,
    "AccessDenied",
    "Cannot upload files, storage cap exceeded. See the Caps & Alerts page to increase your cap.",
)
"""B2's word, as users of its S3 API report it."""
REVOKED = S3Error(403, "InvalidAccessKeyId", "The key is not valid")


class Node:
    """The backup manager of a site, and what it tells."""

    def __init__(self, here: Site, folder: Path) -> None:
        self.here, self.paths = here, Paths(folder)
        self.ahead = 0.0
        self.said: list[str] = []
        tool = BackupTool(Compose(Path("/compose.yaml"), Path("/compose.env")))
        self.manager = Manager(
            *(self.paths, SiteRunner(here), tool, lambda: True, self.said.append),
            lambda: time.time() + self.ahead,
        )
        self.rows = 0

    def write(self) -> None:
        """What the fleet does all the time; it has to be acknowledged."""
        self.here.sql(f"INSERT INTO devices VALUES ({self.rows}, 'x')")
        self.rows += 1
        self.here.sql("SELECT pg_switch_wal()")

    def refused(self) -> str:
        """The error of a backup that has to fail, with what to do."""
        with pytest.raises(OverlordError) as error:
            self.manager.back_up("full")
        return f"{error.value.what} | {error.value.remedy}"

    def metric(self, name: str) -> float:
        metrics = render(State(), self.paths).decode()
        line = re.search(rf'^{name}(?:{{repository="1"}})? (\S+)$', metrics, re.MULTILINE)
        assert line, f"no metric {name}"
        return float(line[1])

    def caught_up(self) -> None:
        """Wait until all of the log is in the archive; nobody helps it but a fleet that writes."""
        self.write()
        self.until(f"! ls {DATA}/pgdata/pg_wal/archive_status/*.ready")

    def until(self, condition: str) -> None:
        """Wait for a condition of the shell in the container."""
        self.here.run("timeout", "60", "sh", "-c", f"until {condition}; do sleep 0.2; done")

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Do something that makes the archiver give up for a minute, which leaves its reason."""
        lines = int(self.here.run("wc", "-l", f"{DATA}/log").split()[0])
        yield
        self.until(f"tail -n +{lines + 1} {DATA}/log | grep -q 'failed too many times'")

    def works(self) -> None:
        """Everything is well, and was recovered without a hand."""
        self.manager.back_up("full")
        assert self.metric("overlord_backup_failed") == 0
        self.proved()

    def proved(self) -> None:
        self.caught_up()
        test = self.manager.verify()
        assert test.ok, test.faults
        assert test.good_rows["devices"] == self.rows


@contextmanager
def node(folder: Path, disk: str = "") -> Iterator[Node]:
    with site(PATIENCE, disk) as here:
        here.sql("CREATE TABLE devices (id bigint, filler text)")
        one = Node(here, folder)
        one.write()
        one.manager.back_up("full")
        yield one


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with node(tmp_path_factory.mktemp("node")) as one:
        yield one


@pytest.fixture
def vps(shared: Node) -> Iterator[Node]:
    """The node, well before the test and free of faults after it."""
    shared.ahead = 0.0
    yield shared
    shared.here.cloud.cloud.faults.clear()


@contextmanager
def fault(vps: Node, **what: object) -> Iterator[None]:
    """A fault of B2 as long as this lasts."""
    faults = vps.here.cloud.cloud.faults
    added = faults.add(Fault.model_validate({"vendor": "s3", "count": None, **what}))
    try:
        yield
    finally:
        faults.clear(added.id)


def answer(error: S3Error) -> dict[str, object]:
    return {"status": error.status, "body": bytes(error.response().body).decode()}


def archived(vps: Node) -> list[int]:
    names = (key.rsplit("/", 1)[-1] for key in objects(vps.here, "/archive/"))
    return sorted(segment_number(name[:24]) for name in names if name.endswith(".zst"))


def pieces_of_log(vps: Node) -> list[str]:
    for _ in range(3):
        vps.write()
    vps.caught_up()
    return sorted(key for key in objects(vps.here, "/archive/") if key.endswith(".zst"))


def test_a_restore_that_b2_leaves_half_way_fails_and_is_not_taken_for_the_whole(
    vps: Node,
) -> None:
    """PostgreSQL takes most failures of its restore_command for the end of the log."""
    piece = pieces_of_log(vps)[-2]
    with fault(vps, method="GET", path_regex=piece, **answer(REVOKED)):
        lost = vps.here.try_(TOOL, "recover", f"{DATA}/lost")
    vps.here.run("rm", "-rf", f"{DATA}/lost")
    assert lost.returncode != 0
    cause = cause_of(lost.stderr)
    assert cause
    assert "B2 refuses the node's key" in cause.what


def test_a_damaged_piece_of_the_log_is_found_and_named(vps: Node) -> None:
    pieces = pieces_of_log(vps)
    client = vps.here.cloud.s3()
    body = bytearray(client.get_object(Bucket=vps.here.bucket, Key=pieces[-2])["Body"].read())
    body[len(body) // 2 :] = bytes(len(body) - len(body) // 2)
    put(vps.here, pieces[-2], bytes(body))
    test = vps.manager.verify()
    assert not test.ok
    name = pieces[-2].rsplit("/", 1)[-1][:24]
    assert any(name in one and "is damaged" in one for one in test.faults), test.faults
    # The way out that the runbook gives; the next test proves that it is one.
    vps.manager.back_up("full")


def test_a_full_bucket_is_named_and_the_log_catches_up_when_there_is_room(vps: Node) -> None:
    with fault(vps, method="PUT", **answer(FULL)), fault(vps, method="POST", **answer(FULL)):
        with vps.given_up():
            vps.write()
        vps.ahead = 900
        told = vps.refused()
        assert "storage cap exceeded" in told, told
        vps.write()
        # What ArchiveBehind asks for, while the look itself goes well.
        assert vps.metric("overlord_archive_behind_seconds") > 800
        assert vps.metric("overlord_backup_failed") == 1
    vps.ahead = 0.0
    vps.caught_up()
    vps.works()


def test_after_a_day_without_b2_the_log_is_there_without_a_gap(vps: Node) -> None:
    with fault(vps, drop=True):
        for _ in range(12):
            vps.write()
        vps.ahead = DAY
        told = vps.refused()
        assert "B2 does not answer" in told, told
        # Known without the bucket.
        assert vps.metric("overlord_archive_behind_seconds") > DAY - 60
        assert vps.metric("overlord_archive_waiting_segments") >= 12
        assert vps.metric("overlord_backup_failed") == 1
        seen = vps.metric("overlord_backup_seen_timestamp_seconds")
        assert time.time() + vps.ahead - seen > DAY - 60
    vps.ahead = 0.0
    vps.caught_up()
    assert vps.manager.tend() is None
    assert vps.metric("overlord_backup_failed") == 0
    assert vps.metric("overlord_archive_behind_seconds") < 60
    numbers = archived(vps)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    vps.proved()


def test_a_slow_b2_is_borne_and_one_that_hangs_is_told_in_time(vps: Node) -> None:
    with fault(vps, delay=0.03):
        vps.manager.back_up("full")
        vps.proved()
    with fault(vps, delay=20):
        began = time.monotonic()
        told = vps.refused()
        # Two tries of 3 s each, as set above, and not the 20 s of one answer.
        assert time.monotonic() - began < 20
        assert "B2 does not answer: timeout after 3000ms" in told
    vps.caught_up()


@pytest.mark.parametrize(
    ("file", "code"), [("b2_key_id", "InvalidAccessKeyId"), ("b2_key", "SignatureDoesNotMatch")]
)
def test_a_wrong_key_is_said_to_be_refused(vps: Node, file: str, code: str) -> None:
    secret = vps.here.data.parent / "secrets" / file
    right = secret.read_text()
    secret.write_text("wrong")
    try:
        vps.write()
        told = vps.refused()
        assert f"B2 refuses the node's key ({code})" in told
        assert "set a valid key" in told
        test = vps.manager.verify()
        assert any(code in one for one in test.faults), test.faults
        with pytest.raises(OverlordError, match=f"cannot be read: B2 refuses .*{code}"):
            vps.manager.repository()
    finally:
        secret.write_text(right)
    vps.caught_up()


def test_a_key_revoked_in_the_middle_of_a_backup_is_told_and_the_next_one_is_whole(
    vps: Node,
) -> None:
    with fault(vps, method="PUT", path_regex=r"/backup/overlord/\d", **answer(REVOKED)):
        told = vps.refused()
        assert "the full backup failed: B2 refuses the node's key (InvalidAccessKeyId)" in told
        assert vps.metric("overlord_backup_failed") == 1
    vps.manager.back_up("full")
    assert vps.metric("overlord_backup_failed") == 0


def test_a_clock_an_hour_off_is_named(vps: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the node and B2 an hour lies either way; B2's is the one moved here."""

    class Off(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Off:
            return super().now(tz) + dt.timedelta(hours=1)

    with monkeypatch.context() as patch:
        patch.setattr(api, "datetime", Off)
        vps.write()
        told = vps.refused()
        assert "this node's clock is too far off" in told
        assert "chronyc" in told
    vps.caught_up()


def test_a_full_disk_is_named_and_what_was_acknowledged_is_there_when_it_has_room(
    tmp_path: Path,
) -> None:
    with node(tmp_path, disk="340m") as vps:
        fill = f"dd if=/dev/zero of={DATA}/filler bs=64k 2> /dev/null"
        vps.here.try_("sh", "-c", fill)
        test = vps.manager.verify()
        assert any("the disk is full" in one for one in test.faults), test.faults
        assert vps.metric("overlord_restore_test_ok") == 0
        vps.here.try_("sh", "-c", fill)
        told = vps.refused()
        assert "`df -h`" in told, told
        vps.here.run("rm", f"{DATA}/filler")
        # A database without room stops; the container's restart policy starts it again.
        vps.until("! pidof postgres")
        vps.here.start()
        assert vps.here.sql("SELECT count(*) FROM devices") == str(vps.rows)
        vps.works()
