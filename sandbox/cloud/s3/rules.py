"""What B2's S3 API refuses and moto would let through. Pure functions over a request.

Sources: https://www.backblaze.com/docs/cloud-storage-s3-compatible-api (supported calls and
headers) and the error texts that B2's users report. Where B2's word is not known, the stricter
reading is taken: what passes here passes there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.cloud.s3.errors import (
    S3Error,
    access_denied,
    invalid_argument,
    not_implemented,
    unsupported_header,
)
from sandbox.cloud.s3.request import SIGNING, S3Request

_CONDITIONS = ("if-match", "if-none-match")
_UNSUPPORTED_PREFIXES = ("x-amz-checksum-", "x-amz-grant-", "x-amz-website-", "x-amz-trailer")
_UNSUPPORTED = frozenset(
    {
        "x-amz-sdk-checksum-algorithm",
        "x-amz-tagging",
        "x-amz-tagging-directive",
        "x-amz-request-payer",
        "x-amz-object-ownership",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-context",
        "x-amz-server-side-encryption-bucket-key-enabled",
    }
)
_ACLS = ("private", "public-read")
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{4,61}[a-z0-9]")

# Sub-resources by method; everything else is another vendor's.
_BUCKET_CALLS = {
    "acl": {"GET", "PUT"},
    "cors": {"GET", "PUT", "DELETE"},
    "delete": {"POST"},
    "encryption": {"GET", "PUT", "DELETE"},
    "lifecycle": {"GET", "PUT", "DELETE"},
    "location": {"GET"},
    "object-lock": {"GET", "PUT"},
    "uploads": {"GET"},
    "versioning": {"GET", "PUT"},
    "versions": {"GET"},
}
_OBJECT_CALLS = {
    "acl": {"GET", "PUT"},
    "legal-hold": {"GET", "PUT"},
    "retention": {"GET", "PUT"},
    "uploadId": {"GET", "PUT", "POST", "DELETE"},
    "uploads": {"POST"},
}
_PLAIN = SIGNING | {
    "list-type", "prefix", "delimiter", "marker", "max-keys", "continuation-token",
    "start-after", "fetch-owner", "encoding-type", "key-marker", "version-id-marker",
    "upload-id-marker", "max-uploads", "part-number-marker", "max-parts", "partNumber",
    "versionId", "x-id", "response-content-type", "response-content-disposition",
    "response-content-encoding", "response-content-language", "response-cache-control",
    "response-expires",
}  # fmt: skip

_LOCK_HEADERS = (
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-bypass-governance-retention",
)
_NODE_BUCKET_CALLS = {
    ("GET", name) for name in ("location", "versions", "uploads", "versioning", "object-lock")
}


_NOT_ENTITLED = access_denied("not entitled")


@dataclass(frozen=True)
class BucketFacts:
    """What the rules need to know of a bucket; None of it for one that does not exist."""

    locked: bool
    versioned: bool
    empty: bool
    """No version and no hide marker in it."""


def check_form(request: S3Request) -> None:
    """Refuse calls and headers that B2 does not have, whoever asks."""
    _call(request)
    _check_headers(request)


def check_bucket(request: S3Request, bucket: BucketFacts | None) -> None:
    """Refuse what the bucket's state does not allow."""
    call = _call(request)
    if request.creates_bucket:
        _check_bucket_name(request.bucket)
    if bucket is None:
        return
    if request.method == "DELETE" and request.about_bucket and not bucket.empty:
        raise S3Error(409, "BucketNotEmpty", "The bucket you tried to delete is not empty.")
    if request.writes_object and bucket.locked and "content-md5" not in request.headers:
        copies = "x-amz-copy-source" in request.headers
        if not copies:
            raise S3Error(
                400,
                "InvalidRequest",
                "Content-MD5 HTTP header is required for Put Object requests with Object Lock "
                "parameters",
            )
    if call == "lifecycle" and request.method == "PUT" and not bucket.versioned:
        raise S3Error(
            400, "InvalidRequest", "Lifecycle rules need versioning to be enabled on the bucket"
        )


def check_node_rights(request: S3Request) -> None:
    """Refuse what the nodes' key may not do: it lists, reads, writes and hides objects, and sees
    what the bucket locks by default. It does not see the lock of an object, which takes a right of
    its own."""
    call = _call(request)
    reads = request.method in ("GET", "HEAD")
    if request.key:
        locks = call in ("legal-hold", "retention")
        changes = "versionId" in request.parameters or call == "acl"
        allowed = not locks and (reads or not changes)
    else:
        listing = call is None or (request.method, call) in _NODE_BUCKET_CALLS
        allowed = listing if reads else call == "delete"
    if not allowed or any(name in request.headers for name in _LOCK_HEADERS):
        raise _NOT_ENTITLED


def check_node_deletes(body: bytes) -> None:
    """Refuse a list of objects to delete that names versions, for the nodes' key."""
    if b"<VersionId>" in body:
        raise _NOT_ENTITLED


def _call(request: S3Request) -> str | None:
    """The sub-resource asked for, None for the plain call."""
    known = _OBJECT_CALLS if request.key else _BUCKET_CALLS
    found = None
    for name in request.parameters:
        if name in _PLAIN:
            continue
        if request.method not in known.get(name, ()) or not request.bucket:
            raise not_implemented(f"The {name} sub-resource is not supported for this call")
        found = name
    return found


def _check_headers(request: S3Request) -> None:
    for name in request.headers:
        if name in _UNSUPPORTED or name.startswith(_UNSUPPORTED_PREFIXES):
            raise unsupported_header(name)
        if name in _CONDITIONS and request.method in ("PUT", "POST", "DELETE"):
            raise not_implemented(
                "A header you provided implies functionality that is not implemented"
            )
    encryption = request.headers.get("x-amz-server-side-encryption", "AES256")
    if encryption != "AES256":
        raise invalid_argument(f"The encryption method {encryption} is not supported")
    if request.headers.get("x-amz-storage-class", "STANDARD") != "STANDARD":
        raise S3Error(400, "InvalidStorageClass", "The storage class is not valid")
    if request.headers.get("x-amz-acl", "private") not in _ACLS:
        raise invalid_argument("The canned ACL is not supported, use private or public-read")


def _check_bucket_name(name: str) -> None:
    if not _BUCKET_NAME.fullmatch(name) or name.startswith("b2-"):
        message = "Bucket names have 6 to 63 letters, digits and '-', and do not start with 'b2-'"
        raise S3Error(400, "InvalidBucketName", message)
