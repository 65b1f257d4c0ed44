"""Whether the files of a node are those that were installed, and its settings as they were set up.

dpkg knows the checksum of each packaged file, and goes with every update; each release has a list
of its own. So nothing has to be told of a legitimate change, as it has to be with AIDE, and an
alert means something. Settings have a baseline, see overlord.baseline. Whoever is root can forge
all of it: a node in doubt is rebuilt.
"""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from overlord.baseline import changed_settings
from overlord.errors import OverlordError
from overlord.files import read_json, write_json
from overlord.paths import Paths
from overlord.runner import Command, Runner, check

VERIFY = Command(("dpkg", "--verify"), timeout=3600, quiet=True)
SETTLE_SECONDS = 120.0
"""An update replaces files before it writes down their checksums."""
NAMED = 20
"""So many files are named; the number says how many there are."""

# As rpm prints it: nine checks, a letter for configuration files, the path.
_FOUND = re.compile(r"^(?P<checks>missing|[?.5]{9}) +(?P<kind>[a-z] )? *(?P<path>/.+)$")
# Left out of many images by dpkg's own `path-exclude`.
_NOT_INSTALLED = tuple(f"/usr/share/{name}/" for name in ("doc", "info", "locale", "man"))


@dataclass(frozen=True)
class FileCheck:
    """How the last check ended.

    Args:
        time: seconds since the epoch.
        changed: files and settings that differ, are gone, or are new.
        files: the first of them, each with what is wrong.
    """

    time: float
    changed: int
    files: tuple[str, ...]


def read_file_check(paths: Paths) -> FileCheck | None:
    """The last check on this node, or None before the first."""
    found = read_json(paths.file_check)
    try:
        return FileCheck(float(found["time"]), int(found["changed"]), tuple(found["files"]))
    except (KeyError, TypeError, ValueError):
        return None


def check_files(
    paths: Paths,
    runner: Runner,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
) -> FileCheck:
    """Check all files and write down what was found. Raises OverlordError.

    What is found counts when it is still found two minutes later.
    """
    found = _changed(paths, runner)
    if found:
        sleep(SETTLE_SECONDS)
        again = set(_changed(paths, runner))
        found = [one for one in found if one in again]
    result = FileCheck(now(), len(found), tuple(found[:NAMED]))
    try:
        write_json(paths.file_check, asdict(result))
    except OSError as error:
        raise OverlordError(f"the result cannot be written: {error}", "is the disk full?") from None
    return result


def _changed(paths: Paths, runner: Runner) -> list[str]:
    output = check(runner, VERIFY, "see `dpkg --audit`").output
    settings = changed_settings(paths, runner)
    return [*changed_packaged(output), *changed_released(paths), *settings]


def changed_packaged(output: str) -> list[str]:
    """Files of packages that differ or are gone, from what `dpkg --verify` says.

    Settings are compared with their baseline, and documentation may be left out.
    """
    lines = (_FOUND.match(line) for line in output.splitlines())
    return [
        f"{line['path']} {'is gone' if line['checks'] == 'missing' else 'differs'}"
        for line in lines
        if line and not line["kind"] and not line["path"].startswith(_NOT_INSTALLED)
    ]


def changed_released(paths: Paths) -> list[str]:
    """Files of the release in force that differ or are gone. An old one has no list of them."""
    checksums = read_json(paths.current / "bundle.json").get("files", {})
    return [
        f"{paths.current / path} {wrong}"
        for path, checksum in checksums.items()
        if (wrong := _wrong(paths.current / path, checksum))
    ]


def _wrong(file: Path, checksum: str) -> str | None:
    try:
        same = hashlib.sha256(file.read_bytes()).hexdigest() == checksum
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if same else "differs"
