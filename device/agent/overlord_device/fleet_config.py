"""Configuration pulled from the Git host, or from its mirror, and never used unverified.

A configuration is a folder with a ``manifest.json`` that lists every file with its SHA-256, and
``manifest.json.sig``, an OpenSSH signature (``ssh-keygen -Y sign``, ed25519) over the manifest. So
one signature covers all files, and neither host can change, mix or withhold a single one.

Why OpenSSH signatures: every Raspberry Pi has ``ssh-keygen``, so the agent needs no cryptography
of its own and no library to build; the format has a namespace, so a signature made for something
else does not pass; keys are listed, dated and withdrawn in one ``allowed_signers`` file; and the
private key can stay on a security key. A signed Git tag would need Git and the whole repository on
the device.

An old manifest is validly signed too, so a host could serve one again. Each manifest carries a
serial that only goes up, and the device remembers the highest it has taken.

The switch is one rename of the link ``current``. The configuration before it is kept.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .files import sync_folder, write_durably
from .settings import ConfigSource
from .transport import HttpClient, TransportError

log = logging.getLogger(__name__)

NAMESPACE = "overlord-config"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
FORMAT = 1
MAX_MANIFEST_BYTES = 256 * 1024
MAX_SIGNATURE_BYTES = 16 * 1024
MAX_FILES = 200
MAX_TOTAL_BYTES = 16 * 1024 * 1024
_KEYGEN_TIMEOUT_S = 20.0


class ConfigError(Exception):
    """A configuration that must not be used, and why."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a configuration."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a configuration consists of."""

    serial: int
    version: str
    devices: tuple[str, ...]
    files: Mapping[str, FileEntry]
    digest: str

    @property
    def folder(self) -> str:
        """The name of the folder that holds it."""
        return f"{self.serial}-{self.digest[:12]}"


def parse_manifest(raw: bytes) -> Manifest:
    """Read a manifest, strictly.

    Raises:
        ConfigError: what is wrong with it.
    """
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the manifest is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ConfigError(f"the manifest is not of format {FORMAT}")
    serial, version = data.get("serial"), data.get("version")
    devices, files = data.get("devices", ["*"]), data.get("files")
    if not isinstance(serial, int) or isinstance(serial, bool) or serial < 1:
        raise ConfigError("the manifest's serial is not a whole number from 1")
    if not isinstance(version, str) or not 1 <= len(version) <= 64:
        raise ConfigError("the manifest's version is not a text of 1 to 64 characters")
    if not isinstance(devices, list) or not all(isinstance(item, str) for item in devices):
        raise ConfigError("the manifest's devices are not a list of patterns")
    if not isinstance(files, dict) or not 1 <= len(files) <= MAX_FILES:
        raise ConfigError(f"the manifest does not list 1 to {MAX_FILES} files")
    entries = {name: _entry(name, item) for name, item in files.items()}
    if sum(entry.size for entry in entries.values()) > MAX_TOTAL_BYTES:
        raise ConfigError(f"the files are larger than {MAX_TOTAL_BYTES} bytes together")
    return Manifest(serial, version, tuple(devices), entries, hashlib.sha256(raw).hexdigest())


def _entry(name: str, item: Any) -> FileEntry:
    path = PurePosixPath(name)
    bad = path.is_absolute() or str(path) != name or "\\" in name or "\0" in name
    if bad or any(part == ".." or part.startswith(".") for part in path.parts) or not path.parts:
        raise ConfigError(f"the manifest names a file outside its folder: {name!r}")
    if name in (MANIFEST, SIGNATURE):
        raise ConfigError(f"the manifest lists {name} itself")
    sha256, size = (item.get("sha256"), item.get("size")) if isinstance(item, dict) else (0, 0)
    if not isinstance(sha256, str) or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ConfigError(f"the manifest has no SHA-256 for {name}")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ConfigError(f"the manifest has no size for {name}")
    return FileEntry(sha256, size)


class Verifier:
    """Checks OpenSSH signatures against the fleet's ``allowed_signers`` file."""

    def __init__(self, allowed_signers: Path, identity: str) -> None:
        self._allowed_signers = allowed_signers
        self._identity = identity

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return when the signature is good.

        Raises:
            ConfigError: it is not, or it could not be checked.
        """
        if not self._allowed_signers.is_file():
            raise ConfigError(
                f"{self._allowed_signers} is missing: copy the fleet's allowed_signers there"
            )
        with tempfile.TemporaryDirectory(prefix="overlord-verify-") as folder:
            signature_file = Path(folder) / "signature"
            signature_file.write_bytes(signature)
            command = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", self._identity]
            command += ["-f", str(self._allowed_signers), "-s", str(signature_file)]
            try:
                done = subprocess.run(
                    command,
                    input=message,
                    capture_output=True,
                    timeout=_KEYGEN_TIMEOUT_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise ConfigError(
                    f"the signature could not be checked ({error}); install openssh-client"
                ) from error
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise ConfigError(f"the signature is not good for {self._identity}: {said}")


@dataclass(frozen=True)
class Pull:
    """How a look at the sources ended."""

    source: str | None
    manifest: Manifest | None
    changed: bool
    problems: tuple[str, ...]


class FleetConfig:
    """The configurations on this device: the one in force and the one before it."""

    def __init__(
        self,
        folder: Path,
        device_id: str,
        sources: Sequence[ConfigSource],
        verifier: Verifier,
        client: HttpClient,
    ) -> None:
        self._folder = folder
        self._device_id = device_id
        self._sources = sources
        self._verifier = verifier
        self._client = client

    @property
    def current_link(self) -> Path:
        """The link that always points to a whole, verified configuration, once there is one."""
        return self._folder / "current"

    def current(self) -> Manifest | None:
        """The manifest in force, None before the first."""
        try:
            return parse_manifest((self.current_link / MANIFEST).read_bytes())
        except (OSError, ConfigError):
            return None

    def check_stored(self) -> None:
        """Check the configuration in force against its manifest, as after a power cut.

        A damaged one is replaced by the one before it when that is whole; the next pull brings the
        newest again.
        """
        if not self.current_link.is_symlink() or _whole(self.current_link):
            return
        damaged = self.current_link.readlink().name
        for name in sorted(self._stored(), key=_serial_of, reverse=True):
            if name != damaged and _whole(self._folder / name):
                log.error("configuration %s is damaged on disk; back to %s", damaged, name)
                self._point_to(name)
                break
        else:
            log.error("configuration %s is damaged on disk and no other is whole", damaged)
            self.current_link.unlink()
        shutil.rmtree(self._folder / damaged, ignore_errors=True)

    def pull(self) -> Pull:
        """Ask the sources in order; the first that has a good configuration decides."""
        problems: list[str] = []
        for source in self._sources:
            try:
                manifest, changed = self._pull_from(source)
            # ValueError: a token file that is no text.
            except (TransportError, ConfigError, OSError, ValueError) as error:
                problems.append(f"{source.url}: {error}")
                continue
            return Pull(source.url, manifest, changed, tuple(problems))
        return Pull(None, self.current(), False, tuple(problems))

    def _pull_from(self, source: ConfigSource) -> tuple[Manifest, bool]:
        raw = self._fetch(source, MANIFEST, MAX_MANIFEST_BYTES)
        current = self.current()
        if current is not None and hashlib.sha256(raw).hexdigest() == current.digest:
            return current, False
        self._verifier.verify(raw, self._fetch(source, SIGNATURE, MAX_SIGNATURE_BYTES))
        manifest = parse_manifest(raw)
        highest = self._highest()
        if manifest.serial < highest:
            raise ConfigError(
                f"serial {manifest.serial} is older than {highest}, which this device has had; "
                "to go back to an older content, sign it again with a higher serial"
            )
        if current is not None and manifest.serial == current.serial:
            raise ConfigError(f"two different configurations carry serial {manifest.serial}")
        if not any(fnmatch.fnmatchcase(self._device_id, item) for item in manifest.devices):
            raise ConfigError(f"configuration {manifest.version} is not for {self._device_id}")
        self._install(source, manifest, raw)
        return manifest, True

    def _install(self, source: ConfigSource, manifest: Manifest, raw: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        try:
            staging.chmod(0o755)
            for name, entry in manifest.files.items():
                content = self._fetch(source, name, entry.size)
                if hashlib.sha256(content).hexdigest() != entry.sha256:
                    raise ConfigError(f"{name} does not match its checksum in the manifest")
                target = staging / name
                target.parent.mkdir(parents=True, exist_ok=True)
                write_durably(target, content)
            write_durably(staging / MANIFEST, raw)
            final = self._folder / manifest.folder
            if final.exists():
                shutil.rmtree(final)
            staging.replace(final)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        # Remembered before the switch: a power cut between the two must not open the way back.
        write_durably(self._folder / "highest-serial", f"{manifest.serial}\n".encode())
        before = self.current_link.readlink().name if self.current_link.is_symlink() else None
        self._point_to(manifest.folder)
        for name in self._stored():
            if name not in (manifest.folder, before):
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def _point_to(self, name: str) -> None:
        temporary = self._folder / ".current-new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(name)
        temporary.replace(self.current_link)
        sync_folder(self._folder)

    def _fetch(self, source: ConfigSource, name: str, max_bytes: int) -> bytes:
        headers: dict[str, str] = {}
        if source.token_file is not None:
            headers["Authorization"] = f"Bearer {source.token_file.read_text().strip()}"
        url = f"{source.url}/{urllib.parse.quote(name)}"
        reply = self._client.request("GET", url, headers=headers, max_bytes=max_bytes)
        if reply.status != 200:
            raise ConfigError(f"{name}: the host answered {reply.status}")
        return reply.body

    def _highest(self) -> int:
        try:
            return int((self._folder / "highest-serial").read_text())
        except (OSError, ValueError):
            return 0

    def _stored(self) -> list[str]:
        """The folders here, half-made ones of an earlier crash included."""
        return [
            entry.name
            for entry in self._folder.iterdir()
            if entry.is_dir() and not entry.is_symlink()
        ]


def _serial_of(name: str) -> int:
    head = name.partition("-")[0]
    return int(head) if head.isdigit() else -1


def _whole(folder: Path) -> bool:
    """Whether every file listed is there with its checksum."""
    try:
        manifest = parse_manifest((folder / MANIFEST).read_bytes())
        return all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry.sha256
            for name, entry in manifest.files.items()
        )
    except (OSError, ConfigError):
        return False


def seal(folder: Path, key: Path, serial: int, version: str, devices: Sequence[str]) -> Manifest:
    """Write and sign the manifest of a folder. Run by the fleet's operator, not by a device.

    Raises:
        ConfigError: the folder cannot be described, or ssh-keygen refused to sign.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if path.is_file() and not hidden and name not in (MANIFEST, SIGNATURE):
            content = path.read_bytes()
            files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    data = {
        "format": FORMAT,
        "serial": serial,
        "version": version,
        "devices": list(devices),
        "files": files,
    }
    raw = (json.dumps(data, indent=2) + "\n").encode()
    manifest = parse_manifest(raw)
    done = subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)],
        input=raw,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise ConfigError(f"ssh-keygen did not sign: {done.stderr.decode('utf-8', 'replace')}")
    write_durably(folder / MANIFEST, raw)
    write_durably(folder / SIGNATURE, done.stdout)
    return manifest
