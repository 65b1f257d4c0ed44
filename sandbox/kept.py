"""What outlives the sandbox, as it outlives servers in production: buckets with data, and Pulumi's
state, which holds the key to them."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import requests

from sandbox.commands import SandboxError
from sandbox.world import CONTROL_URL, SAVED_BUCKET, World

STATUS_SECONDS = 10
SAVE_SECONDS = 600
"""Gigabytes may be in them."""
FROM_NOTHING = 'make destroy ARGS="--all-buckets"'


def save_buckets(world: World, going: Collection[str] | None) -> list[str]:
    """Write the buckets that hold data to the disk, or only drop those that go where the vendors
    do not run.

    Args:
        world: the sandbox, before its vendors are stopped.
        going: names of buckets that go with the rest; None for all.

    Returns:
        Names of the buckets that stay.

    Raises:
        SandboxError: a name is none of a bucket, or the buckets cannot be saved.
    """
    if going is None:
        shutil.rmtree(world.kept_buckets, ignore_errors=True)
        return []
    try:
        running = _buckets()
        names = kept_buckets(world) if running is None else running
        if unknown := set(going) - set(names):
            raise SandboxError(
                f"there is no bucket {', '.join(sorted(unknown))}",
                f"there are: {', '.join(names) or 'none'}",
            )
        if running is None:
            for name in going:
                (world.kept_buckets / f"{name}{SAVED_BUCKET}").unlink()
        else:
            _ask("POST", "/buckets/save", SAVE_SECONDS, json={"leave_out": sorted(going)})
    except requests.RequestException as error:
        raise SandboxError(
            f"the buckets could not be saved: {error}",
            f"is the disk full? {FROM_NOTHING} removes them too, whatever state they are in",
        ) from None
    return kept_buckets(world)


def kept_buckets(world: World) -> list[str]:
    """Names of the buckets on the disk."""
    return sorted(file.stem for file in world.kept_buckets.glob(f"*{SAVED_BUCKET}"))


def put_away(world: World) -> None:
    """Move what the kept buckets need out of the state folder; without buckets nothing is kept."""
    if not kept_buckets(world):
        shutil.rmtree(world.kept, ignore_errors=True)
        return
    for path in _companions(world):
        if path.exists():
            shutil.rmtree(world.kept / path.name, ignore_errors=True)
            shutil.move(path, world.kept / path.name)


def bring_back(world: World) -> list[str]:
    """Move what was put away into the state folder of a new world; the vendors read the buckets.
    Returns their names, or nothing where the world was there already."""
    came = False
    for path in _companions(world):
        put = world.kept / path.name
        if put.exists() and not path.exists():
            shutil.move(put, path)
            came = True
    return kept_buckets(world) if came else []


def _companions(world: World) -> tuple[Path, ...]:
    return world.pulumi_state, world.tokens


def _buckets() -> list[str] | None:
    """Names of the buckets at the vendors; None where they do not run."""
    try:
        status = _ask("GET", "/status", STATUS_SECONDS)
    except requests.ConnectionError:
        return None
    return [one["name"] for one in status["s3"]["buckets"]]


def _ask(method: str, path: str, seconds: float, **body: Any) -> dict[str, Any]:
    answer = requests.request(method, f"{CONTROL_URL}{path}", timeout=seconds, **body)
    answer.raise_for_status()
    content: dict[str, Any] = answer.json()
    return content
