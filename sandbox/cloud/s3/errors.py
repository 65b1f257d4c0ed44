"""Errors as B2's S3 API answers them: XML with a code and a message."""

from __future__ import annotations

from xml.sax.saxutils import escape

from starlette.responses import Response


class S3Error(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def response(self) -> Response:
        """Render it."""
        body = (
            '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
            f"<Error>\n    <Code>{self.code}</Code>\n"
            f"    <Message>{escape(self.message)}</Message>\n</Error>\n"
        )
        return Response(body, self.status, media_type="application/xml")


def invalid_argument(message: str) -> S3Error:
    """A header or value is not acceptable."""
    return S3Error(400, "InvalidArgument", message)


def unsupported_header(name: str) -> S3Error:
    """A header that B2 does not know."""
    return invalid_argument(f"Unsupported header '{name}' received for this API call.")


def not_implemented(message: str) -> S3Error:
    """A call or function that B2 does not have."""
    return S3Error(501, "NotImplemented", message)


def access_denied(message: str) -> S3Error:
    """The key lacks the right."""
    return S3Error(403, "AccessDenied", message)
