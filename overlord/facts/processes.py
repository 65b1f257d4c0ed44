"""Processes that nothing here starts."""

import contextlib
from pathlib import Path

# Where anybody may write. What is in a package, an image or a release is elsewhere.
_OPEN_PLACES = ("/tmp/", "/var/tmp/", "/dev/shm/", "/memfd:")  # noqa: S108  # looked at, not used
# runc runs a copy of itself in memory for a moment, so that a container cannot change it.
_HARMLESS = ("/memfd:runc",)


def out_of_place(root: Path) -> tuple[str, ...]:
    """Processes whose program lies where anybody may write, or only in memory, as `PID PATH`.

    Those in containers too, each path as its container has it. Nothing installed runs from there;
    what an intruder brings along mostly does.
    """
    found = []
    for process in (root / "proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is a thread of the kernel
            program = str((process / "exe").readlink())
            if program.startswith(_OPEN_PLACES) and not program.startswith(_HARMLESS):
                found.append(f"{process.name} {program}")
    return tuple(sorted(found))
