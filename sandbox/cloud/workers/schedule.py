"""When a cron expression is due. Five fields in UTC, as the vendor reads them."""

from __future__ import annotations

from datetime import datetime

_SMALLEST_AND_LARGEST = ((0, 59), (0, 23), (1, 31), (1, 12), (1, 7))


def is_due(expression: str, moment: datetime) -> bool:
    """Tell whether an expression names this minute.

    Days of the week are 1 (Sunday) to 7, as at the vendor.

    Raises:
        ValueError: the expression is of another form than numbers, lists, ranges and steps.
    """
    fields = expression.split()
    if len(fields) != len(_SMALLEST_AND_LARGEST):
        raise ValueError(f"{expression!r} has {len(fields)} fields, not 5")
    weekday = moment.isoweekday() % 7 + 1
    now = (moment.minute, moment.hour, moment.day, moment.month, weekday)
    return all(
        value in _values(field, *bounds)
        for field, value, bounds in zip(fields, now, _SMALLEST_AND_LARGEST, strict=True)
    )


def _values(field: str, smallest: int, largest: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        low = smallest if span == "*" else int(first)
        high = largest if span == "*" else int(last) if dash else low
        found |= set(range(low, high + 1, int(step or 1)))
    if not found or min(found) < smallest or max(found) > largest:
        raise ValueError(f"{field!r} is not within {smallest} to {largest}")
    return found
