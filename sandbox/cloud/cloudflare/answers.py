"""The envelope around every answer, and lists in pages."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from sandbox.cloud.cloudflare import errors
from sandbox.cloud.cloudflare.domain import JsonObject

Model = TypeVar("Model", bound=BaseModel)


def one(result: Any, status: int = 200) -> JSONResponse:
    """Answer with one object."""
    body = {"success": True, "errors": [], "messages": [], "result": result}
    return JSONResponse(body, status)


def many(request: Request, rows: Sequence[JsonObject], per_page: int = 100) -> JSONResponse:
    """Answer with a page of objects."""
    page = _number(request, "page", 1, 1_000_000)
    size = _number(request, "per_page", per_page, 50_000)
    shown = rows[(page - 1) * size : page * size]
    info = {
        "page": page,
        "per_page": size,
        "count": len(shown),
        "total_count": len(rows),
        "total_pages": math.ceil(len(rows) / size),
    }
    body = {"success": True, "errors": [], "messages": [], "result": shown, "result_info": info}
    return JSONResponse(body)


async def posted(request: Request) -> JsonObject:
    """Read the request's JSON object."""
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise errors.CloudflareError(400, 9207, "Request body is invalid.")
    return body


def checked(model: type[Model], fields: JsonObject) -> Model:
    """Check fields; null means the default, as everywhere in this API."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise errors.from_validation(error) from None


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise errors.CloudflareError(400, 1004, f"{name} must be between 1 and {most}")
    return int(text)
