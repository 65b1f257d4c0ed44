"""Loki's push API."""

import http.client
import json
from enum import Enum
from urllib.parse import urlsplit

from overlord.logs.journal import Entry

TIMEOUT_SECONDS = 10.0


class Verdict(Enum):
    """What became of a batch."""

    TAKEN = "taken"
    REFUSED = "refused"
    """It will not be taken later either, for example because it is too old."""
    LATER = "later"
    """Loki is away or busy."""


def push_body(node: str, entries: list[Entry]) -> bytes:
    """A push request: one stream for each set of labels."""
    streams: dict[tuple[tuple[str, str], ...], list[list[str]]] = {}
    for entry in entries:
        streams.setdefault(entry.labels, []).append([str(entry.nanoseconds), entry.text])
    return json.dumps(
        {
            "streams": [
                {"stream": {"node": node, **dict(labels)}, "values": values}
                for labels, values in sorted(streams.items())
            ]
        }
    ).encode()


def push(url: str, body: bytes) -> Verdict:
    """Hand in a batch."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(
        where.hostname or "", where.port, timeout=TIMEOUT_SECONDS
    )
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/loki/api/v1/push", body, headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return Verdict.LATER
    finally:
        connection.close()
    return verdict(answer.status)


def verdict(status: int) -> Verdict:
    """What an HTTP status means for the batch."""
    if status < 300:
        return Verdict.TAKEN
    return Verdict.LATER if status in (404, 408, 429) or status >= 500 else Verdict.REFUSED
