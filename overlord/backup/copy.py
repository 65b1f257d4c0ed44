"""A copy of the newest backup and of the newest snapshot of Prometheus on this node's own disk, for
the day when the bucket, its account or its key is gone.

There are two slots. One with an index is whole: the index is written last. The next copy is made in
the other slot, of links to what is there already and of what the bucket has besides. So whatever is
cut short, the earlier copy stays as it was.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from overlord.backup.objects import Bucket, Stored, look_for_room, place
from overlord.backup.repository import Backup, Repository, segment_number
from overlord.backup.samples import SAMPLES, newest_snapshot
from overlord.errors import OverlordError
from overlord.files import read_json, write_json

REPOSITORY = "database"
INFO = (f"{REPOSITORY}/backup/overlord/backup.info", f"{REPOSITORY}/archive/overlord/archive.info")
"""What pgBackRest reads first; each has a twin that ends with `.copy`."""
LONGEST = 4 * 3600.0
"""Seconds after which a copy gives up. The next one goes on with what is there."""
_INDEX = "index.json"
_FAILURE = "failure.json"
_SLOTS = ("a", "b")
_PIECE = re.compile(rf"{REPOSITORY}/archive/overlord/[^/]+/[0-9A-F]{{16}}/([0-9A-F]{{24}})")
_HISTORY = re.compile(rf"{REPOSITORY}/archive/overlord/[^/]+/[0-9A-F]{{8}}\.history")


@dataclass(frozen=True)
class Whole:
    """A copy that a restore can use. Times are seconds since the epoch."""

    folder: Path
    made: float
    """The log is in it as far as the bucket had it then."""
    since: float
    """End of its full backup: the first moment to go back to."""
    label: str
    """Its newest backup."""
    bytes: int
    samples: str
    """Key of the snapshot of Prometheus, empty where there was none."""

    @property
    def repository(self) -> Path:
        """Folder to read in place of the bucket."""
        return self.folder / REPOSITORY


def find_copy(home: Path) -> Whole | None:
    """The newest whole copy of this node."""
    found = []
    for slot in _SLOTS:
        with suppress(TypeError):
            found.append(Whole(**{**read_json(home / slot / _INDEX), "folder": home / slot}))
    return max(found, key=lambda one: one.made, default=None)


def copy_failure(home: Path) -> str | None:
    """Why the last copy failed; empty when it did not, None where there was none."""
    return read_json(home / _FAILURE).get("error")


def needed(objects: Iterable[Stored], backups: Iterable[Backup], first: str) -> list[Stored]:
    """Of a repository, what some backups and the log from a piece on are made of. Raises
    OverlordError when it is not all there.

    Args:
        first: name of that piece, such as 000000010000000000000003.
    """
    folders = tuple(f"{REPOSITORY}/backup/overlord/{one.label}/" for one in backups)
    start, chosen, pieces = segment_number(first), [], set()
    for one in objects:
        # By its place, whatever the timeline: a failover begins a new one.
        piece = segment_number(found[1]) if (found := _PIECE.match(one.key)) else -1
        pieces.add(piece)
        if piece >= start or _HISTORY.match(one.key) or one.key.startswith(folders):
            chosen.append(one)
    keys = {one.key for one in chosen}
    missing = [one for one in folders if f"{one}backup.manifest" not in keys]
    if start not in pieces:
        missing.append(first)
    if missing:
        raise OverlordError(
            f"the bucket lacks {missing[0]}", "docs/runbooks/backup.md: make a full backup"
        )
    return chosen


@dataclass(frozen=True)
class Copier:
    """Makes the copy.

    Args:
        home: folder of the slots.
        read: tells what is in a repository in a folder of this machine.
        stop: asked before each object whether to leave it; that is no failure.
    """

    home: Path
    bucket: Bucket
    read: Callable[[Path], Repository]
    stop: Callable[[], bool]
    say: Callable[[str], object] = print
    now: Callable[[], float] = time.time

    def make(self) -> Whole:
        """Make a copy of what is in the bucket now, and forget the one before. Raises
        OverlordError, after it has been written down for the alert; the one before is then as it
        was."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.home.chmod(0o700)
            made = self._make()
        except (OverlordError, OSError) as error:
            if not isinstance(error, OverlordError):
                error = OverlordError(f"the copy cannot be written: {error}", "`df -h`")
            if not self.stop():
                with suppress(OSError):
                    write_json(self.home / _FAILURE, {"error": error.what})
            raise error from None
        write_json(self.home / _FAILURE, {"error": ""})
        return made

    def _make(self) -> Whole:
        began, before = self.now(), find_copy(self.home)
        other = before.folder.name if before else ""
        work = self.home / next(slot for slot in _SLOTS if slot != other)
        work.mkdir(exist_ok=True)
        (work / _INDEX).unlink(missing_ok=True)
        # Before all else: what is listed afterwards has every backup that these name.
        wanted = [one for prefix in INFO for one in self.bucket.objects(prefix)]
        self._bring(wanted, work, before, began)
        found = self.read(work / REPOSITORY)
        full = found.newest_full
        if full is None or found.newest is None:
            raise OverlordError("there is no backup to copy", "`overlordctl backup list`")
        backups = [one for one in found.backups if one.label.startswith(full.label)]
        wanted += needed(self.bucket.objects(f"{REPOSITORY}/"), backups, full.first_segment)
        snapshots = self.bucket.objects(SAMPLES)
        samples = newest_snapshot(snapshots)
        wanted += [one for one in snapshots if one.key == samples]
        _keep_only({place(work, one.key) for one in wanted}, work)
        self._bring(wanted, work, before, began)
        made = Whole(
            folder=work,
            made=began,
            since=full.ended,
            label=backups[-1].label,
            bytes=sum(one.bytes for one in wanted),
            samples=samples,
        )
        os.sync()
        write_json(work / _INDEX, {**asdict(made), "folder": work.name})
        if before:
            (before.folder / _INDEX).unlink()
            shutil.rmtree(before.folder)
        return made

    def _bring(self, objects: list[Stored], work: Path, before: Whole | None, began: float) -> None:
        missing = [one for one in objects if not _there(one, work, before)]
        size = sum(one.bytes for one in missing)
        look_for_room(self.home, size, "a copy of the backup")
        for one in missing:
            if self.stop():
                raise OverlordError("this node leads by now", "the other one keeps the copy")
            if self.now() - began > LONGEST:
                raise OverlordError(
                    f"the copy took longer than {LONGEST / 3600:.0f} h",
                    "is B2 slow? `overlordctl backup copy` goes on with what is there",
                )
            draft = work / "draft"
            if self.bucket.fetch(one.key, draft) != one.bytes:
                raise OverlordError(f"{one.key} was changed meanwhile", "try it again")
            os.utime(draft, (one.changed, one.changed))
            target = place(work, one.key)
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(target)
        if missing:
            self.say(f"fetched {len(missing)} objects, {size / 1000**2:.0f} MB")


def _there(one: Stored, work: Path, before: Whole | None) -> bool:
    """Whether the work has an object already, or gets it from the copy before as a link."""
    target = place(work, one.key)
    if _is(target, one):
        return True
    if before is None or not _is(source := place(before.folder, one.key), one):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.hardlink_to(source)
    return True


def _is(path: Path, one: Stored) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_size, int(found.st_mtime)) == (one.bytes, one.changed)


def _keep_only(wanted: set[Path], work: Path) -> None:
    for path in sorted(work.rglob("*"), reverse=True):
        if not path.is_dir() and path not in wanted:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
