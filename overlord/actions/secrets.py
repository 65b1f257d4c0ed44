"""Secrets on disk: one file each, readable by the containers that mount it and by root."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlord.errors import OverlordError
from overlord.files import read_json, write
from overlord.paths import Paths


@dataclass(frozen=True)
class SharedSecrets:
    """Which secrets containers mount, from the release's secrets.json."""

    gid: int
    mode: int
    names: tuple[str, ...]


def read_shared_secrets(node_home: Path) -> SharedSecrets:
    """From a node's folder in a release; nothing is shared without the file."""
    data: dict[str, Any] = read_json(node_home / "secrets.json")
    return SharedSecrets(
        gid=int(data.get("gid", 0)),
        mode=int(str(data.get("mode", "0400")), 8),
        names=tuple(data.get("files", ())),
    )


def parse_document(text: bytes) -> dict[str, str]:
    """Secrets document: names and texts. Raises OverlordError, which never shows its content."""
    remedy = "run `pulumi up` again; if it stays, the program and this release do not fit together"
    try:
        document = json.loads(text)
    except ValueError:
        # Not chained: the original error quotes the document.
        raise OverlordError("the secrets document is not JSON", remedy) from None
    if not isinstance(document, dict) or not all(
        isinstance(value, str) and re.fullmatch("[a-z0-9_]+", name)
        for name, value in document.items()
    ):
        raise OverlordError("the secrets document is not an object of names and texts", remedy)
    return document


def changed_secrets(document: dict[str, str], paths: Paths) -> tuple[str, ...]:
    """Names whose value on disk differs or is missing."""
    return tuple(name for name, value in sorted(document.items()) if _read(paths, name) != value)


def _read(paths: Paths, name: str) -> str | None:
    try:
        return (paths.secrets / name).read_text()
    except FileNotFoundError:
        return None


def snapshot(names: tuple[str, ...], paths: Paths) -> dict[str, str | None]:
    """Values on disk, to go back to."""
    return {name: _read(paths, name) for name in names}


def store(values: dict[str, str | None], paths: Paths) -> None:
    """Write secrets; None removes one."""
    for name, value in values.items():
        if value is None:
            (paths.secrets / name).unlink(missing_ok=True)
        else:
            write(paths.secrets / name, value.encode(), 0o600)


def share(shared: SharedSecrets, paths: Paths) -> None:
    """Give containers their secrets, and nobody the others. Raises OverlordError."""
    missing = [name for name in shared.names if not (paths.secrets / name).exists()]
    if missing:
        raise OverlordError(
            f"secrets that the stack mounts are missing: {', '.join(missing)}",
            "run `pulumi up` with the program that made this bundle: it brings its secrets along",
        )
    paths.secrets.chmod(0o750)
    os.chown(paths.secrets, 0, shared.gid)
    for file in paths.secrets.iterdir():
        mine = file.name not in shared.names
        os.chown(file, 0, 0 if mine else shared.gid)
        file.chmod(0o600 if mine else shared.mode)
