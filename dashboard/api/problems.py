"""Errors as the client sees them: RFC 9457 problem documents, never a stack trace."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import psycopg
import psycopg_pool
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

_log = logging.getLogger(__name__)

# Too few connections, no server, a cancelled statement, a replica, a schema not migrated yet:
# all pass, so the client is told to come again.
_PASSING = (
    psycopg_pool.PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidCatalogName,
)


_FORMS = ("single", "batch")


class ProblemError(Exception):
    """An error for the client.

    Args:
        status: HTTP status.
        detail: what happened and what to do next.
        reason: a word that programs can rely on.
        retry_after: seconds after which to try again.

    Attributes:
        headers: further ones for the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason = reason
        self.retry_after = retry_after
        self.errors = errors
        self.headers: dict[str, str] = {}

    def response(self) -> Response:
        """The problem document."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.errors:
            body["errors"] = self.errors
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(math.ceil(self.retry_after))
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="overlord"'
        return JSONResponse(
            body, self.status, headers=headers, media_type="application/problem+json"
        )


def database_away() -> ProblemError:
    """The database does not answer now: mostly it waits for a standby that is gone, for seconds."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The database does not answer. Keep what you have and send it again later.",
        reason="database_away",
        retry_after=3,
    )


def internal_error(request_id: str) -> ProblemError:
    """Something failed that should not."""
    return ProblemError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        f"This is an error of ours. The log has it under request id {request_id}.",
        reason="internal",
    )


def brief_errors(errors: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Validation errors without the input, which may hold a secret, or be large."""
    return [
        {
            # The names of the forms a body may have mean nothing to the one who sent it.
            "field": ".".join(str(part) for part in item["loc"] if part not in _FORMS),
            "problem": str(item["msg"]),
        }
        for item in errors
    ]


def install(app: FastAPI) -> None:
    """Turn every exception that the routes may raise into a problem document."""

    async def on_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return error.response()

    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        response = ProblemError(status, str(error.detail)).response()
        response.headers.update(error.headers or {})
        return response

    async def on_validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = brief_errors(error.errors())[:20]
        return ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The request is not valid; see errors.",
            reason="invalid",
            errors=errors,
        ).response()

    async def on_database(request: Request, error: Exception) -> Response:
        _log.warning(
            "database away: %s",
            type(error).__name__,
            extra={"request_id": request.scope.get("overlord.request_id")},
        )
        return database_away().response()

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)
    for passing in _PASSING:
        app.add_exception_handler(passing, on_database)
