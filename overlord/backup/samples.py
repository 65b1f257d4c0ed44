"""A snapshot of Prometheus's samples, by its own admin API, into the data bucket, and back."""

import json
import os
import re
import shutil
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from os import fdopen, pipe
from pathlib import Path
from typing import BinaryIO

from overlord.backup.objects import Stored
from overlord.errors import OverlordError

_IN_BLOCK = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}(/[a-z][a-z.]*|/chunks/[0-9]+)")
"""A file of a block, whose name is a ULID."""
SAMPLES = "metrics/"
"""Where snapshots are in the bucket, each below the name of its node."""
PROMETHEUS = "http://127.0.0.1:9090"
Upload = Callable[[str, BinaryIO], int]


def back_up_samples(
    volume: Path, node: str, upload: Upload, now: float, prometheus: str = PROMETHEUS
) -> tuple[str, int]:
    """Store a snapshot; returns its key and its bytes. Raises OverlordError.

    A snapshot is made of links, so it takes no room beside what is there. It goes as it is read:
    the disk need not hold it twice. Samples are packed tightly already, so it is not compressed.
    """
    name = _snapshot(prometheus)
    folder = volume / "snapshots" / name
    moment = datetime.fromtimestamp(now, UTC)
    key = f"{SAMPLES}{node}/{moment:%Y-%m-%dT%H%M%SZ}.tar"
    try:
        if not folder.is_dir():
            raise OverlordError(
                f"Prometheus made snapshot {name}, and {folder} is not there",
                "is the volume of Prometheus elsewhere? see `docker volume inspect`",
            )
        return key, _send(folder, key, upload)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def newest_snapshot(objects: Iterable[Stored]) -> str:
    """Key of the newest one of either node; empty where there is none."""
    return max((one.key for one in objects), key=lambda key: key.rpartition("/")[2], default="")


def put_back(volume: Path, archive: BinaryIO) -> int:
    """Unpack a snapshot's blocks beside those that are there; returns how many were new.

    Prometheus looks for blocks once a minute and need not be stopped; where two overlap it joins
    them. A block appears all at once.

    Args:
        volume: Prometheus's folder.
        archive: as `back_up_samples` has stored it; read once, from the front.

    Raises:
        OverlordError: it is no such archive, or it ends too early; then nothing is put back.
    """
    arriving = volume / "arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    owner = volume.stat()
    try:
        with tarfile.open(fileobj=archive, mode="r|") as members:
            for member in members:
                _unpack(members, member, arriving)
    except tarfile.TarError as error:
        raise OverlordError(
            f"the snapshot is damaged: {error}", "take an earlier one: docs/operations/restore.md"
        ) from None
    else:
        blocks = sorted(arriving.iterdir()) if arriving.is_dir() else []
        new = [block for block in blocks if not (volume / block.name).exists()]
        for block in new:
            for path in (block, *block.rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid)
            block.rename(volume / block.name)
        return len(new)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _unpack(members: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """One file of a block; all else, such as a link or a path that leads out, is left behind."""
    name = member.name.removeprefix("./")
    content = members.extractfile(member) if member.isfile() else None
    if content is None or not _IN_BLOCK.fullmatch(name):
        return
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file, 1024**2)


def _snapshot(prometheus: str) -> str:
    url = f"{prometheus}/api/v1/admin/tsdb/snapshot"
    request = urllib.request.Request(url, method="POST")  # noqa: S310 (loopback)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 (loopback)
            name = json.loads(answer.read())["data"]["name"]
    except (OSError, ValueError, KeyError) as error:
        raise OverlordError(
            f"Prometheus made no snapshot: {type(error).__name__}",
            "see `overlordctl logs prometheus`",
        ) from error
    if not isinstance(name, str) or "/" in name or name.startswith("."):
        raise OverlordError(
            "Prometheus named a snapshot that is no folder's name",
            "see `overlordctl logs prometheus`",
        )
    return name


def _send(folder: Path, key: str, upload: Upload) -> int:
    reading, writing = pipe()
    failed: list[Exception] = []

    def write() -> None:
        # A reader that gave up shows as a broken pipe; its own error is the one to tell.
        with suppress(BrokenPipeError), fdopen(writing, "wb") as target:
            try:
                with tarfile.open(fileobj=target, mode="w|") as archive:
                    archive.add(folder, arcname=".")
            except Exception as error:
                failed.append(error)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        with fdopen(reading, "rb") as source:
            size = upload(key, _Whole(source, failed))  # type: ignore[arg-type]
    finally:
        writer.join(60)
    return size


class _Whole:
    """The reading end: its end is an error when the writer failed, so that half an archive is never
    taken for one."""

    def __init__(self, source: BinaryIO, failed: list[Exception]) -> None:
        self._source, self._failed = source, failed

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        if not data and self._failed:
            raise OverlordError(
                f"the snapshot could not be read: {type(self._failed[0]).__name__}",
                "is the disk sound? see `journalctl -k`",
            )
        return data
