"""Errors as the Tailscale API answers them: a status and a message."""

from __future__ import annotations

from starlette.responses import JSONResponse


class TailscaleError(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    def response(self) -> JSONResponse:
        """Render it."""
        return JSONResponse({"message": self.message}, self.status)
