"""AWS Signature Version 4, verified: in the header or in a presigned URL.

Written from the algorithm's description, since botocore only signs:
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from sandbox.cloud.s3.errors import S3Error, access_denied, invalid_argument
from sandbox.cloud.s3.request import S3Request

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
MOST_SKEW = timedelta(minutes=15)
LONGEST_URL = timedelta(days=7)


@dataclass(frozen=True)
class _Claim:
    key_id: str
    scope: str
    at: datetime
    signed_headers: tuple[str, ...]
    signature: str
    payload: str


def verify(request: S3Request, secrets: Mapping[str, str], now: datetime) -> str | None:
    """Return the access key id that signed the request, None when nobody did.

    Raises S3Error for an unknown key, a wrong signature, a stale date or an expired URL.
    """
    if "authorization" in request.headers:
        claim = _from_header(request)
        if abs(now - claim.at) > MOST_SKEW:
            raise S3Error(
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            )
    elif "X-Amz-Signature" in request.parameters:
        claim = _from_url(request, now)
    else:
        return None
    if claim.key_id not in secrets:
        raise S3Error(403, "InvalidAccessKeyId", "The key is not valid")
    expected = _sign(request, claim, secrets[claim.key_id])
    if not hmac.compare_digest(expected, claim.signature):
        raise S3Error(403, "SignatureDoesNotMatch", "Signature validation failed")
    return claim.key_id


def region(request: S3Request) -> str:
    """The region that a signed request names, empty for others."""
    match = re.search(r"Credential=[^/]+/\d+/([^/]+)/", request.headers.get("authorization", ""))
    return match[1] if match else ""


def _from_header(request: S3Request) -> _Claim:
    match = re.fullmatch(
        rf"{ALGORITHM}\s+Credential=([^/]+)/([^,]+),\s*SignedHeaders=([^,]+),\s*Signature=(\w+)",
        request.headers["authorization"],
    )
    if match is None:
        raise invalid_argument("Unsupported Authorization Type")
    return _Claim(
        key_id=match[1],
        scope=match[2],
        at=_time(request.headers.get("x-amz-date", "")),
        signed_headers=tuple(match[3].split(";")),
        signature=match[4],
        payload=request.headers.get("x-amz-content-sha256", ""),
    )


def _from_url(request: S3Request, now: datetime) -> _Claim:
    query = request.parameters
    if query.get("X-Amz-Algorithm") != ALGORITHM:
        raise invalid_argument("Unsupported Authorization Type")
    key_id, _, scope = query.get("X-Amz-Credential", "").partition("/")
    at = _time(query.get("X-Amz-Date", ""))
    seconds = query.get("X-Amz-Expires", "")
    if not seconds.isdigit() or not 1 <= int(seconds) <= LONGEST_URL.total_seconds():
        raise invalid_argument("X-Amz-Expires must be between 1 and 604800 seconds")
    if now > at + timedelta(seconds=int(seconds)):
        raise access_denied("Request has expired")
    if at > now + MOST_SKEW:
        raise access_denied("Request is not yet valid")
    return _Claim(
        key_id=key_id,
        scope=scope,
        at=at,
        signed_headers=tuple(query.get("X-Amz-SignedHeaders", "").split(";")),
        signature=query["X-Amz-Signature"],
        payload=UNSIGNED,
    )


def _sign(request: S3Request, claim: _Claim, secret: str) -> str:
    date, region, service, terminator = ([*claim.scope.split("/"), "", "", ""])[:4]
    stamp = claim.at.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(_canonical(request, claim).encode()).hexdigest()
    text = "\n".join((ALGORITHM, stamp, claim.scope, digest))
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, terminator):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _canonical(request: S3Request, claim: _Claim) -> str:
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in request.query
        if name != "X-Amz-Signature"
    )
    headers = "".join(
        f"{name}:{','.join(_squeeze(v) for v in request.headers.getlist(name))}\n"
        for name in claim.signed_headers
    )
    return "\n".join(
        (
            request.method,
            quote(unquote(request.raw_path), safe="/-_.~") or "/",
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(claim.signed_headers),
            claim.payload,
        )
    )


def _squeeze(value: str) -> str:
    return " ".join(value.split())


def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise access_denied("The request has no valid X-Amz-Date") from None
