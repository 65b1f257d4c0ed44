"""The S3 client for Backblaze B2, as its S3 interface needs it.

B2 refuses the checksum headers that newer SDKs add, so these are sent only where S3 requires them.
Credentials come from the environment or from secret configuration of the running stack, never from
a resource's properties, so they are in no state file and a new key changes nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

_KEYS = {
    "": (("OVERLORD_B2_KEY_ID", "b2KeyId"), ("OVERLORD_B2_KEY", "b2Key")),
    "second": (
        ("OVERLORD_SECOND_B2_KEY_ID", "secondB2KeyId"),
        ("OVERLORD_SECOND_B2_KEY", "secondB2Key"),
    ),
}
"""By account: where the key's id and the key are, in the environment and in the configuration."""

_SDK_HEADERS = ("x-amz-sdk-checksum", "x-amz-checksum")

_making = Lock()


class S3Error(Exception):
    """B2 refused a call; the message names the resource and the remedy."""


def s3_client(
    endpoint: str, region: str, config: Callable[[str], str | None], account: str = ""
) -> Any:
    """A client for one endpoint.

    Args:
        endpoint: https address of the S3 interface.
        region: its region.
        config: reads a key of the stack's configuration.
        account: whose credentials: nothing for the pair's own account, `second` for the second
            repository's.

    Raises:
        S3Error: no credentials.
    """
    id_names, key_names = _KEYS[account]
    key_id = config(id_names[1]) or os.environ.get(id_names[0])
    key = config(key_names[1]) or os.environ.get(key_names[0])
    if not key_id or not key:
        raise S3Error(
            f"no B2 key: `export {id_names[0]}=… {key_names[0]}=…` or "
            f"`pulumi config set --secret overlord:{id_names[1]}` and overlord:{key_names[1]}, "
            "then `pulumi up --refresh=false`: a refresh asks with the settings of the last one"
        )
    # The engine asks for several resources at once, and a client takes longer to make than to use.
    with _making:
        return _client(endpoint, region, key_id, key)


@cache
def _client(endpoint: str, region: str, key_id: str, key: str) -> Any:
    """The one client for these credentials: it may be shared by threads."""
    # Slow to import, and only needed where something is really done.
    import boto3
    from botocore.config import Config

    session = boto3.session.Session()  # type: ignore[no-untyped-call]
    client = session.client(  # type: ignore[no-untyped-call]
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=key_id,
        aws_secret_access_key=key,
        config=Config(  # type: ignore[no-untyped-call]
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=10,
            read_timeout=60,
        ),
    )
    client.meta.events.register("before-call.s3", _md5_instead_of_checksum)
    return client


def content_md5(data: bytes) -> str:
    """Content-MD5 of a body; B2 wants it on every write to a bucket with Object Lock."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _md5_instead_of_checksum(params: dict[str, Any], **_: Any) -> None:
    """Where S3 requires a checksum, the SDK sends CRC32, which B2 refuses: send MD5, as it asks."""
    checksum = params.get("context", {}).get("checksum", {})
    if checksum.pop("request_algorithm", None) is None:
        return
    for header in [name for name in params["headers"] if name.lower().startswith(_SDK_HEADERS)]:
        del params["headers"][header]
    params["headers"]["Content-MD5"] = content_md5(params["body"])


def error_code(error: Exception) -> str:
    """Code of a botocore ClientError, such as NoSuchBucket; else empty."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def explain(error: Exception, what: str, account: str = "") -> S3Error:
    """An error that says what was refused and what to do next."""
    if isinstance(error, S3Error):
        return error  # it could not even ask, and says why
    code = error_code(error)
    (key_id, _), (key, _) = _KEYS[account]
    remedies = {
        "InvalidAccessKeyId": f"the key id is wrong: check {key_id}",
        "SignatureDoesNotMatch": f"the key is wrong: check {key}",
        "AccessDenied": "the key lacks a right: it needs to list, write and delete buckets and "
        "files, and to set retention and lifecycle rules",
        "403": f"the key is wrong or lacks a right: check {key_id} and {key}",
        "BucketAlreadyExists": "someone else has a bucket of this name; bucket names are shared "
        f"with the whole world: choose another {prefix_setting(account)}",
        "TooManyBuckets": "the account has no room for more buckets: delete one or raise the limit",
    }
    message = (getattr(error, "response", None) or {}).get("Error", {}).get("Message") or ""
    if not code:
        message = type(error).__name__
    return S3Error(
        f"{what}: B2 answered {code or 'nothing usable'}"
        f"{f' ({message})' if message else ''}. "
        f"{remedies.get(code, 'run pulumi up again')}"
    )


def prefix_setting(account: str) -> str:
    """The setting that names the buckets at an account."""
    return f"overlord:backup.{account and f'{account}.'}bucketPrefix"


def hide_object(s3: Any, bucket: str, key: str, what: str) -> None:
    """Hide an object behind a delete marker; one that is gone is hidden enough.

    Args:
        what: what the object is, for the error message.

    Raises:
        S3Error: it was refused.
    """
    try:
        s3.delete_object(Bucket=bucket, Key=key)
    except Exception as error:
        if error_code(error) not in {"NoSuchBucket", "NoSuchKey", "404"}:
            raise explain(error, what) from None
