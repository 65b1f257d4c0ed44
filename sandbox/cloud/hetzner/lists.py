"""Lists as the Hetzner API gives them: filtered, sorted, in pages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from sandbox.cloud.hetzner import errors
from sandbox.cloud.hetzner.domain import JsonObject

PER_PAGE, MOST_PER_PAGE = 25, 50

_KEY = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?"
)
_VALUE = r"(?:[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)?"
_TERM = re.compile(
    rf"\s*(?:(?P<not>!)?(?P<key>{_KEY})\s*"
    rf"(?:(?P<op>==|!=|=)\s*(?P<value>{_VALUE})"
    rf"|\s(?P<set>in|notin)\s*\((?P<values>[^)]*)\))?)\s*(?:,|$)"
)


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that the vendor refuses."""
    for key, value in labels.items():
        if not re.fullmatch(_KEY, key) or not re.fullmatch(_VALUE, value):
            raise errors.invalid({"labels": f"label {key!r} has an invalid key or value"})


def matches(selector: str, labels: Mapping[str, str]) -> bool:
    """Tell whether labels meet a selector such as ``env=prod,!draining,zone in (a,b)``."""
    position = 0
    while position < len(selector):
        term = _TERM.match(selector, position)
        if term is None or term.end() == position:
            raise errors.invalid({"label_selector": "invalid label selector"})
        position = term.end()
        if not _meets(term, labels.get(term["key"])):
            return False
    return True


def _meets(term: re.Match[str], actual: str | None) -> bool:
    if term["set"]:
        wanted = {value.strip() for value in term["values"].split(",")}
        return (actual in wanted) == (term["set"] == "in")
    if term["op"] == "!=":
        return actual != term["value"]
    if term["op"]:
        return actual == term["value"]
    return (actual is None) == bool(term["not"])


def answer(request: Request, name: str, objects: Iterable[JsonObject]) -> JSONResponse:
    """Answer a list request from the rendered objects, honouring the query's filters."""
    query = request.query_params
    rows = list(objects)
    for field in ("name", "status", "ip", "fingerprint", "architecture", "type"):
        wanted = query.getlist(field)
        if wanted:
            rows = [row for row in rows if field not in row or row[field] in wanted]
    if selector := query.get("label_selector"):
        rows = [row for row in rows if matches(selector, row.get("labels", {}))]
    for spec in reversed(query.getlist("sort")):
        rows = _sorted(rows, spec)
    page, per_page = _number(query.get("page"), 1), _number(query.get("per_page"), PER_PAGE)
    per_page = min(per_page, MOST_PER_PAGE)
    last = max(1, math.ceil(len(rows) / per_page))
    pagination = {
        "page": page,
        "per_page": per_page,
        "previous_page": page - 1 if page > 1 else None,
        "next_page": page + 1 if page < last else None,
        "last_page": last,
        "total_entries": len(rows),
    }
    start = (page - 1) * per_page
    body = {name: rows[start : start + per_page], "meta": {"pagination": pagination}}
    return JSONResponse(body)


def _sorted(rows: list[JsonObject], spec: str) -> list[JsonObject]:
    field, _, direction = spec.partition(":")
    if (rows and field not in rows[0]) or direction not in ("", "asc", "desc"):
        raise errors.invalid({"sort": f"cannot sort by {spec}"})

    def key(row: JsonObject) -> Any:
        return row[field]

    return sorted(rows, key=key, reverse=direction == "desc")


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isdigit() or int(text) < 1:
        raise errors.invalid({"page": "must be a positive number"})
    return int(text)
