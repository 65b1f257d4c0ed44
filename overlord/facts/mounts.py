"""Which releases running processes still have mounted."""

import re
from pathlib import Path

_RELEASE = re.compile(r"/releases/([0-9a-f]{12})/")


def releases_in_use(proc: Path) -> frozenset[str]:
    """Releases whose folders some process has mounted.

    A container whose configuration did not change keeps the folder of the release it was started
    from; that folder must not be removed under it.
    """
    found: set[str] = set()
    for file in proc.glob("[0-9]*/mountinfo"):
        try:
            found.update(_RELEASE.findall(file.read_text()))
        except OSError:
            continue  # the process has ended
    return frozenset(found)
