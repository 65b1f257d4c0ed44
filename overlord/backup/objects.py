"""Reads from and writes to the buckets, as B2 wants it: an MD5 with everything that goes into a
locked bucket, and none of the checksum headers of newer SDKs."""

import base64
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from overlord.backup.causes import cause_of_answer
from overlord.errors import OverlordError
from overlord.node import BundleStore, read_backup_terms, read_boot_settings, read_node
from overlord.paths import Paths
from overlord.s3 import SYSTEM_TRUST, s3_client

PART_BYTES = 32 * 1024**2
KEPT_FREE = 0.2
"""Part of the disk that stays free, about where the first alert about the disk begins."""
DAYS_A_YEAR = 365
NO_LOCK = (
    "ObjectLockConfigurationNotFoundError",
    "NoSuchObjectLockConfiguration",
)
"""How S3's implementations say that a bucket locks nothing."""


@dataclass(frozen=True)
class Stored:
    """An object in a bucket."""

    key: str
    bytes: int
    changed: int
    """Seconds since the epoch."""


def place(folder: Path, name: str) -> Path:
    """Where an object goes below a folder. Raises OverlordError for one that would lie elsewhere:
    whoever has the nodes' key can name an object as they like."""
    if {"", ".", ".."} & set(name.split("/")):
        raise OverlordError(
            f"an object in the bucket has a name that is no path: {name!r}",
            "pgBackRest makes no such names: docs/runbooks/compromised.md",
        )
    return folder / name


def look_for_room(folder: Path, size: int, what: str) -> None:
    """Raises OverlordError when so many bytes would not leave enough of a folder's disk free."""
    disk = shutil.disk_usage(folder)
    # As df counts: what is reserved for root is neither used nor free.
    lacking = size + KEPT_FREE * (disk.used + disk.free) - disk.free
    if size and lacking > 0:
        raise OverlordError(
            f"no room for {what}: {lacking / 1000**3:.1f} GB more would have to be free, so that "
            f"{KEPT_FREE:.0%} of the disk stay so",
            "docs/runbooks/disk-full.md; what is there stays as it was",
        )


@dataclass(frozen=True)
class Bucket:
    """A bucket and a client for it."""

    name: str
    client: Any

    def upload(self, key: str, source: BinaryIO) -> int:
        """Store all that can be read, in parts; returns how many bytes. Raises OverlordError."""
        with _explained(f"{key} could not be stored in bucket {self.name}"):
            return self._upload(key, source)

    def fetch_as_of(self, prefix: str, moment: datetime, folder: Path) -> int:
        """Fetch what was below a prefix at a moment, whatever was hidden or overwritten since;
        returns how many objects. Raises OverlordError."""
        as_of = f"as of {moment:%Y-%m-%d %H:%M:%S} UTC"
        with _explained(f"bucket {self.name} could not be read {as_of}"):
            wanted = self._versions_as_of(prefix, moment)
            for key, version in sorted(wanted.items()):
                target = place(folder, key.removeprefix(prefix))
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fetch(target, Key=key, VersionId=version)
        return len(wanted)

    def objects(self, prefix: str) -> list[Stored]:
        """What there is below a prefix, by key. Raises OverlordError."""
        pages = self.client.get_paginator("list_objects_v2")
        with _explained(f"bucket {self.name} could not be listed"):
            return [
                Stored(one["Key"], one["Size"], int(one["LastModified"].timestamp()))
                for page in pages.paginate(Bucket=self.name, Prefix=prefix)
                for one in page.get("Contents", ())
            ]

    def fetch(self, key: str, target: Path) -> int:
        """Write an object into a file; returns its bytes, which are on the disk then. Raises
        OverlordError, and OSError where the file cannot be written."""
        with self._reading(key):
            return self._fetch(target, Key=key)

    @contextmanager
    def opened(self, key: str) -> Iterator[BinaryIO]:
        """An object to be read from the front, as it comes. Raises OverlordError, while it is read
        too."""
        with self._reading(key):
            yield self.client.get_object(Bucket=self.name, Key=key)["Body"]

    def lock_days(self) -> int:
        """Days that the bucket locks each new object for; 0 without a lock. Raises
        OverlordError."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self.client.get_object_lock_configuration(Bucket=self.name)
        except (ClientError, BotoCoreError) as error:
            if _code(error) in NO_LOCK:
                return 0
            raise _failed(f"the lock of bucket {self.name} could not be read", error) from None
        lock = answer.get("ObjectLockConfiguration", {})
        rule = lock.get("Rule", {}).get("DefaultRetention", {})
        if lock.get("ObjectLockEnabled") != "Enabled":
            return 0
        return int(rule.get("Days", 0)) + DAYS_A_YEAR * int(rule.get("Years", 0))

    def _reading(self, key: str) -> AbstractContextManager[None]:
        return _explained(f"{key} could not be read in bucket {self.name}")

    def _fetch(self, target: Path, **which: str) -> int:
        with target.open("wb") as file:
            answer = self.client.get_object(Bucket=self.name, **which)
            size = sum(file.write(chunk) for chunk in answer["Body"].iter_chunks(1024**2))
            file.flush()
            os.fsync(file.fileno())
        return size

    def _versions_as_of(self, prefix: str, moment: datetime) -> dict[str, str]:
        """The version in force at a moment, by key; keys that were hidden then are left out."""
        newest: dict[str, tuple[datetime, str | None]] = {}
        pages = self.client.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=self.name, Prefix=prefix):
            for kind in ("Versions", "DeleteMarkers"):
                for one in page.get(kind, ()):
                    when, key = one["LastModified"], one["Key"]
                    if when <= moment and (key not in newest or when >= newest[key][0]):
                        newest[key] = (when, one["VersionId"] if kind == "Versions" else None)
        return {key: version for key, (_, version) in newest.items() if version is not None}

    def _upload(self, key: str, source: BinaryIO) -> int:
        where = {"Bucket": self.name, "Key": key}
        upload = {**where, "UploadId": self.client.create_multipart_upload(**where)["UploadId"]}
        done, size = [], 0
        try:
            for number, part in enumerate(_parts(source), start=1):
                digest = base64.b64encode(hashlib.md5(part, usedforsecurity=False).digest())
                answer = self.client.upload_part(
                    **upload, PartNumber=number, Body=part, ContentMD5=digest.decode()
                )
                done.append({"PartNumber": number, "ETag": answer["ETag"]})
                size += len(part)
            self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
        except BaseException:
            # What is uploaded is paid for, even if it is no object yet.
            self.client.abort_multipart_upload(**upload)
            raise
        return size


def _code(error: Exception) -> str:
    answer: dict[str, Any] = getattr(error, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """What the client raises in the block, as an OverlordError."""
    # Slow to import, and most commands never ask a bucket.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise _failed(what, error) from None


def _failed(what: str, error: Exception) -> OverlordError:
    """An error of the client, with the cause behind it."""
    if code := _code(error):
        message = str(error.response["Error"].get("Message", ""))  # type: ignore[attr-defined]
        cause = cause_of_answer(code, message)
        return OverlordError(f"{what}: {cause.what}", cause.remedy)
    return OverlordError(
        f"{what}: B2 does not answer ({type(error).__name__})", "is B2 reachable from the node?"
    )


def _parts(source: BinaryIO) -> Iterator[bytes]:
    """At least one, and all but the last of one size."""
    part = _read(source)
    yield part
    while len(part) == PART_BYTES:
        part = _read(source)
        if part:
            yield part


def _read(source: BinaryIO) -> bytes:
    """Up to a part's size: a pipe gives less at a time."""
    chunks: list[bytes] = []
    missing = PART_BYTES
    while missing and (chunk := source.read(missing)):
        chunks.append(chunk)
        missing -= len(chunk)
    return b"".join(chunks)


def open_bucket(
    store: BundleStore, name: str, key_id: str, key: str, trust: str = SYSTEM_TRUST
) -> Bucket:
    """A bucket at the store's endpoint."""
    return Bucket(name, s3_client(store, key_id, key, trust))


def data_bucket(paths: Paths) -> Bucket:
    """The bucket of this node's backups. Raises OverlordError when the node is not known."""
    boot = read_boot_settings(paths)
    name = read_backup_terms(paths, boot).bucket
    return _open_with(paths, read_node(paths, boot).bundles, name, "b2_key")


def logs_bucket(paths: Paths) -> Bucket:
    """The bucket of the logs. Raises OverlordError when the node is not known."""
    boot = read_boot_settings(paths)
    name = read_backup_terms(paths, boot).logs
    return _open_with(paths, read_node(paths, boot).bundles, name, "b2_key")


def second_bucket(paths: Paths) -> Bucket:
    """The bucket of the second repository. Raises OverlordError where there is none."""
    store = read_backup_terms(paths, read_boot_settings(paths)).second
    if store is None:
        raise OverlordError("there is no second repository", "docs/operations/backup.md")
    return _open_with(paths, store, store.bucket, "second_b2_key")


def _open_with(paths: Paths, store: BundleStore, name: str, secret: str) -> Bucket:
    """A bucket by the key in a secret of this node, whose id is in the secret beside it."""
    key_id, key = ((paths.secrets / one).read_text().strip() for one in (f"{secret}_id", secret))
    return open_bucket(store, name, key_id, key)
