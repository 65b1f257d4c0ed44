"""When a backup is due, and of which kind: a pure function."""

from datetime import UTC, datetime, timedelta

from overlord.backup.repository import Kind, Repository

HOUR = 2
"""Of the day in UTC from which the day's backup is due."""
FULL_EVERY = timedelta(days=7)
_SLACK = timedelta(hours=1)
"""A full backup that ended a little later last week does not put this week's off by a day."""


def due(repository: Repository, now: datetime) -> Kind | None:
    """The kind of backup to make now, or None: full once a week and when there is none, a
    differential one on the other days. A day that was missed is made up for at once."""
    full, newest = repository.newest_full, repository.newest
    if full is None or newest is None:
        return "full"
    if not missed_today(newest.started, now):
        return None
    age = now - datetime.fromtimestamp(full.started, UTC)
    return "full" if age >= FULL_EVERY - _SLACK else "diff"


def missed_today(last: float, now: datetime) -> bool:
    """Whether what was last done at a time, in seconds since the epoch, is due again: once a day,
    from the hour on."""
    boundary = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    if boundary > now:
        boundary -= timedelta(days=1)
    return datetime.fromtimestamp(last, UTC) < boundary
