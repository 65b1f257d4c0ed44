"""What is wrong with the configuration, as it is shown: all of it at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pulumi

from components.setting_base import PROJECT

# Settings that live under a provider's own configuration name.
PROVIDER_KEYS = {
    "hetznerEndpoint": "hcloud:endpoint",
    "cloudflareEndpoint": "cloudflare:baseUrl",
    "tailscaleEndpoint": "tailscale:baseUrl",
    "tailnetName": "tailscale:tailnet",
}


@dataclass(frozen=True)
class Problem:
    """One mistake in the configuration.

    Args:
        key: configuration key, such as overlord:adminCidrs.
        wrong: what is wrong with it.
        right: what would be right.
    """

    key: str
    wrong: str
    right: str


class SettingsError(pulumi.RunError):
    """The configuration cannot be used; the message lists every problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        many = "problem" if len(self.problems) == 1 else "problems"
        lines = [f"The configuration has {len(self.problems)} {many}. Nothing was changed.", ""]
        for problem in self.problems:
            lines += [f"  {problem.key}", f"    wrong: {problem.wrong}"]
            lines += [f"    right: {problem.right}", ""]
        super().__init__("\n".join(lines).rstrip())


def key_of(path: tuple[int | str, ...]) -> str:
    """Configuration key of a path of names and indices, such as overlord:backup.region."""
    head = str(path[0]) if path else ""
    key = PROVIDER_KEYS.get(head, f"{PROJECT}:{head}")
    for part in path[1:]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
    return key
