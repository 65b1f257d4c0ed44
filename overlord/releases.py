"""Releases on disk: unpacked bundles beside each other, and a symlink to the one in force."""

import hashlib
import io
import shutil
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from overlord.errors import OverlordError
from overlord.files import read_json, sync_folder, write, write_json
from overlord.lock import held
from overlord.paths import Paths

KEPT = 3
"""Releases that stay on disk: the one in force and two to go back to."""

COMPLETE = ".complete"
"""Written last, so that a half-unpacked folder is not taken for a release."""


@dataclass(frozen=True)
class Event:
    """A change of the release in force, or a try."""

    time: float
    """Seconds since the epoch."""
    action: Literal["first-boot", "apply", "rollback"]
    release: str
    result: Literal["ok", "failed"]
    reason: str = ""


class Releases:
    """The releases of a node."""

    def __init__(self, paths: Paths, now: Callable[[], float] = time.time) -> None:
        self._paths = paths
        self._now = now

    def current(self) -> str | None:
        """The release in force."""
        try:
            return self._paths.current.readlink().name
        except OSError:
            return None

    def present(self) -> tuple[str, ...]:
        """Complete releases on disk, by name."""
        if not self._paths.releases.exists():
            return ()
        return tuple(
            sorted(
                home.name for home in self._paths.releases.iterdir() if (home / COMPLETE).exists()
            )
        )

    def has(self, sha256: str) -> bool:
        """Whether a bundle is unpacked, all of it."""
        try:
            return (self._paths.release(sha256[:12]) / COMPLETE).read_text() == sha256
        except OSError:
            return False

    def unpack(self, data: bytes, sha256: str) -> str:
        """Unpack a bundle beside the others; returns the release's name. Raises OverlordError."""
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise OverlordError(
                f"bundle {sha256[:12]}: checksum is {found[:12]}…, {len(data)} bytes",
                "the object was changed or cut short: run `pulumi refresh` and `pulumi up`",
            )
        home = self._paths.release(sha256[:12])
        shutil.rmtree(home, ignore_errors=True)
        try:
            home.mkdir(parents=True)
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive:
                    _extract(archive, member, home)
            write(home / COMPLETE, sha256.encode())
        except (OSError, tarfile.TarError) as error:
            shutil.rmtree(home, ignore_errors=True)
            raise OverlordError(
                f"bundle {sha256[:12]} cannot be unpacked to {home}: {error}",
                "free space with `docker image prune --all` or choose a larger server type",
            ) from error
        return home.name

    def switch(self, release: str) -> None:
        """Put a release in force, at once or not at all."""
        draft = self._paths.opt / ".current.new"
        draft.unlink(missing_ok=True)
        draft.symlink_to(Path("releases") / release)
        draft.replace(self._paths.current)
        sync_folder(self._paths.opt)

    def remove(self, release: str) -> None:
        """Remove a release that is not in force."""
        if release != self.current():
            shutil.rmtree(self._paths.release(release), ignore_errors=True)

    def prune(self, in_use: frozenset[str]) -> tuple[str, ...]:
        """Remove all but the newest KEPT, the one in force and those in use; returns the names."""
        recent = self.by_age()[:KEPT]
        keep = {*recent, *in_use, self.current()}
        gone = tuple(release for release in self.present() if release not in keep)
        for release in gone:
            self.remove(release)
        return gone

    def by_age(self) -> tuple[str, ...]:
        """Releases on disk, the last one in force first."""
        last = {event.release: event.time for event in self.history() if event.result == "ok"}
        return tuple(sorted(self.present(), key=lambda name: last.get(name, 0.0), reverse=True))

    def previous(self) -> str | None:
        """The release that was in force before this one."""
        current = self.current()
        return next((name for name in self.by_age() if name != current and self._ran(name)), None)

    def _ran(self, release: str) -> bool:
        return any(event.release == release and event.result == "ok" for event in self.history())

    def history(self) -> tuple[Event, ...]:
        """What happened, oldest first."""
        entries: list[dict[str, Any]] = read_json(self._paths.history).get("events", [])
        return tuple(Event(**entry) for entry in entries)

    def record(
        self,
        action: Literal["first-boot", "apply", "rollback"],
        release: str,
        result: Literal["ok", "failed"],
        reason: str = "",
    ) -> None:
        """Add to the history, which keeps the last hundred."""
        events = [*self.history(), Event(self._now(), action, release, result, reason)]
        write_json(self._paths.history, {"events": [asdict(event) for event in events[-100:]]})


def cut_short(paths: Paths) -> str | None:
    """The release that is being applied, or whose apply was cut short."""
    release = read_json(paths.applying).get("release")
    return str(release) if release else None


def under_way(paths: Paths) -> str | None:
    """The release that this node is being changed to at this moment."""
    return cut_short(paths) if held(paths.apply_lock, paths.root) else None


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, home: Path) -> None:
    # The checksum vouches for the content; who packed it owns nothing here.
    target = (home / member.name).resolve()
    if not target.is_relative_to(home.resolve()) or not (member.isfile() or member.isdir()):
        raise tarfile.TarError(f"unexpected entry {member.name}")
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    archive.extract(member, home)
