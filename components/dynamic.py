"""What all dynamic providers of this program share.

Providers live in importable modules, so that the engine stores a reference to the class and not its
code: a change of the code is no change of the resource.
"""

from __future__ import annotations

from typing import Any

from pulumi.dynamic import ConfigureRequest, DiffResult, ResourceProvider


class ConfiguredProvider(ResourceProvider):
    """A provider that can read the stack's configuration, secrets included."""

    # Nothing secret is captured: the instance has no state when it is stored.
    serialize_as_secret_always = False
    _config: Any = None

    def configure(self, req: ConfigureRequest) -> None:
        """Keep the configuration of the running stack."""
        self._config = req.config

    def setting(self, name: str) -> str | None:
        """A value of the stack's configuration under this project's name, or None."""
        return self._config.get(name) if self._config is not None else None

    def provider_setting(self, key: str) -> str | None:
        """A value of the stack's configuration under a full name, such as hcloud:token."""
        return self._config.get(key) if self._config is not None else None


def changed(olds: dict[str, Any], news: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """Names whose values differ between two sets of properties."""
    return [name for name in names if olds.get(name) != news.get(name)]


def replace_on(replaces: list[str], updates: list[str] | None = None) -> DiffResult:
    """The answer of a diff: what forces a replacement, and what an update can change."""
    return DiffResult(changes=bool(replaces or updates), replaces=replaces)
