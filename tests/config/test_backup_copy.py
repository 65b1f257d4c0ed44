"""The copy of the newest backup on a node's own disk, with PostgreSQL and pgBackRest: the database
comes back out of it while there is no bucket."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from overlord.backup.copy import Copier, Whole, find_copy
from overlord.backup.manager import Manager
from overlord.backup.objects import Bucket
from overlord.backup.repository import Repository
from overlord.backup.restore import Restore
from overlord.backup.source import read_repository
from overlord.commands.backup import BackupTool
from overlord.commands.compose import Compose
from overlord.errors import OverlordError
from overlord.paths import Paths
from sandbox.cloud.faults import Fault
from sandbox.cloud.s3.errors import S3Error
from tests.support.backup_site import DATA, Site, SiteRunner, put, site

pytestmark = pytest.mark.timeout(300)

# In a node both are 60 s.
PATIENCE = {"PGBACKREST_IO_TIMEOUT": "3", "PGBACKREST_ARCHIVE_TIMEOUT": "4"}
GONE = S3Error(404, "NoSuchBucket", "The specified bucket does not exist")
SAMPLES = "metrics/vps-01/2026-11-27T020000Z.tar"
KILLED = """
import os, signal, sys
from pathlib import Path
from overlord.backup.copy import Copier
from overlord.backup.objects import open_bucket
from overlord.backup.repository import parse_info
from overlord.node import BundleStore

home, url, name, key_id, key, trust, objects = sys.argv[1:]
info, left = sys.stdin.read(), int(objects)

def dies_at_last():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return False

bucket = open_bucket(BundleStore(url, "eu-central-003", ""), name, key_id, key, trust)
Copier(Path(home), bucket, lambda _: parse_info(info), dies_at_last).make()
"""
"""A copy in a process of its own, which dies after so many objects."""


class Shelf:
    """The copy of a site, on the disk of its data."""

    def __init__(self, here: Site, folder: Path) -> None:
        self.here, self.home = here, here.data / "backup-copy"
        self.paths, self.compose = Paths(folder), Compose(Path("/compose.yaml"), Path("/env"))
        self.runner = SiteRunner(here, {"PGDATA": f"{DATA}/pgdata"})
        self.said: list[str] = []

    @property
    def kept(self) -> Whole:
        kept = find_copy(self.home)
        assert kept
        return kept

    def copy(self) -> int:
        """Make a copy; returns how many objects were fetched."""
        self.said.clear()
        bucket = Bucket(self.here.bucket, self.here.cloud.node_s3())
        Copier(self.home, bucket, self._read, lambda: False, self.said.append).make()
        return sum(int(line.split()[1]) for line in self.said)

    def killed_copy(self, objects: int) -> None:
        cloud = self.here.cloud
        key = (cloud.tokens.b2_node_key_id, cloud.tokens.b2_node_key)
        where = (str(self.home), cloud.url("s3"), self.here.bucket, *key, str(cloud.ca))
        done = subprocess.run(
            [sys.executable, "-c", KILLED, *where, str(objects)],
            input=self.here.tool("--output=json", "info"),
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr

    def restored(self, name: str) -> str:
        """How many rows a database out of the copy has."""
        self.restore(self.here.data / name)
        self.here.stop()
        self.here.start(f"{name}/pgdata")
        rows = self.here.sql("SELECT count(*) FROM devices")
        self.here.stop(f"{name}/pgdata")
        self.here.start()
        return rows

    def restore(self, to: Path | None) -> None:
        self._open()
        tool = replace(self._tool(), repository=self.kept.repository)
        manager = Manager(self.paths, self.runner, tool, lambda: False)
        Restore(
            *(self.paths, self.runner, self.compose, manager, None, to, self.said.append),
            kept=self.kept,
        ).run()

    def files(self) -> dict[Path, int]:
        return {one: one.stat().st_mtime_ns for one in self.home.rglob("*") if one.is_file()}

    def _read(self, folder: Path) -> Repository:
        self._open()
        return read_repository(self.runner, replace(self._tool(), repository=folder))

    def _tool(self) -> BackupTool:
        return BackupTool(self.compose)

    def _open(self) -> None:
        # A volume shows a folder below root's own. Here the way to it leads through that.
        self.home.chmod(0o711)


@contextmanager
def no_bucket(here: Site) -> Iterator[None]:
    faults = here.cloud.cloud.faults
    body = bytes(GONE.response().body).decode()
    added = faults.add(
        Fault.model_validate({"vendor": "s3", "count": None, "status": GONE.status, "body": body})
    )
    try:
        with pytest.raises(OverlordError, match="no such bucket"):
            here.repository()
        yield
    finally:
        faults.clear(added.id)


def test_the_database_comes_back_out_of_the_copy_while_there_is_no_bucket(tmp_path: Path) -> None:
    with site(PATIENCE) as here:
        here.sql("CREATE TABLE devices AS SELECT g AS id FROM generate_series(1, 3000) g")
        here.back_up()
        here.sql("INSERT INTO devices VALUES (3001)")
        here.flush()
        put(here, SAMPLES, b"samples")
        shelf = Shelf(here, tmp_path)
        all_of_it = shelf.copy()
        first = shelf.kept
        assert (first.folder / SAMPLES).read_bytes() == b"samples"
        info = first.repository / "backup/overlord/backup.info"
        assert info.read_bytes().startswith(b"Salted__")

        here.sql("INSERT INTO devices VALUES (3002)")
        here.back_up("diff")
        here.sql("INSERT INTO devices VALUES (3003)")
        here.flush()
        shelf.killed_copy(objects=6)
        assert shelf.kept == first
        with no_bucket(here):
            assert shelf.restored("first") == "3001"

        more = shelf.copy()
        second = shelf.kept
        assert second.label.startswith(f"{first.label}_")
        assert 0 < more < all_of_it
        with no_bucket(here):
            with pytest.raises(OverlordError, match="no such bucket"):
                shelf.copy()
            assert shelf.kept == second
            assert shelf.restored("second") == "3003"
            before = shelf.files()
            here.stop()
            here.run("rm", "-rf", f"{DATA}/pgdata")
            shelf.restore(None)
            here.run("rm", f"{DATA}/pgdata/standby.signal")
            here.start()
            assert here.sql("SELECT count(*) FROM devices") == "3003"
            here.stop()
            # The log of the database that is in force now is for a bucket, and not for the copy.
            assert shelf.files() == before
        here.start()
        here.flush()
        here.back_up()
        assert here.examine() == ()
