"""The outer wall: what Hetzner lets through to both nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_hcloud as hcloud

from components.hetzner_api import HetznerApi
from components.leftovers import leftover_hook

ANYWHERE = ("0.0.0.0/0", "::/0")
WIREGUARD_PORT = 41641


@dataclass(frozen=True)
class FirewallArgs:
    """What the firewall is made from.

    Args:
        web_sources: networks that reach ports 80 and 443.
        admin_cidrs: networks that reach SSH.
        labels: labels of everything at Hetzner.
        stack: mark of this stack.
        api: Hetzner.
    """

    web_sources: pulumi.Input[Sequence[str]]
    admin_cidrs: tuple[str, ...]
    labels: dict[str, str]
    stack: str
    api: HetznerApi


class Firewall(pulumi.ComponentResource):
    """Web from Cloudflare, SSH from the admins' networks, WireGuard, ping; nothing else."""

    firewall_id: pulumi.Output[int]

    def __init__(
        self, name: str, args: FirewallArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:Firewall", name, None, opts)
        vendor_name = f"overlord-{args.stack}"
        firewall = hcloud.Firewall(
            f"{name}-firewall",
            name=vendor_name,
            labels=args.labels,
            rules=[
                _rule("tcp", "80", args.web_sources, "HTTP, redirected to HTTPS"),
                _rule("tcp", "443", args.web_sources, "HTTPS"),
                _rule("tcp", "22", args.admin_cidrs, "SSH from the admins' networks"),
                # WireGuard answers only to keys it knows. Closed, the mesh would still work, but
                # through relays.
                _rule("udp", str(WIREGUARD_PORT), ANYWHERE, "WireGuard of the mesh"),
                # Path MTU discovery needs ICMP.
                _rule("icmp", None, ANYWHERE, "ICMP"),
            ],
            opts=pulumi.ResourceOptions(
                parent=self,
                hooks=leftover_hook(
                    f"{name}-firewall-leftover", args.api, "firewalls", vendor_name, args.stack
                ),
            ),
        )
        self.firewall_id = firewall.id.apply(int)
        self.register_outputs({"firewallId": self.firewall_id})


def _rule(
    protocol: str, port: str | None, sources: pulumi.Input[Sequence[str]], description: str
) -> hcloud.FirewallRuleArgs:
    return hcloud.FirewallRuleArgs(
        direction="in",
        protocol=protocol,
        port=port,
        source_ips=sources,
        description=description,
    )
