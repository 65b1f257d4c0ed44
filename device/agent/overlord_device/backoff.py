"""How long to wait after a failure."""

from __future__ import annotations

import random
from typing import Callable

from .clock import parse_http_date

BASE_S = 2.0
CAP_S = 300.0
MAX_RETRY_AFTER_S = 3600.0
"""A longer Retry-After is taken as this: a mistaken header must not silence a device for a year."""

Uniform = Callable[[float, float], float]


class Backoff:
    """Exponential with full jitter: a uniform draw between nothing and the doubled ceiling.

    Full jitter, because hundreds of devices lose the same server in the same second and must not
    come back in the same second. Source: M. Brooker, "Exponential Backoff And Jitter", AWS, 2015.
    """

    def __init__(
        self,
        base_s: float = BASE_S,
        cap_s: float = CAP_S,
        uniform: Uniform = random.uniform,
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._uniform = uniform
        self.failures = 0

    def reset(self) -> None:
        """Forget past failures: the server has answered as it should."""
        self.failures = 0

    def ceiling(self) -> float:
        """The most that the next wait can be, in seconds."""
        # The exponent is bounded so that a month of failures cannot overflow the float.
        return min(self._cap_s, self._base_s * 2.0 ** min(self.failures, 32))

    def fail(self, retry_after_s: float | None = None) -> float:
        """Count one failure and return the wait in seconds.

        With a Retry-After the wait is never shorter than that, and the jitter comes on top: the
        server told everybody the same number.
        """
        drawn = self._uniform(0.0, self.ceiling())
        self.failures += 1
        if retry_after_s is None:
            return drawn
        return min(retry_after_s, MAX_RETRY_AFTER_S) + drawn


def parse_retry_after(value: str | None, date_header: str | None) -> float | None:
    """Seconds to wait, from a Retry-After header in either of its two forms; None if unusable.

    The HTTP-date form is measured against the reply's own Date, since this device's clock may be
    wrong.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), MAX_RETRY_AFTER_S)
    until, now = parse_http_date(text), parse_http_date(date_header)
    if until is None or now is None:
        return None
    return min(max(0.0, until - now), MAX_RETRY_AFTER_S)
