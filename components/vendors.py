"""The vendors' own interfaces, for what the program asks outside the engine."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from components.cloudflare_api import CloudflareApi
from components.hetzner_api import HetznerApi
from components.last_run import STACK_LABEL
from components.settings import Settings
from components.tailscale_api import TailscaleApi


@dataclass(frozen=True)
class Vendors:
    """Where this stack lives, and the mark by which it knows what is its own there.

    Args:
        hetzner: servers and addresses.
        mesh: Tailscale.
        edge: Cloudflare.
        stack: the mark: the stack's name.
        labels: labels of everything at Hetzner.
    """

    hetzner: HetznerApi
    mesh: TailscaleApi
    edge: CloudflareApi
    stack: str
    labels: dict[str, str]

    @classmethod
    def of(cls, settings: Settings) -> Vendors:
        """The vendors of the running stack."""
        stack = pulumi.get_stack()
        return cls(
            hetzner=HetznerApi.of(settings),
            mesh=TailscaleApi.of(settings),
            edge=CloudflareApi.of(settings),
            stack=stack,
            labels={"managed-by": "pulumi", STACK_LABEL: stack},
        )
