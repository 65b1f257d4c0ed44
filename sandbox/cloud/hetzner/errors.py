"""Errors as the Hetzner Cloud API answers them: a status, a code, a message, details."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse


class HetznerError(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details

    def response(self, headers: dict[str, str] | None = None) -> JSONResponse:
        """Render it."""
        error = {"code": self.code, "message": self.message, "details": self.details}
        return JSONResponse({"error": error}, self.status, headers)


def unauthorized() -> HetznerError:
    """The token is missing or unknown."""
    return HetznerError(401, "unauthorized", "unable to authenticate")


def token_readonly() -> HetznerError:
    """The token may only read."""
    return HetznerError(403, "token_readonly", "token is only allowed to perform GET requests")


def not_found(kind: str, identifier: object) -> HetznerError:
    """No such object."""
    return HetznerError(404, "not_found", f"{kind} with ID '{identifier}' not found")


def not_unique(kind: str, field: str = "name") -> HetznerError:
    """The name, or a key's fingerprint, is in use."""
    details = {"fields": [{"name": field}]}
    return HetznerError(409, "uniqueness_error", f"{kind} {field} is already used", details)


def invalid(fields: dict[str, str]) -> HetznerError:
    """Fields of the request are wrong; maps field to message."""
    listed = ", ".join(f"'{name}'" for name in fields)
    noun = "field" if len(fields) == 1 else "fields"
    details = {"fields": [{"name": n, "messages": [m]} for n, m in fields.items()]}
    return HetznerError(422, "invalid_input", f"invalid input in {noun} {listed}", details)


def refused(message: str) -> HetznerError:
    """The request is well formed and cannot be done."""
    return HetznerError(422, "invalid_input", message, {})


def from_validation(error: ValidationError) -> HetznerError:
    """Turn Pydantic's findings into the vendor's list of fields."""
    fields: dict[str, str] = {}
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "body"
        missing = item["type"] == "missing"
        fields[name] = "Missing data for required field." if missing else item["msg"]
    return invalid(fields)


def locked(kind: str) -> HetznerError:
    """An action runs on the object."""
    return HetznerError(423, "locked", f"{kind} is locked by another action")


def protected(kind: str, operation: str = "delete") -> HetznerError:
    """The vendor's own protection is on."""
    return HetznerError(423, "protected", f"{kind} {operation} is protected")


def sold_out() -> HetznerError:
    """The server type cannot be had there now."""
    return HetznerError(412, "resource_unavailable", "error during placement", {})


def limit_exceeded(resource: str, limit: int) -> HetznerError:
    """The project's quota is used up."""
    message = f"{resource} limit exceeded"
    details = {"limits": [{"name": f"{resource}_limit", "limit": limit}]}
    return HetznerError(403, "resource_limit_exceeded", message, details)


def rate_limited() -> HetznerError:
    """Too many requests in the last hour."""
    return HetznerError(429, "rate_limit_exceeded", "limit of 3600 requests per hour reached")
