"""A file system in memory: one that is small, or one that nobody has to wait for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def memory_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system in a folder, with all that is in it gone at the end.

    Args:
        folder: made if it is not there.
        size: at the most, such as 2m, or 50% of this machine's memory.
    """
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "overlord-test", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
