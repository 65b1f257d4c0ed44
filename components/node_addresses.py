"""The addresses of a node, which outlive its server, and their reverse DNS."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_hcloud as hcloud

from components.hetzner_api import HetznerApi
from components.last_run import NODE_LABEL
from components.leftovers import leftover_hook
from components.protection import lift_protection_hook


@dataclass(frozen=True)
class NodeAddressesArgs:
    """What a node's addresses are made from.

    Args:
        node: its name.
        fqdn: its host name, for reverse DNS.
        location: Hetzner location.
        protected: whether they may not be deleted.
        labels: labels of everything at Hetzner.
        stack: mark of this stack.
        api: Hetzner.
    """

    node: str
    fqdn: str
    location: str
    protected: bool
    labels: dict[str, str]
    stack: str
    api: HetznerApi


class NodeAddresses(pulumi.ComponentResource):
    """The addresses of a node. They are made first and survive every rebuild."""

    ipv4: pulumi.Output[str]
    ipv6: pulumi.Output[str]
    ipv4_id: pulumi.Output[int]
    ipv6_id: pulumi.Output[int]

    def __init__(
        self, name: str, args: NodeAddressesArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:NodeAddresses", name, None, opts)
        ipv4 = self._primary_ip(name, args, "ipv4")
        ipv6 = self._primary_ip(name, args, "ipv6")
        self.ipv4 = ipv4.ip_address
        # Hetzner gives a /64; the server answers on the first address in it.
        self.ipv6 = ipv6.ip_address.apply(first_address)
        self.ipv4_id = ipv4.id.apply(int)
        self.ipv6_id = ipv6.id.apply(int)
        for version, address, primary_ip in (
            ("ipv4", self.ipv4, self.ipv4_id),
            ("ipv6", self.ipv6, self.ipv6_id),
        ):
            hcloud.Rdns(
                f"{name}-rdns-{version}",
                primary_ip_id=primary_ip,
                ip_address=address,
                dns_ptr=args.fqdn,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({"ipv4": self.ipv4, "ipv6": self.ipv6})

    def _primary_ip(self, name: str, args: NodeAddressesArgs, version: str) -> hcloud.PrimaryIp:
        vendor_name = f"{args.node}-{version}"
        hooks = leftover_hook(
            f"{name}-{version}-leftover", args.api, "primary_ips", vendor_name, args.stack
        )
        hooks.before_delete = [
            lift_protection_hook(
                f"{name}-{version}-lift-protection", args.api, "primary_ips", args.protected
            )
        ]
        return hcloud.PrimaryIp(
            f"{name}-{version}",
            name=vendor_name,
            type=version,
            location=args.location,
            auto_delete=False,
            delete_protection=args.protected,
            labels={**args.labels, NODE_LABEL: args.node},
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.protected,
                hooks=hooks,
            ),
        )


def first_address(network: str) -> str:
    """The address that a server uses of its IPv6 network, such as 2001:db8:0:1::1."""
    base = network.split("/")[0]
    return base if not base.endswith("::") else f"{base}1"
