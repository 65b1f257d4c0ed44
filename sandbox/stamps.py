"""What a made thing was made from, so that making it again can be skipped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

LEFT_OUT = {"__pycache__", "node_modules", ".venv", "dist", "test-artefacts"}
"""Folders that are made from others and so neither hashed nor put into an image."""


def digest(*parts: str | bytes | Path) -> str:
    """Hash texts and the content of files and folders, names included, in the given order."""
    whole = hashlib.sha256()
    for part in parts:
        for name, data in _contents(part):
            for piece in (name.encode(), data):
                # The length keeps "ab" + "c" apart from "a" + "bc".
                whole.update(len(piece).to_bytes(8, "big") + piece)
    return whole.hexdigest()


def _contents(part: str | bytes | Path) -> Iterable[tuple[str, bytes]]:
    if isinstance(part, Path):
        if part.is_dir():
            files = sorted(
                file
                for file in part.rglob("*")
                if file.is_file() and not LEFT_OUT & set(file.parts)
            )
            return [(str(file.relative_to(part)), file.read_bytes()) for file in files]
        return [(part.name, part.read_bytes())]
    return [("", part.encode() if isinstance(part, str) else part)]


class Stamps:
    """One small file a made thing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def matches(self, name: str, stamp: str) -> bool:
        """Tell whether the thing was last made from exactly this."""
        file = self.folder / name
        return file.exists() and file.read_text() == stamp

    def write(self, name: str, stamp: str) -> None:
        """Note what the thing was made from. Call it last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(stamp)

    def forget(self, name: str) -> None:
        """Have the thing made again next time."""
        (self.folder / name).unlink(missing_ok=True)
