"""What the database's own container does for its backups."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from overlord.commands.compose import Compose
from overlord.runner import Command

TOOL = "/etc/overlord/postgres/pgbackrest-tool"
REPOSITORY = "/etc/overlord/postgres/pgbackrest-repository"
"""Runs a command with one of two repositories or with both; there only where there are two."""
Which = Literal["", "1", "2", "both"]
"""Which repositories; nothing where there is only one."""
SCRATCH = "/var/lib/postgresql/data/restore-test"
"""Where the restore test works, on the database's volume and beside the database."""
_MOUNTED = "/repository"
"""Where a container sees a copy of the repository."""
_ALONE: tuple[Which, ...] = ("1", "2")
_GENTLY = ("nice", "-n", "15", "ionice", "-c", "3")
_HOURS = 3600.0
_ANSWER = 300.0
"""Seconds: pgBackRest tries a silent bucket twice for 60 s, and its own word is the better one."""


@dataclass(frozen=True)
class BackupTool:
    """Commands of pgbackrest-tool, in the running database's container or in one of its own."""

    compose: Compose
    which: Which = ""
    repository: Path | None = None
    """Folder of this machine with a copy of the repository, to read in place of the bucket."""

    def info(self) -> Command:
        """What is in the repository, as JSON. In a container of its own: the database may be down
        or not there yet."""
        options = ("--repo1-type=posix", f"--repo1-path={_MOUNTED}") if self.repository else ()
        return self._alone(TOOL, "--output=json", *options, "info", timeout=_ANSWER)

    def stanza_create(self) -> Command:
        """Prepare the repository; refused where it belongs to another database."""
        return self._beside("stanza-create", timeout=_ANSWER)

    def archiver(self) -> Command:
        """How far the archive is behind, as JSON."""
        return self._beside("archiver", timeout=30)

    def mark(self, token: str) -> Command:
        """Write the row that the next restore has to find."""
        return self._beside("mark", token, timeout=600)

    def backup(self, kind: str) -> Command:
        """A backup, `full` or `diff`, in the background of everything else. What an interrupted
        one has stored already is taken over."""
        level = "--log-level-console=info"
        return self._beside(f"--type={kind}", level, "backup", prefix=_GENTLY, timeout=12 * _HOURS)

    def examine(self) -> Command:
        """Restore the newest backup into the scratch folder and look at all of it."""
        return self._alone(TOOL, "examine", SCRATCH, prefix=_GENTLY)

    def clear_scratch(self) -> Command:
        """Remove what a restore test left, whole or not."""
        return self.compose.run("database-tool", "rm", "-rf", SCRATCH, timeout=600)

    def restore(self, at: str | None) -> Command:
        """Put the database back in its place while its server is stopped."""
        return self._alone("database-tool", "restore", *self._wanted(at))

    def copy(self, at: str | None, folder: Path) -> Command:
        """Bring the database back into `pgdata` of a folder of this machine."""
        words = (TOOL, "recover", "/copy/pgdata", *self._wanted(at))
        return self._alone(*words, volumes=(f"{folder}:/copy",))

    def _beside(self, *args: str, prefix: tuple[str, ...] = (), timeout: float) -> Command:
        tool = (*prefix, *self._repositories, TOOL)
        return self.compose.execute("postgres", *tool, *args, timeout=timeout)

    def _alone(
        self,
        *words: str,
        prefix: tuple[str, ...] = (),
        volumes: tuple[str, ...] = (),
        timeout: float = 12 * _HOURS,
    ) -> Command:
        if self.repository:
            volumes = (*volumes, f"{self.repository}:{_MOUNTED}:ro")
        return self.compose.run(
            *("database-tool", *prefix, *self._repositories, *words),
            volumes=volumes,
            timeout=timeout,
        )

    def _wanted(self, at: str | None) -> tuple[str, ...]:
        target = ("--at", at) if at else ()
        return (*target, "--repository", _MOUNTED) if self.repository else target

    def of_each(self, count: int) -> "tuple[BackupTool, ...]":
        """One for each of so many repositories, the first one first."""
        if count == 1:
            return (self,)
        return tuple(replace(self, which=which) for which in _ALONE[:count])

    @property
    def _repositories(self) -> tuple[str, ...]:
        return (REPOSITORY, self.which) if self.which else ()
