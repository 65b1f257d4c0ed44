"""moto's S3 as a WSGI application, and what the front must know of its buckets.

All buckets and objects live in this process's memory (large objects spill to unnamed temporary
files). They are gone when the process ends, but for those that it was told to save.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

# Read by moto when it is imported: buckets are path-style whatever the Host header says.
os.environ.setdefault("S3_IGNORE_SUBDOMAIN_BUCKETNAME", "true")

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import FakeDeleteMarker, s3_backends
from moto.s3.utils import _VersionedKeyStore

from sandbox.cloud.s3 import moto_as_b2
from sandbox.cloud.s3.rules import BucketFacts
from sandbox.world import SAVED_BUCKET

SPOOLED = "sandbox.spooled"
"""Where the front leaves the request's body in the ASGI scope."""


class MotoStorage:
    """moto behind one lock, since its models are not made for threads."""

    def __init__(self) -> None:
        moto_as_b2.apply()
        self._app: Any = create_backend_app("s3")
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve one request. The body was spooled before, so no slow client holds the lock."""
        scope = environ["asgi.scope"]
        environ["wsgi.input"] = scope[SPOOLED]
        query = scope["query_string"].decode("latin1")
        path = scope["raw_path"].decode("latin1").partition("?")[0]
        # moto decodes keys from here; PATH_INFO has lost the difference between / and %2F.
        environ["RAW_URI"] = environ["REQUEST_URI"] = f"{path}?{query}" if query else path
        with self._lock:
            answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    def facts(self, name: str) -> BucketFacts | None:
        """Describe a bucket."""
        bucket = self._buckets().get(name)
        if bucket is None:
            return None
        return BucketFacts(
            locked=bool(bucket.object_lock_enabled),
            versioned=bool(bucket.is_versioned),
            empty=not any(True for _ in bucket.keys),
        )

    def public(self, name: str) -> bool:
        """Tell whether a bucket's ACL lets everybody read."""
        bucket = self._buckets().get(name)
        return bucket is not None and bool(bucket.acl and bucket.acl.public_read)

    def summary(self) -> list[dict[str, Any]]:
        """List buckets with how much is in them."""
        return [_summary(name, bucket) for name, bucket in sorted(self._buckets().items())]

    def save(self, folder: Path, leave_out: Collection[str]) -> list[dict[str, Any]]:
        """Write each bucket that holds anything into a file of its own, in place of what was there.

        Args:
            folder: where to.
            leave_out: names of buckets that are not written.

        Returns:
            The buckets that were written, as `summary` lists them.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            saved = {
                name: bucket
                for name, bucket in sorted(self._buckets().items())
                if name not in leave_out and any(True for _ in bucket.keys)
            }
            for name, bucket in saved.items():
                draft = folder / f"{name}.new"
                with draft.open("wb") as file:
                    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(bucket)
                draft.replace(folder / f"{name}{SAVED_BUCKET}")
        for path in folder.iterdir():
            if path.name.removesuffix(SAVED_BUCKET) not in saved:
                path.unlink()
        return [_summary(name, bucket) for name, bucket in saved.items()]

    def load(self, folder: Path) -> None:
        """Take over what `save` has written into a folder; one that is not there is empty."""
        for path in sorted(folder.glob(f"*{SAVED_BUCKET}")):
            with path.open("rb") as file:
                self._buckets()[path.stem] = pickle.load(file)  # noqa: S301 (our own)

    def _buckets(self) -> dict[str, Any]:
        buckets: dict[str, Any] = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets
        return buckets


class _Pickler(pickle.Pickler):
    """Writes moto's objects with all their versions: pickle itself sees but the newest of each."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _VersionedKeyStore):
            return _keys, ([(key, obj.getlist(key)) for key in obj],)
        return NotImplemented


def _keys(versions: list[tuple[str, list[Any]]]) -> _VersionedKeyStore:
    keys = _VersionedKeyStore()
    for key, of_key in versions:
        keys.setlist(key, of_key)
    return keys


def _summary(name: str, bucket: Any) -> dict[str, Any]:
    versions = [version for key in bucket.keys for version in bucket.keys.getlist(key)]
    return {
        "name": name,
        "objects": len(list(bucket.keys.keys())),
        "versions": len(versions),
        "bytes": sum(one.size for one in versions if not isinstance(one, FakeDeleteMarker)),
        "object_lock": bool(bucket.object_lock_enabled),
    }
