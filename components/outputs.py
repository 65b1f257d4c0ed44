"""What a run tells the operator and other programs."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from components.bundle import Bundle
from components.node import Node
from components.prices import monthly_cost
from components.secrets import Secrets
from components.settings import NODES, Settings
from components.survey import Survey
from components.tailnet import ADMIN_TAG, DEVICE_TAG
from components.tailscale_api import OVERLORD_TAG


def export_outputs(
    settings: Settings,
    survey: Survey,
    nodes: Mapping[str, Node],
    secrets: Secrets,
    buckets: Mapping[str, pulumi.Input[str]],
    bundle: Bundle,
) -> None:
    """Export everything. Secrets are secret outputs."""
    port = "" if settings.public_port == 443 else f":{settings.public_port}"
    pulumi.export("publicUrl", f"https://{settings.public_name}{port}/")
    pulumi.export(
        "nodes",
        {
            node: {
                "hostname": settings.fqdn(node),
                "location": settings.location(node),
                "serverType": survey.server_types[node],
                "ipv4": nodes[node].ipv4,
                "ipv6": nodes[node].ipv6,
                "serverId": nodes[node].server_id,
            }
            for node in NODES
        },
    )
    pulumi.export(
        "monthlyCost",
        monthly_cost(
            survey.server_types,
            hetzner_backups=settings.hetzner_backups,
            load_balancer=settings.steering == "loadBalancer",
            second_repository=settings.backup.second is not None,
            overrides=settings.prices,
        ),
    )
    pulumi.export("arbiterUrl", settings.arbiter_url if settings.arbiter_enabled else None)
    pulumi.export("buckets", dict(buckets))
    pulumi.export("bundleSha256", bundle.sha256)
    pulumi.export(
        "tailnet",
        {
            "name": settings.tailnet_name,
            "loginServer": settings.tailnet.login_server or "https://login.tailscale.com",
            "tags": [OVERLORD_TAG, DEVICE_TAG, ADMIN_TAG],
        },
    )
    pulumi.export("deployPrivateKey", pulumi.Output.secret(secrets.deploy_private_key))
    pulumi.export("hostPublicKeys", secrets.host_public_keys)
    pulumi.export(
        "adminSecrets",
        pulumi.Output.secret(
            {
                name: secrets.values[name]
                for name in (
                    "admin_password",
                    "arbiter_operator_token",
                    "api_enrol_token",
                    "api_operator_token",
                    "grafana_admin_password",
                    "openbao_admin_password",
                )
            }
        ),
    )
    # Read back by the next run: see last_run.py.
    pulumi.export("rebuild", settings.rebuild)
    pulumi.export("deployKey", secrets.deploy_key_number)
    pulumi.export(
        "rebuildGenerations", {node: plan.generation for node, plan in survey.plans.items()}
    )
