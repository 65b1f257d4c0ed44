"""Judges the time that a device says: what is kept, what is flagged, what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_AGE = timedelta(days=7)
# Beyond this a clock is flagged, and what it says is corrected for the order of things.
SKEW_TOLERANCE = timedelta(seconds=30)
# Beyond this nothing that the clock says can be put in order; the device must set it first.
MAX_SKEW = timedelta(days=1)


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


@dataclass(frozen=True)
class Judged:
    """A time that is kept.

    Args:
        observed_at: when it happened by our clock; never later than it was received.
        skew: how far the device's clock is ahead of ours, when that is known.
        flagged: whether the skew is above the tolerance.
    """

    observed_at: datetime
    skew: timedelta | None
    flagged: bool


def judge(event_time: datetime, sent_at: datetime | None, received_at: datetime) -> Judged:
    """Judge a reported time.

    Args:
        event_time: when it happened, by the device's clock.
        sent_at: when it was sent, by the same clock; tells a wrong clock from a late message.
        received_at: when it arrived, by our clock.

    Raises:
        RefusedTimeError: older than 7 days, or by a clock that is more than a day off.
    """
    skew = sent_at - received_at if sent_at is not None else None
    # Nothing arrives before it happens, so a future event proves a skew even without `sent_at`.
    if event_time > received_at and (skew is None or event_time - received_at > skew):
        skew = event_time - received_at
    if skew is not None and abs(skew) > MAX_SKEW:
        raise RefusedTimeError(
            "clock_off",
            f"The device's clock is {_words(skew)}; set it and report again.",
        )
    flagged = skew is not None and abs(skew) > SKEW_TOLERANCE
    corrected = event_time - skew if flagged and skew is not None else event_time
    age = received_at - corrected
    if age > MAX_AGE:
        raise RefusedTimeError(
            "too_old",
            f"The status is {age.days} days old; only the last {MAX_AGE.days} days are taken. "
            "Drop it and go on with the next.",
        )
    return Judged(observed_at=min(corrected, received_at), skew=skew, flagged=flagged)


def _words(skew: timedelta) -> str:
    direction = "ahead" if skew > timedelta() else "behind"
    return f"{abs(skew).total_seconds():.0f} s {direction}"
