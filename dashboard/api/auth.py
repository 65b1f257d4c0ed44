"""Who is asking: a device with its own token, the enroller, or the operator.

Tokens are random and long, so a plain SHA-256 is enough to store them: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request

from dashboard.api.problems import ProblemError

_MAX_TOKEN = 200


@dataclass(frozen=True)
class NewToken:
    """A token as it is given once, and as it is stored."""

    text: str
    sha256: bytes


def new_token() -> NewToken:
    """A fresh token of 256 random bits."""
    text = secrets.token_urlsafe(32)
    return NewToken(text, digest(text))


def digest(token: str) -> bytes:
    """The stored form of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


async def bearer_token(request: Request) -> str:
    """The token of the Authorization header. Asynchronous, or FastAPI would call it in a thread.

    Raises:
        ProblemError: 401, there is none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN:
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "Send a token in the header Authorization: Bearer TOKEN.",
            reason="no_token",
        )
    return token


def matches(token: str, *accepted: str) -> bool:
    """Whether the token is one of the accepted ones; each is compared in constant time."""
    given = digest(token)
    return any(hmac.compare_digest(given, digest(known)) for known in accepted)


def refuse_token(what: str) -> ProblemError:
    """The token is not good for what was asked."""
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        f"The token is not valid {what}.",
        reason="wrong_token",
    )
