"""Small writes that a power cut cannot tear."""

import json
import os
from pathlib import Path
from typing import Any


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file: afterwards there is the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_if_changed(path: Path, data: bytes, mode: int = 0o644) -> bool:
    """Replace a file if its content differs; tell whether it did."""
    try:
        if path.read_bytes() == data:
            path.chmod(mode)
            return False
    except FileNotFoundError:
        pass
    write(path, data, mode)
    return True


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty if the file is missing or torn."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_json(path: Path, data: object, mode: int = 0o644) -> None:
    """Replace a JSON file."""
    write(path, (json.dumps(data, indent=1) + "\n").encode(), mode)
