"""An S3 request taken apart: which bucket, which key, which call."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from starlette.datastructures import Headers
from starlette.types import Scope


@dataclass(frozen=True)
class S3Request:
    """The parts of a path-style request that rules and signatures look at."""

    method: str
    raw_path: str
    query: tuple[tuple[str, str], ...]
    headers: Headers

    @classmethod
    def of(cls, scope: Scope) -> S3Request:
        """Take an ASGI scope apart."""
        query = parse_qsl(scope["query_string"].decode("latin1"), keep_blank_values=True)
        raw = scope["raw_path"].decode("latin1").partition("?")[0]
        return cls(scope["method"], raw, tuple(query), Headers(scope=scope))

    @property
    def bucket(self) -> str:
        """The bucket's name, empty for the list of buckets."""
        return unquote(self.raw_path.lstrip("/").partition("/")[0])

    @property
    def key(self) -> str:
        """The object's key, empty for calls about the bucket."""
        return unquote(self.raw_path.lstrip("/").partition("/")[2])

    @property
    def parameters(self) -> dict[str, str]:
        """The query; a repeated parameter's last value."""
        return dict(self.query)

    @property
    def about_bucket(self) -> bool:
        """Whether it creates, deletes or probes the bucket as such."""
        return bool(self.bucket) and not self.key and not self.parameters.keys() - SIGNING

    @property
    def creates_bucket(self) -> bool:
        """Whether it is CreateBucket."""
        return self.method == "PUT" and self.about_bucket

    @property
    def deletes_objects(self) -> bool:
        """Whether it is DeleteObjects, which lists them in its body."""
        return self.method == "POST" and not self.key and "delete" in self.parameters

    @property
    def writes_object(self) -> bool:
        """Whether it is PutObject, CopyObject or UploadPart."""
        names = self.parameters.keys() - SIGNING
        return self.method == "PUT" and bool(self.key) and names <= {"partNumber", "uploadId"}


SIGNING = frozenset(
    {
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Content-Sha256",
        "X-Amz-Security-Token",
    }
)
