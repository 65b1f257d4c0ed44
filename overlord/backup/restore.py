"""The database back from a backup: in its place, or as a copy in a folder."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from overlord.backup.causes import run_tool
from overlord.backup.copy import Whole
from overlord.backup.examination import log_gap
from overlord.backup.manager import REACH, Manager
from overlord.backup.source import Source, choose, look_at
from overlord.commands.backup import Which
from overlord.commands.compose import Compose
from overlord.errors import OverlordError
from overlord.paths import Paths
from overlord.runner import Runner, check

POSTGRES_USER = 999
"""Of the database's container, which has to write into the folder."""

_LIST = "`overlordctl backup list` shows what there is"
_DAMAGED = "the copy may be damaged; what there is besides: `overlordctl backup list`"


def recovery_notes(output: str, last_segment: str = "") -> list[str]:
    """What a recovery reported of itself, for people; nothing where it is not understood.

    Args:
        output: what it said.
        last_segment: newest piece of the log in the archive before a recovery to its end; empty
            for one to a moment, or when it is not known.
    """
    for line in output.splitlines():
        try:
            report = json.loads(line)
            size, fetch = int(report["bytes"]), int(report["fetch_seconds"])
            replay, commit = int(report["replay_seconds"]), report["last_commit"]
            lsn = str(report.get("replayed_lsn") or "")
        except (ValueError, TypeError, KeyError):
            continue
        notes = [f"{size / 1000**2:.0f} MB, fetched in {fetch} s, log replayed in {replay} s"]
        if commit:
            moment = datetime.fromtimestamp(float(commit), UTC)
            notes.append(f"last transaction {moment:%Y-%m-%d %H:%M:%S} UTC")
        if last_segment and lsn and (gap := log_gap(lsn, last_segment)):
            notes.append(f"NOT ALL OF THE LOG IS IN IT: {gap}")
        return notes
    return []


@dataclass(frozen=True)
class Restore:
    """One restore.

    Args:
        at: the moment to go back to, None for the newest.
        to: folder of this machine for a copy, None for the database's own place.
        second: the backups in the second repository, where there is one.
        fetch: fetches the first repository as it was at a moment before into a folder, and returns
            how many objects; None to use the repository as it is.
    """

    paths: Paths
    runner: Runner
    compose: Compose
    manager: Manager
    at: datetime | None
    to: Path | None
    say: Callable[[str], object]
    fetch: Callable[[Path], int] | None = None
    second: Manager | None = None
    kept: Whole | None = None
    """The copy that the manager's tool reads, None where it reads the bucket."""

    def plan(self) -> list[str]:
        """What would be done. Raises OverlordError when it cannot be."""
        if self.fetch:
            # What is in the bucket now may be an intruder's work.
            return [f"from the bucket as it was, into {self.to}; nothing else is touched"]
        found = self._source()
        source = found.backup
        ended = datetime.fromtimestamp(source.ended, UTC).strftime("%Y-%m-%d %H:%M:%S")
        goal = f"{self.at:%Y-%m-%d %H:%M:%S}" if self.at else "the end of the archived log"
        lines = [
            f"from {source.kind} backup {source.label} of {ended} UTC, "
            f"{source.database_bytes / 1000**3:.2f} GB, the log replayed to {goal}",
        ]
        if self.kept:
            made = datetime.fromtimestamp(self.kept.made, UTC)
            lines.append(f"out of this node's own copy of {made:%Y-%m-%d %H:%M:%S} UTC")
        if found.which:
            lines.append(f"that backup is in repository {found.number}")
        if found.unread:
            lines.append(f"the other repository is left out: {found.unread.what}")
        if self.to:
            return [*lines, f"into {self.to}; the running database is not touched"]
        return [
            *lines,
            "in place of this node's database, which is kept aside on its volume",
            "PostgreSQL of this node is stopped meanwhile; the other node has to be stopped before "
            "and rebuilt after: docs/operations/restore.md",
        ]

    def run(self) -> None:
        """Do it. Raises OverlordError; the database that was there is then still there."""
        at = f"{self.at:%Y-%m-%d %H:%M:%S.%f}+00" if self.at else None
        with self.manager.alone():
            if self.to:
                self._copy(at, self.to)
            else:
                self._in_place(at)

    def _source(self) -> Source:
        managers = (self.manager, *([self.second] if self.second else []))
        source = choose(look_at(self.runner, [one.tool for one in managers]), self.at)
        if source is None:
            before = f" before {self.at:%Y-%m-%d %H:%M:%S} UTC" if self.at else ""
            raise OverlordError(f"there is no backup{before}", _LIST)
        # The repository tells of older backups, which are not in the copy.
        if self.kept and source.backup.ended < self.kept.since:
            raise OverlordError(f"the copy does not go back to {self.at:%Y-%m-%d %H:%M:%S}", _LIST)
        return source

    def _which(self) -> Which:
        return self._source().which if self.second else ""

    @property
    def _remedy(self) -> str:
        return _DAMAGED if self.kept else REACH

    def _copy(self, at: str | None, folder: Path) -> None:
        if folder.exists() and any(folder.iterdir()):
            raise OverlordError(f"{folder} is not empty", "give an empty or new folder")
        tool = replace(self.manager.tool, which="" if self.fetch else self._which())
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(folder, POSTGRES_USER, POSTGRES_USER)
        if self.fetch:
            tool = replace(tool, repository=folder.absolute() / "repository")
            count = self.fetch(folder / "repository")
            self.say(f"fetched {count} objects")
            for path in (folder, *folder.rglob("*")):
                os.chown(path, POSTGRES_USER, POSTGRES_USER)
        command = tool.copy(at, folder.absolute())
        run_tool(self.runner, "the restore", command, self._remedy)
        self.say(f"{folder}/pgdata is a database, shut down; docs/operations/restore.md reads it")

    def _in_place(self, at: str | None) -> None:
        source = self._source()
        tool = replace(self.manager.tool, which=source.which)
        last_segment = "" if at else source.last_segment
        check(self.runner, self.compose.stop_service("postgres"), "see `docker ps`")
        try:
            output = run_tool(self.runner, "the restore", tool.restore(at), self._remedy).output
        finally:
            check(self.runner, self.compose.start("postgres"), "see `docker ps`")
        for note in recovery_notes(output, last_segment):
            self.say(note)
        self.say("restored; the agent lets it take writes when this node may")
