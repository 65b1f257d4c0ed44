"""The two nodes of the pair: their addresses, which everything else needs, and their servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.firewall import Firewall
from components.launch import Launch, LaunchArgs
from components.node import Node, NodeArgs
from components.node_addresses import NodeAddresses, NodeAddressesArgs
from components.settings import NODES, PRIMARY, Settings
from components.survey import Survey
from components.vendors import Vendors


def make_addresses(settings: Settings, vendors: Vendors) -> dict[str, NodeAddresses]:
    """The retained addresses of each node, by name."""
    return {
        node: NodeAddresses(
            node,
            NodeAddressesArgs(
                node=node,
                fqdn=settings.fqdn(node),
                location=settings.location(node),
                protected=settings.protect,
                labels=vendors.labels,
                stack=vendors.stack,
                api=vendors.hetzner,
            ),
        )
        for node in NODES
    }


@dataclass(frozen=True)
class ServersArgs:
    """What the servers of both nodes are made from.

    Args:
        settings: the stack's settings.
        vendors: where the servers are made.
        survey: whether each is made anew, and of which type.
        addresses: by node.
        firewall: the outer wall of both.
        deploy_key_id: Hetzner's number of the deploy key.
        deploy_public_key: the key itself, for the deploy user.
        bucket: the bundles bucket.
        bundle_sha256: the bundle that a new server starts with.
        documents: secrets document by node.
        auth_keys: tailnet key by node.
    """

    settings: Settings
    vendors: Vendors
    survey: Survey
    addresses: Mapping[str, NodeAddresses]
    firewall: Firewall
    deploy_key_id: pulumi.Input[str]
    deploy_public_key: pulumi.Input[str]
    bucket: pulumi.Input[str]
    bundle_sha256: pulumi.Input[str]
    documents: Mapping[str, pulumi.Input[str]]
    auth_keys: Mapping[str, pulumi.Input[str]]


def make_servers(args: ServersArgs) -> dict[str, Node]:
    """Each node's server with what it is launched with, by name."""
    return {node: _server(node, args) for node in NODES}


def _server(node: str, args: ServersArgs) -> Node:
    settings, vendors, plan = args.settings, args.vendors, args.survey.plans[node]
    launch = Launch(
        node,
        LaunchArgs(
            node=node,
            settings=settings,
            generation=plan.ticket_generation,
            bucket=args.bucket,
            bundle_sha256=args.bundle_sha256,
            document=args.documents[node],
            tailscale_auth_key=args.auth_keys[node],
            deploy_public_key=args.deploy_public_key,
        ),
    )
    return Node(
        node,
        NodeArgs(
            node=node,
            role="primary" if node == PRIMARY else "standby",
            location=settings.location(node),
            server_type=args.survey.server_types[node],
            image=settings.image,
            user_data=launch.user_data,
            ssh_key_ids=[args.deploy_key_id],
            firewall_id=args.firewall.firewall_id,
            addresses=args.addresses[node],
            plan=plan,
            protected=settings.protected(node),
            backups=settings.hetzner_backups,
            labels=vendors.labels,
            stack=vendors.stack,
            api=vendors.hetzner,
            mesh=vendors.mesh,
        ),
    )
