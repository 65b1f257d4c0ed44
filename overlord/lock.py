"""One change at a time."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from overlord.errors import OverlordError


@contextmanager
def exclusive(
    path: Path,
    timeout: float,
    say: Callable[[str], object] = print,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Hold a lock that ends with the process; wait for it up to timeout seconds.

    Raises OverlordError when another process keeps it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = clock() + timeout
    told = False
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
            if clock() >= deadline:
                raise OverlordError(
                    f"another apply is running (process {holder}), waited {timeout:.0f} s",
                    "let it end, see `overlordctl status`, and try again",
                )
            if not told:
                say(f"another apply is running (process {holder}), waiting …")
                told = True
            sleep(1)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def held(path: Path, root: Path = Path("/")) -> bool:
    """Whether the process that locked it last still lives. Does not touch the lock."""
    try:
        holder = path.read_text().strip()
    except OSError:
        return False
    return holder.isdigit() and (root / "proc" / holder).is_dir()
