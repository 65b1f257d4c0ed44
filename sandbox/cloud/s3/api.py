"""The emulated B2, S3 flavour: moto behind a front that is as strict as B2.

Objects are kept in memory only, see storage.py. The front checks who signed, what the key may do,
what B2 does not support, and the digests that a request announces; moto does the rest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import tempfile
from datetime import UTC, datetime
from typing import IO, Any, cast

from a2wsgi import WSGIMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.cloud.s3 import rules, signature
from sandbox.cloud.s3.errors import S3Error, access_denied
from sandbox.cloud.s3.request import S3Request
from sandbox.cloud.s3.storage import SPOOLED, MotoStorage
from sandbox.cloud.tokens import Tokens

IN_MEMORY = 16 * 1024 * 1024
WORKERS = 8


class StrictS3:
    """The front."""

    def __init__(self, storage: MotoStorage, tokens: Tokens) -> None:
        self._storage = storage
        # a2wsgi types WSGI and ASGI more narrowly than Starlette does.
        self._moto = cast(ASGIApp, WSGIMiddleware(cast(Any, storage), workers=WORKERS))
        self._node_key = tokens.b2_node_key_id
        self._secrets = {
            tokens.b2_key_id: tokens.b2_key,
            tokens.b2_node_key_id: tokens.b2_node_key,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        request = S3Request.of(scope)
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as body:
            try:
                key_id = signature.verify(request, self._secrets, datetime.now(UTC))
                rules.check_form(request)
                self._check_rights(request, key_id)
                rules.check_bucket(request, self._storage.facts(request.bucket))
                await _spool(request, receive, body)
                if key_id == self._node_key and request.deletes_objects:
                    rules.check_node_deletes(body.read())
                    body.seek(0)
            except S3Error as error:
                response = error.response()
                # A client that waits for 100 Continue may never send the body, so the connection
                # cannot carry another request.
                response.headers["connection"] = "close"
                await response(scope, receive, send)
                return
            if request.creates_bucket:
                scope = _with_location(scope, request, body)
            await self._moto({**scope, SPOOLED: body}, receive, send)

    def _check_rights(self, request: S3Request, key_id: str | None) -> None:
        if key_id is None:
            reads = request.method in ("GET", "HEAD") and bool(request.key)
            if not (reads and self._storage.public(request.bucket)):
                raise access_denied("The request is not signed")
        elif key_id == self._node_key:
            rules.check_node_rights(request)


def _with_location(scope: Scope, request: S3Request, body: IO[bytes]) -> Scope:
    """Say where a bucket is to be, as B2 knows from its host name and moto wants to be told."""
    region = signature.region(request)
    if body.read(1) or region in ("", "us-east-1"):
        body.seek(0)
        return scope
    body.write(
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>".encode()
    )
    length = str(body.tell()).encode()
    body.seek(0)
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    return {**scope, "headers": [*headers, (b"content-length", length)]}


async def _spool(request: S3Request, receive: Receive, body: IO[bytes]) -> None:
    """Take in the body and hold it against the digests announced in the headers."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    wanted_md5 = request.headers.get("content-md5")
    wanted_sha256 = request.headers.get("x-amz-content-sha256", "")
    hashed = len(wanted_sha256) == sha256.digest_size * 2
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise S3Error(400, "IncompleteBody", "The connection ended before the body")
        chunk = message.get("body", b"")
        body.write(chunk)
        if wanted_md5 is not None:
            md5.update(chunk)
        if hashed:
            sha256.update(chunk)
        if not message.get("more_body", False):
            break
    body.seek(0)
    if wanted_md5 is not None and _decoded(wanted_md5) != md5.digest():
        raise S3Error(400, "BadDigest", "The Content-MD5 you specified did not match the content")
    if hashed and wanted_sha256 != sha256.hexdigest():
        raise S3Error(
            400, "XAmzContentSHA256Mismatch", "The SHA-256 of the content is not the one signed"
        )


def _decoded(digest: str) -> bytes:
    try:
        decoded = base64.b64decode(digest, validate=True)
    except binascii.Error:
        decoded = b""
    if len(decoded) != hashlib.md5(usedforsecurity=False).digest_size:
        raise S3Error(400, "InvalidDigest", "The Content-MD5 you specified is not valid.")
    return decoded
