"""Entries of the systemd journal, which containers log into as well."""

import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from overlord.errors import OverlordError

BATCH_ENTRIES = 1000
BATCH_BYTES = 512 * 1024
"""Half of what the gate before Loki takes in one request."""
LONGEST_LINE = 16 * 1024
"""Bytes that Loki keeps of a line."""

_FIELDS = "MESSAGE,PRIORITY,_SYSTEMD_UNIT,COM_DOCKER_COMPOSE_SERVICE"
_LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")


@dataclass(frozen=True)
class Entry:
    """One line of a log."""

    cursor: str
    """Where it is in the journal."""
    nanoseconds: int
    """When it was written, since 1970."""
    labels: tuple[tuple[str, str], ...]
    text: str


def command(cursor: str | None) -> list[str]:
    """The journalctl command: from after the cursor on, or this boot from its beginning."""
    where = ["--boot"] if cursor is None else [f"--after-cursor={cursor}"]
    options = ["--quiet", "--no-pager", "--output=json", f"--output-fields={_FIELDS}"]
    return ["journalctl", *options, *where]


def read(cursor: str | None) -> list[Entry]:
    """The next batch of entries; none when there is nothing new.

    Raises:
        OverlordError: journalctl failed, for example because it does not know the cursor.
    """
    argv = command(cursor)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        entries, full = take(process.stdout)
        if full:
            process.terminate()
    if process.returncode and not full:
        raise OverlordError(
            f"journalctl ended with {process.returncode}",
            "see `journalctl --verify`; what it had not sent is skipped",
        )
    return entries


def take(lines: Iterable[bytes]) -> tuple[list[Entry], bool]:
    """Entries of the first lines, and whether that is a whole batch with more to come."""
    entries: list[Entry] = []
    size = 0
    for line in lines:
        entry = parse(line)
        if entry is None:
            continue
        entries.append(entry)
        size += len(entry.text.encode())
        if len(entries) >= BATCH_ENTRIES or size >= BATCH_BYTES:
            return entries, True
    return entries, False


def parse(line: bytes) -> Entry | None:
    """An entry from one line of journalctl; None for a torn line and for an entry without text."""
    try:
        data = json.loads(line)
        cursor, microseconds = data["__CURSOR"], int(data["__REALTIME_TIMESTAMP"])
    except (ValueError, KeyError, TypeError):
        return None
    text = _text(data.get("MESSAGE"))
    if not text:
        return None
    return Entry(cursor, microseconds * 1000, tuple(sorted(_labels(data).items())), text)


def _text(message: Any) -> str:
    if isinstance(message, list):  # not UTF-8, so journalctl gives its bytes
        message = bytes(message).decode(errors="replace")
    if not isinstance(message, str):
        return ""
    return message.rstrip("\n").encode()[:LONGEST_LINE].decode(errors="ignore")


def _labels(data: dict[str, Any]) -> dict[str, str]:
    """Few values each, since every combination is a stream of its own."""
    service = data.get("COM_DOCKER_COMPOSE_SERVICE")
    if isinstance(service, str):
        return {"job": "container", "service": service}
    labels = {"job": "journal", "unit": _unit(str(data.get("_SYSTEMD_UNIT") or "kernel"))}
    priority = str(data.get("PRIORITY", ""))
    if priority in {"0", "1", "2", "3", "4", "5", "6", "7"}:
        labels["level"] = _LEVELS[int(priority)]
    return labels


def _unit(unit: str) -> str:
    """A unit's name without what is new each time, such as the number of a session."""
    if unit.endswith(".scope"):
        return "scope"
    if re.match(r"run-.*\.service$", unit):
        return "run.service"
    return re.sub(r"@.*\.", "@.", unit)
