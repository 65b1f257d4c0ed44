"""Brings the machine below the containers to what host.py and software.py describe."""

import hashlib
import importlib.util
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from overlord.commands.apt import Apt
from overlord.commands.systemd import Systemd
from overlord.commands.ufw import Ufw
from overlord.errors import OverlordError
from overlord.facts.system import firewall_up
from overlord.files import write, write_if_changed
from overlord.host import Area, FirewallRule, firewall_commands, parse_added_rules, sysctl_settings
from overlord.paths import Paths
from overlord.runner import Command, Runner, check
from overlord.software import Need, Repository


def converge(area: Area, paths: Paths, runner: Runner) -> bool:
    """Write an area's files and run its commands; tell whether a file changed.

    Raises CommandFailedError. When a check of the new files fails, the old ones are put back.
    """
    before: dict[Path, bytes | None] = {}
    for file in area.files:
        path = paths.root / file.path
        old = path.read_bytes() if path.exists() else None
        if write_if_changed(path, file.content, file.mode):
            before[path] = old
    try:
        if before:
            for command in area.before_use:
                check(runner, command, area.remedy)
            for command in area.after_change:
                check(runner, command, area.remedy)
        for unit in area.running:
            ensure_running(unit, runner, area.remedy)
    except OverlordError:
        # Also makes the next try see a change and run the commands again.
        _restore(before)
        raise
    return bool(before)


def _restore(before: dict[Path, bytes | None]) -> None:
    for path, content in before.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write(path, content)


def ensure_running(unit: str, runner: Runner, remedy: str) -> None:
    """A unit runs now and from each boot on. Raises CommandFailedError."""
    systemd = Systemd()
    if runner.run(systemd.is_active(unit)).code or runner.run(systemd.is_enabled(unit)).code:
        check(runner, systemd.enable_now(unit), remedy)


def set_sysctls(content: str, paths: Paths) -> list[str]:
    """Set kernel values now; keys that this machine refuses or lacks are returned."""
    refused = []
    for key, value in sysctl_settings(content):
        try:
            (paths.root / "proc/sys" / key.replace(".", "/")).write_text(value)
        except OSError:
            refused.append(key)
    return refused


def open_firewall(rules: tuple[FirewallRule, ...], runner: Runner) -> None:
    """Bring ufw to exactly these rules of ours. Raises CommandFailedError."""
    remedy = "see `ufw status verbose`; Hetzner's firewall still guards the node"
    added = parse_added_rules(check(runner, Ufw().show_added(), remedy).output)
    for command in firewall_commands(rules, added, firewall_up(runner)):
        check(runner, command, remedy)
    # ufw's own switch is not enough where the unit is not enabled.
    ensure_running("ufw.service", runner, remedy)


def install(
    needs: tuple[Need, ...],
    paths: Paths,
    runner: Runner,
    download: Callable[[str], bytes],
) -> list[str]:
    """Install missing programs; returns the packages. Raises OverlordError."""
    if not needs:
        return []
    remedy = "check network and mirrors, then run `sudo overlord-launch run`"
    for repository in {need.repository for need in needs if need.repository}:
        _add_repository(repository, paths, runner, download)
    packages = tuple(dict.fromkeys(package for need in needs for package in need.packages))
    check(runner, Apt().update(), remedy)
    check(runner, Apt().install(packages), remedy)
    return list(packages)


def _add_repository(
    repository: Repository, paths: Paths, runner: Runner, download: Callable[[str], bytes]
) -> None:
    keyring = paths.root / f"usr/share/keyrings/{repository.name}-archive-keyring.gpg"
    key = download(repository.key_url)
    suffix = ".asc" if key.startswith(b"-----BEGIN") else ".gpg"
    keyring = keyring.with_suffix(suffix)
    write(keyring, key)
    shown = check(
        runner,
        Command(("gpg", "--show-keys", "--with-colons", str(keyring))),
        f"the answer of {repository.key_url} is no OpenPGP key: check proxies and DNS",
    )
    prints = [line.split(":")[9] for line in shown.output.splitlines() if line.startswith("fpr:")]
    if repository.key_fingerprint not in prints:
        keyring.unlink()
        raise OverlordError(
            f"signing key of the {repository.name} repository is {prints[:1]}, "
            f"expected {repository.key_fingerprint}",
            "do not install: somebody may be in the middle, or the vendor has changed its key; "
            "compare with the vendor's installation page",
        )
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
    line = repository.line.format(
        keyring=f"/{keyring.relative_to(paths.root)}", architecture=architecture
    )
    write(paths.root / f"etc/apt/sources.list.d/{repository.name}.list", f"{line}\n".encode())


def present(need: Need) -> bool:
    """Whether a program can be run here, or a module of Python be imported."""
    if need.module:
        return importlib.util.find_spec(need.program) is not None
    return _program_present(need.program)


def _program_present(program: str) -> bool:
    plugins = ("/usr/libexec", "/usr/lib", "/usr/local/lib", "/usr/local/libexec")
    if program == "docker-compose":
        homes = [Path(home, "docker/cli-plugins/docker-compose") for home in plugins]
        return any(path.exists() for path in [*homes, Path("/root/.docker/cli-plugins", program)])
    return (
        shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin") is not None
    )


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def authorise(user: str, paths: Paths) -> None:
    """Let the deploy keys in, and no other key of that user. Each may do nothing but run commands.

    A secrets document of an older program names none; then those of the first boot stay.
    """
    try:
        keys = (paths.secrets / "deploy_authorized_keys").read_text().splitlines()
    except FileNotFoundError:
        return
    lines = "".join(f"restrict {key}\n" for key in keys if key)
    # sshd reads it as the user; that it is root's is as good.
    write_if_changed(paths.root / "home" / user / ".ssh/authorized_keys", lines.encode(), 0o644)
