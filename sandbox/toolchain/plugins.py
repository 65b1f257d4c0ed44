"""Pulumi's plugins: the official ones where they can be had, our stand-ins for the others."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sandbox.commands import run, succeeds
from sandbox.stamps import Stamps, digest
from sandbox.toolchain.tools import TOOLS, official_on_path
from sandbox.world import REPOSITORY, World

STAND_INS = REPOSITORY / "sandbox" / "providers"
REQUIREMENTS = REPOSITORY / "requirements.txt"
NAMES = ("hcloud", "cloudflare", "tailscale", "command")
# What build.sh adds for a CLI of our own build. The official one brings its own.
LANGUAGE_FILES = (
    "pulumi-language-python",
    "pulumi-language-python-exec",
    "pulumi-resource-pulumi-python",
)
BUILD_SECONDS = 1200
STAMP = "plugins"


def versions(requirements: str) -> dict[str, str]:
    """Read the plugins' versions: each equals that of its Python package."""
    found = dict(re.findall(r"^pulumi-([a-z]+)==(\S+)", requirements, re.MULTILINE))
    return {name: found[name] for name in NAMES}


def stamp() -> str:
    """Hash of all that decides which plugins are there."""
    return digest(STAND_INS, repr(versions(REQUIREMENTS.read_text())))


def are_ready(world: World) -> bool:
    """Tell whether there is nothing to do."""
    return Stamps(world.stamps).matches(STAMP, stamp())


def on_path(name: str, world: World) -> bool:
    """Tell whether an official plugin is on PATH. What the cache holds is no such."""
    folders = [
        folder
        for folder in os.environ.get("PATH", "").split(os.pathsep)
        if folder and Path(folder).resolve() != world.bin.resolve()
    ]
    return shutil.which(f"pulumi-resource-{name}", path=os.pathsep.join(folders)) is not None


def download_command(name: str, version: str) -> list[str]:
    """Build the command that has Pulumi fetch an official plugin."""
    return ["pulumi", "plugin", "install", "resource", name, f"v{version}", "--non-interactive"]


def official(world: World) -> set[str]:
    """Name the plugins whose official build is on PATH or could be downloaded.

    One source has them all, so the first that cannot be had ends the attempt.
    """
    env = {
        "PATH": os.pathsep.join([str(world.bin), os.environ.get("PATH", "")]),
        "PULUMI_HOME": str(world.pulumi_cache),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    found = {name for name in NAMES if on_path(name, world)}
    for name, version in versions(REQUIREMENTS.read_text()).items():
        if name not in found:
            if not succeeds(download_command(name, version), env):
                break
            found.add(name)
    return found


def install(world: World) -> set[str]:
    """Fetch the official plugins and build stand-ins for the others, whose names are returned."""
    missing = set(NAMES) - official(world)
    own_cli = not any(tool.name == "pulumi" and official_on_path(tool, world) for tool in TOOLS)
    if missing or own_cli:
        run(
            ["nice", "-n", "10", "sh", STAND_INS / "build.sh", world.bin, *sorted(missing)],
            log=world.logs_of_install / "build-plugins.log",
            seconds=BUILD_SECONDS,
            remedy="check that the Go module proxy can be reached, then run install again",
        )
    for name in NAMES:
        link = world.bin / f"pulumi-resource-{name}"
        # Pulumi prefers what is on PATH, so a stand-in that is not needed must go.
        if name not in missing and link.is_symlink():
            link.unlink()
    if not own_cli:
        for file in LANGUAGE_FILES:
            (world.bin / file).unlink(missing_ok=True)
    Stamps(world.stamps).write(STAMP, stamp())
    return missing
