"""Where moto answers otherwise than B2 does, it is made to answer as B2."""

from __future__ import annotations

from typing import Any, cast

from moto.s3.models import FakeDeleteMarker, S3Backend

_list_all = S3Backend.list_objects


def _list_visible(
    backend: S3Backend,
    bucket: Any,
    prefix: str | None,
    delimiter: str | None,
    marker: str | None,
    max_keys: int | None,
) -> tuple[Any, list[str], bool, str | None]:
    """List objects and the prefixes up to the delimiter, each part of a visible object's key as at
    B2. moto names those too of which everything is hidden."""
    keys, _, truncated, following = _list_all(
        backend, bucket, prefix, delimiter, marker=marker, max_keys=max_keys
    )
    start, folders = prefix or "", set()
    for name, key in bucket.keys.items():
        head, found, _ = name.removeprefix(start).partition(delimiter or "/")
        if delimiter and found and name.startswith(start) and not isinstance(key, FakeDeleteMarker):
            folders.add(f"{start}{head}{found}")
    return keys, sorted(folders), truncated, following


def _lock(
    backend: S3Backend,
    bucket_name: str,
    lock_enabled: bool,
    mode: str | None = None,
    days: int | None = None,
    years: int | None = None,
) -> None:
    """Change a locked bucket's default retention, whatever is in it, as B2 and S3 do. moto wants
    the bucket to be empty."""
    bucket = backend.get_bucket(bucket_name)
    if not (bucket.object_lock_enabled and lock_enabled):
        _lock_new(backend, bucket_name, lock_enabled, mode, days, years)
    bucket.default_lock_mode, bucket.default_lock_days = mode, days
    bucket.default_lock_years = years


_lock_new = S3Backend.put_object_lock_configuration


def apply() -> None:
    """Make moto answer as B2 does, in this process. Twice is as once."""
    backend = cast(Any, S3Backend)
    backend.list_objects = _list_visible
    backend.put_object_lock_configuration = _lock
