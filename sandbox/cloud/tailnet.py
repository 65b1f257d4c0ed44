"""What the emulated Tailscale API asks of the coordination server behind it.

headscale answers in the sandbox (`sandbox/machines/headscale.py`), a fake does in the contract
tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class TailnetError(Exception):
    """The coordination server refused or could not be reached. The message says why."""


@dataclass(frozen=True)
class TailnetNode:
    """A machine that joined."""

    id: str
    name: str
    addresses: tuple[str, ...]
    tags: tuple[str, ...]
    online: bool
    created: str
    """RFC 3339, empty when unknown."""
    last_seen: str
    user: str


class Tailnet(Protocol):
    """Calls may block; the caller runs them in a thread. They raise TailnetError."""

    def create_preauth_key(
        self, tags: Sequence[str], reusable: bool, ephemeral: bool, expiry_seconds: int
    ) -> tuple[str, str]:
        """Make a key; return (id, key)."""

    def expire_key(self, key_id: str) -> None:
        """End a key. One that is gone already is no error."""

    def set_policy(self, hujson: str) -> None:
        """Put a policy in force, or raise TailnetError with what is wrong with it."""

    def get_policy(self) -> str:
        """Return the policy in force."""

    def nodes(self) -> list[TailnetNode]:
        """List the machines that joined."""

    def delete_node(self, node_id: str) -> None:
        """Remove a machine from the tailnet."""
