"""moto's S3 as a WSGI application, and what the front must know of its buckets.

All buckets and objects live in this process's memory (large objects spill to unnamed temporary
files). They are gone when the process ends: the sandbox's object store is for trying things out.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any, cast

# Read by moto when it is imported: buckets are path-style whatever the Host header says.
os.environ.setdefault("S3_IGNORE_SUBDOMAIN_BUCKETNAME", "true")

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import FakeDeleteMarker, S3Backend, s3_backends

from sandbox.cloud.s3.rules import BucketFacts

SPOOLED = "sandbox.spooled"
"""Where the front leaves the request's body in the ASGI scope."""


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


cast(Any, S3Backend).list_objects = _list_visible


class MotoStorage:
    """moto behind one lock, since its models are not made for threads."""

    def __init__(self) -> None:
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
        return [
            {
                "name": name,
                "objects": len(list(bucket.keys.keys())),
                "versions": sum(len(bucket.keys.getlist(key)) for key in bucket.keys),
                "object_lock": bool(bucket.object_lock_enabled),
            }
            for name, bucket in sorted(self._buckets().items())
        ]

    def _buckets(self) -> dict[str, Any]:
        buckets: dict[str, Any] = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets
        return buckets
