"""Which repository a database comes back from, where there are two."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from overlord.backup.repository import Backup, Repository, parse_info, unclear
from overlord.commands.backup import BackupTool, Which
from overlord.errors import OverlordError
from overlord.runner import Runner


def read_repository(runner: Runner, tool: BackupTool) -> Repository:
    """What is in a repository. Raises OverlordError when that is not clear."""
    result = runner.run(tool.info())
    if result.code:
        said = result.errors.strip() or result.output.strip()
        raise unclear(said or f"pgBackRest ended with {result.code}")
    return parse_info(result.output)


@dataclass(frozen=True)
class Look:
    """One repository, as it was found."""

    number: int
    repository: Repository | None
    """None where it cannot be read."""
    error: OverlordError | None = None

    def newest(self, at: datetime | None) -> Backup | None:
        """Its newest backup, or the newest that ended before a moment."""
        backups = self.repository.backups if self.repository else ()
        fitting = [one for one in backups if at is None or one.ended < at.timestamp()]
        return fitting[-1] if fitting else None


@dataclass(frozen=True)
class Source:
    """A backup to start from, and the repositories to read."""

    number: int
    backup: Backup
    which: Which
    last_segment: str
    """Newest piece of the log in them."""
    unread: OverlordError | None = None
    """Why the other repository is left out."""


def choose(looks: Sequence[Look], at: datetime | None) -> Source | None:
    """The first repository that has a fitting backup; the log comes from all that have a stanza: a
    piece that is not found while one cannot be looked into is an error. None where no repository
    has a backup. Raises OverlordError where none has one and not all can be read."""
    errors = [look.error for look in looks if look.error]
    known = [look for look in looks if look.repository and look.repository.has_stanza]
    for look in looks:
        if backup := look.newest(at):
            all_ = len(known) == len(looks)
            which: Which = "" if len(looks) == 1 else "both" if all_ else _alone(look.number)
            read = known if all_ else [look]
            last = max(one.repository.last_segment for one in read if one.repository)
            return Source(look.number, backup, which, last, errors[0] if errors else None)
    if errors:
        raise errors[0]
    return None


Word = Literal["unclear", "second", "none", "exists"]


def backups_word(looks: Sequence[Look]) -> Word:
    """What a first boot may believe: `exists` only where the first repository can be read, because
    the second may be behind it. `second`: the first one cannot be read, and the second has a
    backup."""
    first = looks[0]
    if first.repository is None:
        return "second" if any(look.newest(None) for look in looks[1:]) else "unclear"
    if first.newest(None):
        return "exists"
    if any(look.repository is None for look in looks):
        return "unclear"
    return "exists" if any(look.newest(None) for look in looks) else "none"


def look_at(runner: Runner, tools: Sequence[BackupTool]) -> list[Look]:
    """Each repository in turn."""
    looks = []
    for number, tool in enumerate(tools, 1):
        try:
            looks.append(Look(number, read_repository(runner, tool)))
        except OverlordError as error:
            looks.append(Look(number, None, error))
    return looks


def _alone(number: int) -> Which:
    return "1" if number == 1 else "2"
