"""Whether the settings that say who may come in and what runs are those that were set up.

What a package put in place is right for as long as it is what the package put there, so updates
need no word. All else is compared with a baseline, which the first boot writes down at its end.
What the steps of a release change goes into it; nothing else does. Whoever is root can forge it: a
node in doubt is rebuilt.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlord.files import read_json, write_json
from overlord.paths import Paths
from overlord.runner import Command, Runner, check

FOLDERS = (
    *(f"etc/{name}" for name in ("apt", "docker", "init.d", "ld.so.conf.d", "pam.d", "profile.d")),
    *(f"etc/{name}" for name in ("ssh", "sudoers.d", "systemd/system", "udev/rules.d", "ufw")),
    *(f"etc/cron.{name}" for name in ("d", "hourly", "daily", "weekly", "monthly")),
    *("etc/update-motd.d", "usr/local/bin", "usr/local/sbin", "var/spool/cron"),
)
"""Watched with all that is in them."""
FILES = (
    *(f"etc/{name}" for name in ("anacrontab", "crontab", "ld.so.conf", "ld.so.preload")),
    *(f"etc/{name}" for name in ("bash.bashrc", "environment", "profile", "rc.local", "sudoers")),
)
KEYS = (".ssh/authorized_keys", ".ssh/authorized_keys2")
"""In the home of each account that can log in."""
POWERFUL = frozenset({"adm", "admin", "disk", "docker", "lxd", "root", "shadow", "sudo", "wheel"})
"""Groups whose members read or do what others may not."""

CONFFILES = Command(
    ("dpkg-query", "--show", "--showformat=${Conffiles}\n"), timeout=600, quiet=True
)
UNITS = Command(("dpkg-query", "--search", "*/systemd/system/*"), timeout=600, quiet=True)

PACKAGED = "as its package put it"
_NO_SHELL = ("/nologin", "/false", "/sync")
# What dpkg and ucf leave beside a setting; none of the programs reads a file of such a name.
_LEFT_BESIDE = (".dpkg-", ".ucf-")


def keep_baseline(paths: Paths, runner: Runner) -> None:
    """Write the settings of now down, unless there is a baseline. Raises OverlordError."""
    if not paths.baseline.exists():
        write_json(paths.baseline, read_settings(paths, runner), 0o600)


@contextmanager
def baseline_follows(paths: Paths, runner: Runner) -> Iterator[None]:
    """What changes in the block goes into the baseline, whether or not the block comes to its end.
    What was changed before does not. Raises OverlordError.

    A block that was cut off by the end of the process is made up for by the next one.
    """
    if not paths.settings_before.exists():
        write_json(paths.settings_before, read_settings(paths, runner), 0o600)
    before = read_json(paths.settings_before)
    try:
        yield
    finally:
        after = read_settings(paths, runner)
        baseline = read_json(paths.baseline) if paths.baseline.exists() else before
        for name in before.keys() | after.keys():
            if before.get(name) == after.get(name):
                continue
            baseline.pop(name, None)
            if name in after:
                baseline[name] = after[name]
        write_json(paths.baseline, baseline, 0o600)
        paths.settings_before.unlink()


def changed_settings(paths: Paths, runner: Runner) -> list[str]:
    """Settings that are not as the baseline has them; none where there is no baseline yet. Raises
    OverlordError."""
    if not paths.baseline.exists():
        return []
    baseline, now = read_json(paths.baseline), read_settings(paths, runner)
    pairs = ((name, baseline.get(name), now.get(name)) for name in sorted({*baseline, *now}))
    return [f"{name} {_difference(was, is_)}" for name, was, is_ in pairs if _matters(was, is_)]


def read_settings(paths: Paths, runner: Runner) -> dict[str, str]:
    """What stands for each setting: a digest, or that it is as its package put it. Of accounts only
    what an intruder would change, since packages bring system accounts along: who can log in, with
    which password, and who is in a powerful group. Raises OverlordError."""
    root = paths.root
    packaged = _packaged(root, runner)
    found = {
        f"/{file.relative_to(root)}": digest
        for file in _watched(root)
        if (digest := _digest(root, file, packaged))
    }
    return {**found, **dict(_accounts(root))}


def _matters(was: str | None, is_: str | None) -> bool:
    # A package that comes brings its settings, and one that goes takes them along.
    return was != is_ and not {was, is_} <= {PACKAGED, None}


def _difference(was: str | None, is_: str | None) -> str:
    return "is gone" if is_ is None else "is new" if was is None else "differs"


def _packaged(root: Path, runner: Runner) -> dict[str, set[str]]:
    """For each packaged setting the MD5 sums that it may have; for a unit of a package, none."""
    remedy = "see `dpkg --audit`"
    known: dict[str, set[str]] = {}
    for line in check(runner, CONFFILES, remedy).output.splitlines():
        match line.split():
            case [path, md5, *_] if path.startswith("/"):
                known.setdefault(path, set()).add(md5)
    # Settings that a package makes by ucf, such as sshd_config, are unknown to dpkg.
    for line in _lines(root / "var/lib/ucf/hashfile"):
        match line.split():
            case [md5, path]:
                known.setdefault(path, set()).add(md5)
    for line in runner.run(UNITS).output.splitlines():
        known.setdefault(_merged(line.partition(": ")[2]), set())
    return known


def _merged(path: str) -> str:
    """One name for what has two since /lib is a link to /usr/lib."""
    return f"/usr{path}" if path.startswith("/lib/") else path


def _watched(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            # snapd makes one for each version of a snap; nothing runs by it.
            snap = file.name.startswith("snap-") and file.suffix == ".mount"
            if not snap and not any(part in file.name for part in _LEFT_BESIDE):
                yield file
    yield from (root / file for file in FILES)
    for _, _, _, home, _ in _logins(root):
        yield from (root / home.lstrip("/") / key for key in KEYS)


def _digest(root: Path, file: Path, packaged: dict[str, set[str]]) -> str | None:
    """None for what is not there or is no file."""
    name = f"/{file.relative_to(root)}"
    try:
        if file.is_symlink():
            target = os.path.normpath(Path(name).parent / file.readlink())
            return PACKAGED if _merged(target) in packaged else f"a link to {target}"
        if not file.is_file():
            return None
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return PACKAGED if md5 in packaged.get(name, ()) else hashlib.sha256(content).hexdigest()


def _accounts(root: Path) -> Iterator[tuple[str, str]]:
    for name, uid, gid, home, shell in _logins(root):
        yield f"/etc/passwd, {name}", _of(uid, gid, home, shell)
    for line in _lines(root / "etc/shadow"):
        match line.split(":"):
            case [name, password, *_] if not password.startswith(("!", "*")):
                yield f"/etc/shadow, {name}", _of(password)
    for line in _lines(root / "etc/group"):
        match line.split(":"):
            case [name, _, _, members] if name in POWERFUL and members:
                yield f"/etc/group, {name}", _of(*sorted(members.split(",")))


def _logins(root: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """Name, user id, group id, home and shell of each account that can log in, or is root by
    another name."""
    for line in _lines(root / "etc/passwd"):
        match line.split(":"):
            case [name, _, uid, gid, _, home, shell]:
                if uid == "0" or not shell.endswith(_NO_SHELL):
                    yield name, uid, gid, home, shell


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _of(*values: str) -> str:
    return hashlib.sha256("\n".join(values).encode()).hexdigest()
