"""A node: one server, replaced only when its rebuild is asked for by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_hcloud as hcloud

from components.hetzner_api import HetznerApi
from components.last_run import GENERATION_LABEL, NODE_LABEL, NodePlan
from components.leftovers import clear_hetzner_leftover
from components.node_addresses import NodeAddresses
from components.protection import lift_protection_hook
from components.tailscale_api import TailscaleApi


@dataclass(frozen=True)
class NodeArgs:
    """What a node is made from.

    Args:
        node: its name, such as vps-01; also the server's name at Hetzner.
        role: primary or standby.
        location: Hetzner location.
        server_type: Hetzner server type.
        image: Hetzner image.
        user_data: what cloud-init gets; used only when the server is created.
        ssh_key_ids: Hetzner SSH keys; used only when the server is created.
        firewall_id: Hetzner firewall.
        addresses: its retained addresses.
        plan: whether the server is made anew.
        protected: whether the server may not be deleted.
        backups: whether Hetzner backs the server up daily.
        labels: labels of everything at Hetzner.
        stack: mark of this stack.
        api: Hetzner.
        mesh: Tailscale.
    """

    node: str
    role: str
    location: str
    server_type: str
    image: str
    user_data: pulumi.Input[str]
    ssh_key_ids: Sequence[pulumi.Input[str]]
    firewall_id: pulumi.Input[int]
    addresses: NodeAddresses
    plan: NodePlan
    protected: bool
    backups: bool
    labels: dict[str, str]
    stack: str
    api: HetznerApi
    mesh: TailscaleApi


class Node(pulumi.ComponentResource):
    """One server with its own retained args.addresses."""

    ipv4: pulumi.Output[str]
    ipv6: pulumi.Output[str]
    server_id: pulumi.Output[str]

    def __init__(
        self, name: str, args: NodeArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:Node", name, None, opts)
        server = hcloud.Server(
            f"{name}-server",
            name=args.node,
            server_type=args.server_type,
            location=args.location,
            image=args.image,
            user_data=pulumi.Output.secret(args.user_data),
            ssh_keys=list(args.ssh_key_ids),
            firewall_ids=[args.firewall_id],
            public_nets=[
                hcloud.ServerPublicNetArgs(
                    ipv4_enabled=True,
                    ipv4=args.addresses.ipv4_id,
                    ipv6_enabled=True,
                    ipv6=args.addresses.ipv6_id,
                )
            ],
            backups=args.backups,
            delete_protection=args.protected,
            rebuild_protection=args.protected,
            shutdown_before_deletion=True,
            labels={
                **args.labels,
                NODE_LABEL: args.node,
                "overlord-role": args.role,
                GENERATION_LABEL: str(args.plan.generation),
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.protected,
                # These can only be set at creation: a change would replace the server. A rebuild
                # is asked for by name instead, and then uses their current values.
                ignore_changes=["userData", "image", "sshKeys"],
                replacement_trigger=args.plan.generation,
                # Name and addresses are taken until the old server is gone.
                delete_before_replace=True,
                hooks=_server_hooks(name, args),
            ),
        )
        self.ipv4 = args.addresses.ipv4
        self.ipv6 = args.addresses.ipv6
        self.server_id = server.id
        self.register_outputs({"ipv4": self.ipv4, "ipv6": self.ipv6, "serverId": self.server_id})


def _server_hooks(name: str, args: NodeArgs) -> pulumi.ResourceHookBinding:
    def make_room(_: pulumi.ResourceHookArgs) -> None:
        clear_hetzner_leftover(args.api, "servers", args.node, args.stack)
        # The server that is gone left a device of this name on the mesh; while it is there, the
        # new one would be called vps-01-1.
        args.mesh.remove_devices(args.node)

    return pulumi.ResourceHookBinding(
        before_create=[pulumi.ResourceHook(f"{name}-make-room", make_room)],
        before_delete=[
            lift_protection_hook(f"{name}-lift-protection", args.api, "servers", args.protected)
        ],
    )
