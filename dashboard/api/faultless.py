"""Parses a batch in which there is nothing to object to, at a third of the cost.

msgspec takes the text apart into reports of plain types; what else a value may be, StatusReport's
own definitions say, asked for each distinct value instead of report by report. A batch with any
fault in it is left to StatusBatch, whose errors tell the sender; so is one with a time that is not
as RFC 3339 has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import TypeAdapter

from dashboard.api.models import StatusBatch, StatusReport

# Nothing else may be in a batch, so every one begins like this.
_BATCH_START = re.compile(rb'\s*\{\s*"reports"')


_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class PlainReport(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A StatusReport that costs less."""

    device_id: str
    event_id: UUID
    event_time: _Time
    status: str
    sent_at: _Time | None = None
    message: str = ""
    uptime_seconds: int | None = None
    config_version: str | None = None
    agent_version: str | None = None
    kernel: str | None = None
    boot_id: UUID | None = None
    metrics: dict[str, float] = {}


class _PlainBatch(msgspec.Struct, forbid_unknown_fields=True):
    reports: list[PlainReport]


def _of_many(container: Any, field: str) -> TypeAdapter[Any]:
    """Validates many values of a field at once."""
    definition = StatusReport.model_fields[field]
    return TypeAdapter(container[Annotated[definition.annotation, definition]])


_DECODER = msgspec.json.Decoder(_PlainBatch)
# What msgspec's types do not say.
_DISTINCT = {
    field: _of_many(set, field)
    for field in (
        "device_id",
        "status",
        "message",
        "uptime_seconds",
        "config_version",
        "agent_version",
        "kernel",
    )
}
_VALUES = attrgetter(*_DISTINCT)
_METRICS = _of_many(list, "metrics")
_SIZE = TypeAdapter(Annotated[list[Any], StatusBatch.model_fields["reports"]])


def begins_batch(body: bytes) -> bool:
    """Whether a body of JSON is a batch, or nothing that is valid."""
    return _BATCH_START.match(body) is not None


def faultless_batch(body: bytes) -> StatusBatch | None:
    """The batch in a body of JSON, if every report in it is valid."""
    try:
        reports = _DECODER.decode(body).reports
        _SIZE.validate_python(reports)
        for allowed, values in zip(
            _DISTINCT.values(), zip(*map(_VALUES, reports), strict=True), strict=True
        ):
            allowed.validate_python(set(values))
        # Too many names in all may be few enough in each; that is for StatusBatch to find.
        names: Iterable[str] = set().union(*(report.metrics for report in reports))
        _METRICS.validate_python([dict.fromkeys(names, 0.0)])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return StatusBatch.model_construct(reports=reports)
