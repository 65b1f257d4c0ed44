"""A snapshot of Prometheus's samples, by its own admin API, into the data bucket, and back."""

import json
import os
import re
import shutil
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO

from overlord.backup.archive import Files, Upload, store, unpack
from overlord.backup.objects import Stored
from overlord.errors import OverlordError

_IN_BLOCK = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}(/[a-z][a-z.]*|/chunks/[0-9]+)")
"""A file of a block, whose name is a ULID."""
SAMPLES = "metrics/"
"""Where snapshots are in the bucket, each below the name of its node."""
PROMETHEUS = "http://127.0.0.1:9090"


def back_up_samples(
    volume: Path, node: str, upload: Upload, now: float, prometheus: str = PROMETHEUS
) -> tuple[str, int]:
    """Store a snapshot; returns its key and its bytes. Raises OverlordError.

    A snapshot is made of links, so it takes no room beside what is there.
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
        return key, store(_opened(folder), key, upload)
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

    def take(name: str, content: IO[bytes]) -> None:
        target = arriving / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(content, file, 1024**2)

    try:
        unpack(archive, _IN_BLOCK, take)
        blocks = sorted(arriving.iterdir()) if arriving.is_dir() else []
        new = [block for block in blocks if not (volume / block.name).exists()]
        for block in new:
            for path in (block, *block.rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid)
            block.rename(volume / block.name)
        return len(new)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _opened(folder: Path) -> Files:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.open("rb")


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
