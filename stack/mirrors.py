"""Git repositories that each node mirrors."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class GitMirror:
    """One repository.

    Args:
        name: its name in the mirror.
        url: where it comes from, over http or https and without credentials.
    """

    name: str
    url: str

    @property
    def host(self) -> str:
        """The host that it comes from."""
        return urlsplit(self.url).hostname or ""
