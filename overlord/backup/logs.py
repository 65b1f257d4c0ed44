"""What Loki has on its disk, in the logs bucket, and back.

Loki never changes a file that it has written: chunks of lines, and after them an index file that
names them. So what it wrote since the last time goes into the bucket in the order in which it was
written, and no index gets there before its chunks. Nothing is hidden or deleted there: what is old
enough expires.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import nsmallest
from pathlib import Path
from typing import IO

from overlord.backup.archive import Files, store, unpack
from overlord.backup.objects import Bucket, Stored, look_for_room
from overlord.errors import OverlordError

LOGS = "logs/"
"""Where archives are in the bucket, each below the name of its node."""
LOKI_DAYS = 30
"""How long Loki itself keeps a line, and its chunk."""
SETTLED = 60.0
"""Seconds after which a file is taken to be written to its end. Also the most that the clock may be
set back without a file being missed."""
ARCHIVE_BYTES, ARCHIVE_FILES = 256 * 1024**2, 50_000
"""About the most that goes into one archive: after a kill no more than that is sent again."""
_SECOND = 10**9
_DAY = 86400
_CHUNK = r"fake/[0-9a-f]{1,16}/[A-Za-z0-9+=]+"
_INDEX = r"index/index_[0-9]+/(fake/)?[A-Za-z0-9][A-Za-z0-9._-]*\.tsdb(\.gz)?"
_FILE = re.compile(f"{_CHUNK}|{_INDEX}")
"""Loki's tenant is `fake` where it has no users."""
_FOLDERS = ("fake/*", "index/index_*", "index/index_*/fake")


@dataclass(frozen=True, order=True)
class _Written:
    moment: int
    """When it was written, in nanoseconds since the epoch."""
    name: str
    """Below Loki's folder of chunks. A chunk's sorts before that of an index of the same moment."""
    bytes: int


@dataclass(frozen=True)
class Step:
    """An archive that is in the bucket."""

    until: int
    """All that was written before this is in the bucket; nanoseconds since the epoch."""
    bytes: int


def back_up_logs(volume: Path, node: str, bucket: Bucket, since: int, now: float) -> Iterator[Step]:
    """Store what Loki wrote since a moment, and tell of each archive once it is stored. The last
    step is of no archive. No step at all where no Loki has ever run. Raises OverlordError.

    A bucket without an archive of this node, such as one that was made anew, gets all that there
    is: an index in it would name chunks that went into another one.

    Args:
        volume: Loki's folder.
        since: `until` of the last step that was told; 0 for all that there is.
        now: seconds since the epoch.
    """
    chunks = volume / "chunks"
    if not chunks.is_dir():
        return
    until = int((now - SETTLED) * _SECOND)
    # A moment that is still to come was told by a clock that has been set back since.
    if since > until or not bucket.objects(f"{LOGS}{node}/"):
        since = 0
        # To be remembered before the first archive is there and tells otherwise.
        yield Step(since, 0)
    while batch := _next_batch(chunks, since, until):
        moment = datetime.fromtimestamp(batch[-1].moment / _SECOND, UTC)
        key = f"{LOGS}{node}/{moment:%Y-%m-%dT%H%M%S.%fZ}.tar"
        size = store(_opened(chunks, batch), key, bucket.upload)
        since = batch[-1].moment + 1
        yield Step(since, size)
    yield Step(until, 0)


def newest_archives(objects: Iterable[Stored]) -> list[Stored]:
    """Of the node whose logs were added to last, all archives in their order; empty where there
    are none. Both nodes get the same lines, and one that is gone has not got the last ones."""
    by_node: dict[str, list[Stored]] = {}
    for one in objects:
        by_node.setdefault(one.key.rpartition("/")[0], []).append(one)
    newest = max(by_node.values(), key=lambda of: max(one.changed for one in of), default=[])
    return sorted(newest, key=lambda one: one.key)


def for_loki(archives: Iterable[Stored], now: float) -> list[Stored]:
    """Those that may have lines which Loki would still keep."""
    return [one for one in archives if one.changed > now - LOKI_DAYS * _DAY]


def has_earlier_days(volume: Path, now: float) -> bool:
    """Whether a Loki has an index of a day before yesterday's. A new one has none."""
    days = (one.name.rpartition("_")[2] for one in (volume / "chunks").glob("index/index_*"))
    return any(day.isdigit() and int(day) < now // _DAY - 1 for day in days)


def put_back_logs(volume: Path, bucket: Bucket, archives: Iterable[Stored]) -> int:
    """Put the files of archives into a Loki, which may run, beside those that are there; returns
    how many were new. An index comes after its chunks, and each file all at once, so what is cut
    short can be done again.

    Each counts as written now. So the next archive of this node has all of them.

    Raises:
        OverlordError: no room, an archive cannot be read, or a file cannot be written.
    """
    wanted, draft, new = list(archives), volume / "arriving", 0

    def take(name: str, content: IO[bytes]) -> None:
        nonlocal new
        target = volume / "chunks" / name
        if target.exists():
            return
        for folder in reversed(target.relative_to(volume).parents[:-1]):
            if not (volume / folder).exists():
                (volume / folder).mkdir()
                os.chown(volume / folder, owner.st_uid, owner.st_gid)
        with draft.open("wb") as file:
            shutil.copyfileobj(content, file, 1024**2)
        os.chown(draft, owner.st_uid, owner.st_gid)
        draft.replace(target)
        new += 1

    try:
        owner = volume.stat()
        look_for_room(volume, sum(one.bytes for one in wanted), "the logs")
        for one in wanted:
            with bucket.opened(one.key) as archive:
                unpack(archive, _FILE, take)
    except OSError as error:
        raise OverlordError(f"the logs cannot be put back: {error}", "`df -h`") from None
    finally:
        draft.unlink(missing_ok=True)
    os.sync()
    return new


def _written(chunks: Path, since: int, until: int) -> Iterator[_Written]:
    for pattern in _FOLDERS:
        for folder in chunks.glob(pattern):
            # Loki takes away what is too old, at any time.
            with suppress(FileNotFoundError, NotADirectoryError):
                # Most streams have nothing new, and a folder tells so.
                if folder.stat().st_mtime_ns >= since - SETTLED * _SECOND:
                    yield from _of_folder(chunks, folder, since, until)


def _of_folder(chunks: Path, folder: Path, since: int, until: int) -> Iterator[_Written]:
    for entry in os.scandir(folder):
        name = f"{folder.relative_to(chunks).as_posix()}/{entry.name}"
        if not _FILE.fullmatch(name):
            continue
        with suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            if since <= found.st_mtime_ns < until and entry.is_file(follow_symlinks=False):
                yield _Written(found.st_mtime_ns, name, found.st_size)


def _next_batch(chunks: Path, since: int, until: int) -> list[_Written]:
    """The oldest files in their order, about as many as one archive takes; those of one moment
    stay together."""
    size, end = 0, since
    for one in nsmallest(ARCHIVE_FILES, _written(chunks, since, until)):
        size, end = size + one.bytes, one.moment + 1
        if size >= ARCHIVE_BYTES:
            break
    return sorted(_written(chunks, since, end))


def _opened(chunks: Path, batch: Iterable[_Written]) -> Files:
    """An index that is gone by now has been joined into a newer one, which has its turn."""
    for one in batch:
        with suppress(FileNotFoundError):
            yield one.name, (chunks / one.name).open("rb")
