"""Samples of one Prometheus come back in another one."""

from __future__ import annotations

import io
import json
import tarfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from overlord.backup.samples import back_up_samples, put_back
from overlord.errors import OverlordError
from tests.support.ports import free_port
from tests.support.programs import command, running


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A Prometheus that asks itself for its metrics each second; its address."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    settings = folder.parent / f"{folder.name}.yml"
    target = {"job_name": "itself", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    settings.write_text(
        json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [target]})
    )
    line = command(
        "prometheus", f"--config.file={settings}", f"--storage.tsdb.path={folder}",
        f"--web.listen-address=127.0.0.1:{port}", "--web.enable-admin-api",
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with running(line, folder.parent / f"{folder.name}.log"):
        until(lambda: samples(address, "up", time.time()) == 1)
        yield address


def until(holds: object, seconds: float = 30.0) -> None:
    assert callable(holds)
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def samples(address: str, query: str, at: float) -> int:
    """How many series a query finds at a moment."""
    words = urllib.parse.urlencode({"query": query, "time": at})
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query?{words}", timeout=5) as answer:
            return len(json.loads(answer.read())["data"]["result"])
    except OSError:
        return 0


def taken(folder: Path, address: str) -> bytes:
    """A snapshot, as it goes into the bucket."""
    stored: list[bytes] = []

    def upload(_: str, source: BinaryIO) -> int:
        stored.append(b"".join(iter(lambda: source.read(2**16), b"")))
        return len(stored[0])

    back_up_samples(folder, "vps-01", upload, time.time(), address)
    return stored[0]


def test_samples_of_a_lost_node_are_there_again_in_a_new_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with prometheus(old) as address:
        seen = time.time()
        archive = taken(old, address)
    new.mkdir()
    assert put_back(new, io.BytesIO(archive)) == 1
    assert put_back(new, io.BytesIO(archive)) == 0
    with prometheus(new) as address:
        assert samples(address, "prometheus_build_info", seen) == 1
        assert samples(address, "prometheus_build_info", seen - 3600) == 0
    log = (tmp_path / "new.log").read_text()
    assert "Found healthy block" in log, log


def test_half_a_snapshot_puts_nothing_back(tmp_path: Path) -> None:
    with prometheus(tmp_path / "old") as address:
        archive = taken(tmp_path / "old", address)
    new = tmp_path / "new"
    new.mkdir()
    with pytest.raises(OverlordError, match="the archive is damaged"):
        put_back(new, io.BytesIO(archive[: len(archive) // 2]))
    assert list(new.iterdir()) == []


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    made = io.BytesIO()
    block = "0123456789ABCDEFGHJKMNPQRS"
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in ("../outside", f"{block}/../../outside", "/outside", f"{block}/index"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo(f"{block}/meta.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    volume = tmp_path / "volume"
    volume.mkdir()
    assert put_back(volume, io.BytesIO(made.getvalue())) == 1
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "volume", f"volume/{block}", f"volume/{block}/index",
    ]  # fmt: skip
