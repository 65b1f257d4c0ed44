"""What the least of a backup takes on the same machine: the disk, the bucket, the processor."""

from __future__ import annotations

import configparser
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

# Of pgBackRest's own uploads.
PART_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True)
class Moved:
    """What was moved, and how long it took.

    Args:
        seconds: wall time.
    """

    bytes: int
    seconds: float

    @property
    def rate(self) -> float:
        """In 10^6 bytes a second."""
        return self.bytes / self.seconds / 1e6


@dataclass(frozen=True)
class Streams:
    """How many pgBackRest has at once."""

    backup: int
    restore: int

    @staticmethod
    def of(settings: str) -> Streams:
        """As pgbackrest.conf has them."""
        parser = configparser.ConfigParser()
        parser.read_string(settings)
        common = parser.getint("global", "process-max")
        return Streams(common, parser.getint("global:restore", "process-max", fallback=common))


@dataclass(frozen=True)
class Access:
    """A bucket and a key for it, for another process.

    Args:
        ca: path of the certificates to trust.
    """

    endpoint: str
    region: str
    key_id: str
    key: str
    ca: str
    bucket: str

    def client(self) -> Any:
        """boto3, which is made for threads."""
        make: Any = boto3.client  # it builds its clients, and their types, as it goes
        options: dict[str, Any] = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "max_pool_connections": 32,
        }
        return make(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.key,
            verify=self.ca,
            config=cast(Any, Config)(**options),
        )


def objects(access: Access, prefix: str) -> dict[str, int]:
    """Sizes by key of what is below a prefix."""
    pages = access.client().get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=access.bucket, Prefix=prefix)
    return {one["Key"]: one["Size"] for page in found for one in page.get("Contents", ())}


def fetch(access: Access, keys: Iterable[str], streams: int) -> Moved:
    """Read objects to their end and keep nothing, so many at once."""
    client = access.client()

    def one(key: str) -> int:
        body = client.get_object(Bucket=access.bucket, Key=key)["Body"]
        return sum(len(chunk) for chunk in body.iter_chunks(1024 * 1024))

    return _timed(one, keys, streams)


def store(access: Access, sizes: Iterable[int], streams: int) -> Moved:
    """Store objects of such sizes, so many at once, in parts as pgBackRest does. Reads no disk."""
    client = access.client()
    config = cast(Any, TransferConfig)(
        multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
    )

    def one(object_: tuple[int, int]) -> int:
        number, size = object_
        with tempfile.TemporaryFile() as hole:
            hole.truncate(size)
            client.upload_fileobj(hole, access.bucket, f"floor/{number}", Config=config)
        return size

    return _timed(one, enumerate(sizes), streams)


def copy(source: Path, target: Path, streams: int, but: str = "") -> Moved:
    """Read all files of a folder and write them to a new one on the disk, so many at once.

    Args:
        but: a folder in it that is left out.
    """

    def one(file: Path) -> int:
        into = target / file.relative_to(source)
        into.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as reader, into.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1024 * 1024)
            writer.flush()
            os.fsync(writer.fileno())
            return writer.tell()

    target.mkdir()
    files = [
        file
        for file in source.rglob("*")
        if file.is_file() and file.relative_to(source).parts[0] != but
    ]
    return _timed(one, files, streams)


def _timed(work: Callable[[Any], int], jobs: Iterable[Any], streams: int) -> Moved:
    started = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        moved = sum(pool.map(work, jobs))
    return Moved(moved, time.perf_counter() - started)
