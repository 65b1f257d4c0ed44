"""What a server is started with: its launch ticket and the user_data that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi

from components.launch_ticket import LaunchTicket
from components.launcher import BootSettings, render_user_data
from components.settings import Settings
from components.tailscale_api import OVERLORD_TAG


@dataclass(frozen=True)
class LaunchArgs:
    """What a launch is made from.

    Args:
        node: name of the node.
        settings: the stack's settings.
        generation: a raised number makes a new ticket.
        bucket: the bundles bucket.
        bundle_sha256: the bundle to start with.
        document: the node's secrets document.
        tailscale_auth_key: the node's tailnet key.
        deploy_public_key: public key of the deploy user.
    """

    node: str
    settings: Settings
    generation: int
    bucket: pulumi.Input[str]
    bundle_sha256: pulumi.Input[str]
    document: pulumi.Input[str]
    tailscale_auth_key: pulumi.Input[str]
    deploy_public_key: pulumi.Input[str]


class Launch(pulumi.ComponentResource):
    """The ticket of one generation of a node, and its user_data."""

    user_data: pulumi.Output[str]

    def __init__(
        self, name: str, args: LaunchArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:Launch", name, None, opts)
        settings = args.settings
        ticket = LaunchTicket(
            f"{name}-launch-ticket",
            endpoint=settings.backup.endpoint,
            region=settings.backup.region,
            bucket=args.bucket,
            node=args.node,
            generation=args.generation,
            bundle_sha256=args.bundle_sha256,
            document=args.document,
            opts=pulumi.ResourceOptions(parent=self),
        )

        def render(values: dict[str, Any]) -> str:
            return render_user_data(
                BootSettings(
                    node=args.node,
                    fqdn=settings.fqdn(args.node),
                    tailscale_tags=(OVERLORD_TAG,),
                    tailscale_login_server=settings.tailnet.login_server,
                    admin_user=settings.admin_user,
                    admin_ssh_keys=settings.admin_ssh_keys,
                    admin_cidrs=settings.admin_cidrs,
                    ntp_servers=settings.ntp_servers,
                    **values,
                )
            )

        self.user_data = pulumi.Output.secret(
            pulumi.Output.all(
                bundle_url=ticket.bundle_url,
                bundle_sha256=ticket.bundle_sha256,
                secrets_url=ticket.secrets_url,
                secrets_sha256=ticket.secrets_sha256,
                secrets_key=ticket.secrets_key,
                tailscale_auth_key=args.tailscale_auth_key,
                deploy_public_key=args.deploy_public_key,
            ).apply(render)
        )
        self.register_outputs({})
