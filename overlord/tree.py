"""Digest of a folder."""

import hashlib
from pathlib import Path


def tree_digest(folder: Path) -> str:
    """SHA-256 over names and content of all files but compiled ones."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            content = file.read_bytes()
            digest.update(f"{file.relative_to(folder)}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()
