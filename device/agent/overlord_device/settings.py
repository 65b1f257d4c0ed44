"""The agent's settings: one INI file, all mistakes reported at once. No secret is in it."""

from __future__ import annotations

import configparser
import re
import socket
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .transport import TransportError, check_url

DEFAULT_PATH = Path("/etc/overlord-device/agent.conf")
DEVICE_ID = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_DAY_S = 86_400.0

_KNOWN = {
    "agent": {"server", "device_id", "name", "ca_file", "state_dir", "disk_path", "period_s"},
    "queue": {"retention_days", "keep_acknowledged_hours", "max_megabytes"},
    "config": {"sources", "token_files", "allowed_signers", "identity", "poll_s"},
}


class SettingsError(Exception):
    """The settings file is missing or wrong; the text names each mistake."""


@dataclass(frozen=True)
class ConfigSource:
    """A place that serves the fleet's configuration, and the token file it wants, if any."""

    url: str
    token_file: Path | None


@dataclass(frozen=True)
class Settings:
    """All settings; times in seconds, sizes in bytes."""

    server: str
    device_id: str
    name: str
    ca_file: Path | None
    state_dir: Path
    disk_path: Path
    period_s: float
    retention_s: float
    keep_acknowledged_s: float
    max_queue_bytes: int
    config_sources: tuple[ConfigSource, ...]
    allowed_signers: Path
    config_identity: str
    config_poll_s: float

    @property
    def token_file(self) -> Path:
        """Where the device's own token is kept, mode 0600."""
        return self.state_dir / "token.json"

    @property
    def queue_file(self) -> Path:
        """The queue's database."""
        return self.state_dir / "queue.db"

    @property
    def config_dir(self) -> Path:
        """Pulled configurations; ``current`` in it points to the one in force."""
        return self.state_dir / "config"

    @property
    def max_waiting(self) -> int:
        """How many statuses may wait: the whole retention and a tenth more."""
        return max(100, int(self.retention_s / self.period_s * 1.1))


def load(path: Path = DEFAULT_PATH) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: every mistake in the file, with its key and what would be right.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    reader = _Reader(parser, path)
    settings = _build(reader)
    if reader.mistakes:
        raise SettingsError("\n".join(f"{path}: {mistake}" for mistake in reader.mistakes))
    return settings


def _build(reader: _Reader) -> Settings:
    host = socket.gethostname().split(".")[0].lower()
    device_id = reader.text("agent", "device_id", host)
    if not DEVICE_ID.match(device_id):
        reader.wrong(
            "agent",
            "device_id",
            f"{device_id!r}: use 1 to 63 of a-z, 0-9 and dash, no dash at an end",
        )
    state_dir = Path(reader.text("agent", "state_dir", "/var/lib/overlord-device"))
    signers = reader.text("config", "allowed_signers", "/etc/overlord-device/allowed_signers")
    return Settings(
        server=reader.url("agent", "server"),
        device_id=device_id,
        name=reader.text("agent", "name", device_id),
        ca_file=reader.path("agent", "ca_file"),
        state_dir=state_dir,
        disk_path=Path(reader.text("agent", "disk_path", str(state_dir))),
        period_s=reader.number("agent", "period_s", 60.0, 1.0, 3600.0),
        retention_s=reader.number("queue", "retention_days", 7.0, 0.01, 7.0) * _DAY_S,
        keep_acknowledged_s=reader.number("queue", "keep_acknowledged_hours", 24.0, 0.0, 168.0)
        * 3600.0,
        max_queue_bytes=int(reader.number("queue", "max_megabytes", 32.0, 1.0, 4096.0) * 1024**2),
        config_sources=reader.sources(device_id),
        allowed_signers=Path(signers),
        config_identity=reader.text("config", "identity", "fleet-config"),
        config_poll_s=reader.number("config", "poll_s", 60.0, 10.0, 86_400.0),
    )


class _Reader:
    """Reads typed values and collects the mistakes."""

    def __init__(self, parser: configparser.ConfigParser, path: Path) -> None:
        self._parser = parser
        self._path = path
        self.mistakes: list[str] = []
        for section in parser.sections():
            known = _KNOWN.get(section)
            if known is None:
                self.mistakes.append(f"[{section}] is unknown; known are {_names(_KNOWN)}")
                continue
            for key in parser[section]:
                if key not in known:
                    self.wrong(section, key, f"unknown; known are {_names(known)}")

    def wrong(self, section: str, key: str, problem: str) -> None:
        """Note a mistake."""
        self.mistakes.append(f"[{section}] {key}: {problem}")

    def text(self, section: str, key: str, default: str) -> str:
        """A word, or the default when the key is missing or empty."""
        return self._parser.get(section, key, fallback="").strip() or default

    def path(self, section: str, key: str) -> Path | None:
        """A file that must exist, None when not given."""
        text = self.text(section, key, "")
        if not text:
            return None
        if not Path(text).is_file():
            self.wrong(section, key, f"{text} is not a file")
        return Path(text)

    def number(self, section: str, key: str, default: float, least: float, most: float) -> float:
        """A number within bounds."""
        text = self.text(section, key, str(default))
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            self.wrong(section, key, f"{text!r}: use a number from {least:g} to {most:g}")
            return default
        return value

    def url(self, section: str, key: str) -> str:
        """An https address without a trailing slash."""
        text = self.text(section, key, "").rstrip("/")
        if not text:
            self.wrong(section, key, "missing; give the address of Overlord, https://…")
        else:
            self._check(section, key, text)
        return text

    def sources(self, device_id: str) -> tuple[ConfigSource, ...]:
        """The configuration's addresses, each with its token file by position ("-" for none)."""
        urls = self.text("config", "sources", "").split()
        tokens = self.text("config", "token_files", "").split()
        if len(tokens) > len(urls):
            self.wrong("config", "token_files", "more of them than sources")
        tokens += ["-"] * (len(urls) - len(tokens))
        sources = []
        for url, token in zip(urls, tokens):
            full = url.replace("{device_id}", urllib.parse.quote(device_id)).rstrip("/")
            self._check("config", "sources", full)
            sources.append(ConfigSource(full, None if token == "-" else Path(token)))  # noqa: S105
        return tuple(sources)

    def _check(self, section: str, key: str, url: str) -> None:
        try:
            check_url(url)
        except (TransportError, ValueError) as error:
            self.wrong(section, key, str(error))


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
