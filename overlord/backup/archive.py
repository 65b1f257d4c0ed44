"""Files as a tar archive in a bucket. It goes while it is made and comes back as it is read, so the
disk need not hold it twice."""

import re
import tarfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from os import fdopen, pipe
from typing import IO, BinaryIO

from overlord.errors import OverlordError

Upload = Callable[[str, BinaryIO], int]
Files = Iterable[tuple[str, BinaryIO]]
"""Names and open files."""


def store(files: Files, key: str, upload: Upload) -> int:
    """Store files as one archive, and close each; returns the archive's bytes. Raises
    OverlordError; then nothing is stored. They are not compressed: what goes this way is packed
    tightly already."""
    reading, writing = pipe()
    failed: list[Exception] = []

    def write() -> None:
        # A reader that gave up shows as a broken pipe; its own error is the one to tell.
        with suppress(BrokenPipeError), fdopen(writing, "wb") as target:
            try:
                with tarfile.open(fileobj=target, mode="w|") as archive:
                    for name, file in files:
                        with file:
                            member = archive.gettarinfo(arcname=name, fileobj=file)
                            # A part of a second takes a kilobyte more for each file.
                            member.mtime = int(member.mtime)
                            archive.addfile(member, file)
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


def unpack(
    archive: BinaryIO, names: re.Pattern[str], take: Callable[[str, IO[bytes]], None]
) -> None:
    """Give each file of an archive, in its order, to a function. All else, such as a link or a
    path that leads out, is left behind.

    Args:
        archive: read once, from the front.
        names: what the names to take look like.
        take: given a name and its content.

    Raises:
        OverlordError: it is no archive, or it ends too early.
    """
    source = _Ending(archive)
    try:
        with tarfile.open(fileobj=source, mode="r|") as members:  # type: ignore[call-overload]
            for member in members:
                name = member.name.removeprefix("./")
                content = members.extractfile(member) if member.isfile() else None
                if content and names.fullmatch(name):
                    take(name, content)
        if not source.ended():
            raise tarfile.ReadError("it has no end")
    except tarfile.TarError as error:
        raise OverlordError(
            f"the archive is damaged: {error}", "take an earlier one: docs/operations/restore.md"
        ) from None


class _Ending:
    """An archive that tells whether it was read to its end mark, which is zeros. Without one,
    `tarfile` takes it for whole."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._last = source, b""

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._last = (self._last + data)[-2 * tarfile.BLOCKSIZE :]
        return data

    def ended(self) -> bool:
        while self.read(tarfile.RECORDSIZE):
            pass
        return self._last == bytes(2 * tarfile.BLOCKSIZE)


class _Whole:
    """The reading end: its end is an error when the writer failed, so that half an archive is never
    taken for one."""

    def __init__(self, source: BinaryIO, failed: list[Exception]) -> None:
        self._source, self._failed = source, failed

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        if not data and self._failed:
            raise OverlordError(
                f"a file could not be read: {type(self._failed[0]).__name__}",
                "is the disk sound? see `journalctl -k`",
            )
        return data
