"""Errors as the Cloudflare API answers them: a status and a list of codes with messages."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.responses import JSONResponse


class CloudflareError(Exception):
    """An error answer."""

    def __init__(
        self, status: int, code: int, message: str, chain: tuple[int, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.chain = status, code, message, chain

    def response(self) -> JSONResponse:
        """Render it."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.chain is not None:
            error["error_chain"] = [{"code": self.chain[0], "message": self.chain[1]}]
        body = {"success": False, "errors": [error], "messages": [], "result": None}
        return JSONResponse(body, self.status)


def authentication() -> CloudflareError:
    """The token is unknown or lacks the right."""
    return CloudflareError(403, 10000, "Authentication error")


def headers() -> CloudflareError:
    """The Authorization header is missing or of another form."""
    chain = (6111, "Invalid format for Authorization header")
    return CloudflareError(400, 6003, "Invalid request headers", chain)


def no_route(path: str) -> CloudflareError:
    """No such path, or an identifier of an impossible form."""
    message = f"Could not route to {path}, perhaps your object identifier is invalid?"
    return CloudflareError(404, 7003, message)


def from_validation(error: ValidationError, code: int = 1002) -> CloudflareError:
    """Turn Pydantic's first finding into a message."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    return CloudflareError(400, code, f"{where}: {first['msg']}: validation failed")
