"""Judges the time that a device says: what is kept, what is flagged, what is refused."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

MAX_AGE = timedelta(days=7)
# Beyond this a clock is flagged, and what it says is corrected for the order of things.
SKEW_TOLERANCE = timedelta(seconds=30)
# Beyond this nothing that the clock says can be put in order; the device must set it first.
MAX_SKEW = timedelta(days=1)
_NOTHING = timedelta()


class RefusedTimeError(Exception):
    """The reported time cannot be used.

    Args:
        reason: `too_old` or `clock_off`.
        detail: what is wrong and what the device should do.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Judged(NamedTuple):
    """A time that is kept.

    Args:
        event_time: when it happened by the device's clock, in UTC.
        observed_at: when it happened by our clock; never later than it was received.
        skew: how far the device's clock is ahead of ours, when that is known.
        flagged: whether the skew is above the tolerance.
    """

    event_time: datetime
    observed_at: datetime
    skew: timedelta | None
    flagged: bool


def judge(event_time: datetime, sent_at: datetime | None, received_at: datetime) -> Judged:
    """Judge a reported time.

    Args:
        event_time: when it happened, by the device's clock.
        sent_at: when it was sent, by the same clock; tells a wrong clock from a late message.
        received_at: when it arrived, by our clock, in UTC.

    Raises:
        RefusedTimeError: older than 7 days, or by a clock that is more than a day off.
    """
    # In differences to our clock: those between times of two zones cost the most here.
    age = received_at - event_time
    skew = sent_at - received_at if sent_at is not None else None
    # Nothing arrives before it happens, so a future event proves a skew even without `sent_at`.
    if age < _NOTHING and (skew is None or -age > skew):
        skew = -age
    flagged, corrected = False, age
    if skew is not None:
        if abs(skew) > MAX_SKEW:
            raise RefusedTimeError(
                "clock_off",
                f"The device's clock is {_words(skew)}; set it and report again.",
            )
        if abs(skew) > SKEW_TOLERANCE:
            flagged, corrected = True, age + skew
    if corrected > MAX_AGE:
        raise RefusedTimeError(
            "too_old",
            f"The status is {corrected.days} days old; only the last {MAX_AGE.days} days are "
            "taken. Drop it and go on with the next.",
        )
    observed_at = received_at - corrected if corrected > _NOTHING else received_at
    return Judged(received_at - age, observed_at, skew, flagged)


def _words(skew: timedelta) -> str:
    direction = "ahead" if skew > _NOTHING else "behind"
    return f"{abs(skew).total_seconds():.0f} s {direction}"
