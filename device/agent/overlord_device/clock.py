"""Time on a board that may have no battery behind its clock.

A wall clock can be an hour off or jump; the time since boot cannot. So ages and waits are measured
on the time since boot, and the wall clock is only ever a label, with a flag beside it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

SUSPECT_OFFSET_S = 30.0
"""A clock further than this from the server's is flagged. The API flags at the same distance."""

_PLAUSIBLE = (1_735_689_600.0, 4_102_444_800.0)
"""A server's clock outside of 2025 to 2100 is not believed."""

_TIMESYNC = Path("/run/systemd/timesync")


class Clock(Protocol):
    """What the agent may ask about time. Tests bring their own."""

    def wall(self) -> float:
        """Seconds since 1970 as the device believes."""

    def boottime(self) -> float:
        """Seconds since boot, sleep included. Never jumps."""

    def boot_id(self) -> str:
        """Changes with each boot; two boottimes compare only under the same one."""

    def synchronised(self) -> bool | None:
        """Whether the time service has set the clock since boot, None where nobody can tell."""


class SystemClock:
    """The machine's own clocks (Linux)."""

    def __init__(self) -> None:
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def boottime(self) -> float:
        """Seconds since boot, sleep included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """The kernel's boot id."""
        return self._boot_id

    def synchronised(self) -> bool | None:
        """What systemd-timesyncd says; None when another time service runs."""
        if not _TIMESYNC.is_dir():
            return None
        return (_TIMESYNC / "synchronized").exists()


@dataclass(frozen=True)
class _Anchor:
    server: float
    boottime: float
    boot_id: str


class ServerTime:
    """The server's clock, carried forward on the time since boot.

    Learned from the ``Date`` of each of the API's replies, so it is good to about a second: enough
    to flag a clock that is off, not to set one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._anchor: _Anchor | None = None

    def learn(self, date_header: str | None) -> None:
        """Take the ``Date`` of a reply that has just arrived, if it can be read and be true."""
        server = parse_http_date(date_header)
        if server is not None and _PLAUSIBLE[0] <= server < _PLAUSIBLE[1]:
            self._anchor = _Anchor(server, self._clock.boottime(), self._clock.boot_id())

    def now(self) -> float | None:
        """The server's time in seconds since 1970, None before its first reply since boot."""
        anchor = self._anchor
        if anchor is None or anchor.boot_id != self._clock.boot_id():
            return None
        return anchor.server + (self._clock.boottime() - anchor.boottime)

    def offset(self) -> float | None:
        """How many seconds this device's clock is ahead of the server's (negative: behind)."""
        server = self.now()
        return None if server is None else self._clock.wall() - server

    def trusted(self) -> bool:
        """Whether the wall clock may be believed right now.

        The server's word beats the time service's: a synchronised flag survives somebody setting
        the clock by hand.
        """
        offset = self.offset()
        if offset is not None:
            return abs(offset) <= SUSPECT_OFFSET_S
        return self._clock.synchronised() is True


def parse_http_date(value: str | None) -> float | None:
    """Seconds since 1970 of an HTTP date, None when it is missing or not one."""
    if not value:
        return None
    try:
        parsed = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=timezone.utc)
    return parsed.timestamp()


def rfc3339(wall: float) -> str:
    """UTC with milliseconds, as the API wants it: ``2026-11-23T16:00:00.000Z``."""
    stamp = datetime.fromtimestamp(wall, timezone.utc).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def parse_rfc3339(value: object) -> float | None:
    """Seconds since 1970 of an RFC 3339 time with a zone, None when it is not one."""
    if not isinstance(value, str):
        return None
    try:
        # Python before 3.11 does not read the Z.
        parsed = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
    except ValueError:
        return None
    return None if parsed.tzinfo is None else parsed.timestamp()
