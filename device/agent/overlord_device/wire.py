"""The API's language: one place that knows its fields, so that the rest does not.

Agrees with ``dashboard/api``: ``StatusReport`` and ``StatusReceipt`` in ``models.py``, the reasons
in ``clock.py`` and ``problems.py``.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .clock import Clock, ServerTime, parse_rfc3339, rfc3339
from .queue import Event
from .transport import Reply

MAX_SKEW_S = 86_400.0
"""The API refuses a clock further off than this."""

STATUS_PATH = "/api/status"
DEVICES_PATH = "/api/devices"

_ACKNOWLEDGED = ("recorded", "duplicate")
CLOCK_OFF = "clock_off"
"""The reason given for a clock that is more than a day off."""


@dataclass(frozen=True)
class Receipt:
    """What the server made of what was sent.

    Args:
        acknowledged: event ids that it has for good.
        refused: event ids that it will never take, with the reason word and its explanation.
        epoch: the lease under which it answered, None when it names none.
        watermark: seconds since 1970 up to which it is sure to have everything, if it says so.
    """

    acknowledged: frozenset[str] = frozenset()
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    epoch: int | None = None
    watermark: float | None = None


class NotUnderstoodError(Exception):
    """The reply is not the API's. Nothing in it counts as an acknowledgement."""


def encode(event: Event, clock: Clock, server_time: ServerTime) -> dict[str, Any]:
    """A status as the API takes it.

    The queue's record holds more than the API has fields for (kernel, boot id, whether the clock
    was trusted); a field that the API learns is added here.
    """
    record = json.loads(event.body)
    return {
        "device_id": record["device_id"],
        "event_id": event.event_id,
        "event_time": rfc3339(event.wall),
        "sent_at": rfc3339(_sent_at(event, clock, server_time)),
        "status": record["status"],
        "message": record["message"][:500],
        "uptime_seconds": record["uptime_seconds"],
        "config_version": record["config_version"],
        "agent_version": record["agent_version"],
        "metrics": record["metrics"],
    }


def _sent_at(event: Event, clock: Clock, server_time: ServerTime) -> float:
    """Now, by the clock that stamped the event.

    The server takes the difference to its own clock off the event's time. The wall clock may have
    been set between the two moments, so it is the event's stamp carried forward by the time since
    boot that says how far that stamp was off. Across a reboot only the present clock is left. It
    says nothing about a stamp that was right, and one that is more than a day off would have the
    event refused for the clock's sake; then the server's own time stands in for it.
    """
    if event.boot_id == clock.boot_id():
        return event.wall + max(0.0, clock.boottime() - event.boottime)
    wall, server_now = clock.wall(), server_time.now()
    if server_now is not None and (event.trusted or abs(wall - server_now) > MAX_SKEW_S):
        return server_now
    return wall


def single(report: Mapping[str, Any]) -> bytes:
    """The body of a post of one status."""
    return json.dumps(report, separators=(",", ":"), allow_nan=False).encode()


def batch(reports: Iterable[Mapping[str, Any]]) -> bytes:
    """The body of a post of many, compressed with gzip."""
    return gzip.compress(single({"reports": list(reports)}), compresslevel=6)


def read_receipt(reply: Reply, sent: Iterable[str]) -> Receipt:
    """What a reply of status 200 or 201 acknowledges, among the event ids that were sent.

    Raises:
        NotUnderstoodError: it is not the API's. A page of some proxy with status 200 ends here.
    """
    data = _object(reply)
    ids = frozenset(sent)
    results = data.get("results", [data])
    if not isinstance(results, list):
        raise NotUnderstoodError("the reply's results are not a list")
    acknowledged: set[str] = set()
    refused: dict[str, tuple[str, str]] = {}
    for item in results:
        event_id = item.get("event_id") if isinstance(item, dict) else None
        if not isinstance(event_id, str) or event_id not in ids:
            raise NotUnderstoodError("the reply names an event that was not sent")
        result = item.get("result")
        if result == "refused":
            reason = str(item.get("reason", "refused"))
            refused[event_id] = (reason, str(item.get("detail", reason)))
        elif result in _ACKNOWLEDGED:
            acknowledged.add(event_id)
    if not acknowledged and not refused:
        raise NotUnderstoodError("the reply acknowledges nothing")
    epoch = data.get("epoch")
    return Receipt(
        frozenset(acknowledged),
        refused,
        epoch if isinstance(epoch, int) else None,
        parse_rfc3339(data.get("watermark")),
    )


def read_problem(reply: Reply) -> tuple[str, str]:
    """The reason word and the explanation of an error reply (RFC 9457), as far as it has them."""
    try:
        data = _object(reply)
    except NotUnderstoodError:
        return ("", f"status {reply.status}")
    detail = str(data.get("detail") or data.get("title") or f"status {reply.status}")
    errors = data.get("errors")
    if isinstance(errors, list):
        detail += "".join(
            f" [{item.get('field')}: {item.get('problem')}]"
            for item in errors[:5]
            if isinstance(item, dict)
        )
    return (str(data.get("reason") or ""), detail)


def read_token(reply: Reply, device_id: str) -> str:
    """The device's token in the reply to an enrolment.

    Raises:
        NotUnderstoodError: there is none for this device.
    """
    data = _object(reply)
    token = data.get("token")
    if data.get("device_id") != device_id or not isinstance(token, str) or not token:
        raise NotUnderstoodError("the reply holds no token for this device")
    return token


def _object(reply: Reply) -> dict[str, Any]:
    try:
        data = json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        raise NotUnderstoodError("the reply is not JSON") from error
    if not isinstance(data, dict):
        raise NotUnderstoodError("the reply is not a JSON object")
    return data
