"""The mesh: who may reach what, and the key that lets each node join."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_tailscale as tailscale

from components.settings import Settings
from components.tailscale_api import OVERLORD_TAG, TailscaleApi

DEVICE_TAG = "tag:device"
ADMIN_TAG = "tag:admin"
API_PORT = 443
LOG_PORT = 3100
SECRETS_PORT = 8200
# Node exporter and Netdata, which the pair reads from every device.
SCRAPE_PORTS = (9100, 19999)


def policy(*, openbao: bool) -> dict[str, Any]:
    """The tailnet's policy. What no rule allows is refused.

    Args:
        openbao: whether devices may ask the pair for secrets.

    Tags have no owners beside the tailnet's admins, so that a device cannot promote itself.
    """
    scrape = ",".join(map(str, SCRAPE_PORTS))
    asked = (API_PORT, LOG_PORT, *([SECRETS_PORT] if openbao else []))
    return {
        "tagOwners": {OVERLORD_TAG: [], DEVICE_TAG: [], ADMIN_TAG: []},
        "acls": [
            # The pair: replication, gossip, each other's metrics.
            {"action": "accept", "src": [OVERLORD_TAG], "dst": [f"{OVERLORD_TAG}:*"]},
            {"action": "accept", "src": [OVERLORD_TAG], "dst": [f"{DEVICE_TAG}:{scrape}"]},
            # A device reaches the API, the log port and the secrets, and nothing else.
            {
                "action": "accept",
                "src": [DEVICE_TAG],
                "dst": [f"{OVERLORD_TAG}:{','.join(map(str, asked))}"],
            },
            {
                "action": "accept",
                "src": [ADMIN_TAG],
                "dst": [f"{OVERLORD_TAG}:*", f"{DEVICE_TAG}:*"],
            },
        ],
    }


@dataclass(frozen=True)
class TailnetArgs:
    """What the mesh is made from.

    Args:
        generations: by node; a raised number replaces that node's key.
        settings: the stack's settings.
        stack: mark of this stack.
        api: Tailscale.
    """

    generations: Mapping[str, int]
    settings: Settings
    stack: str
    api: TailscaleApi


class Tailnet(pulumi.ComponentResource):
    """Policy and one single-use key a node."""

    auth_keys: dict[str, pulumi.Output[str]]

    def __init__(
        self, name: str, args: TailnetArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:Tailnet", name, None, opts)
        acl = tailscale.Acl(
            f"{name}-policy",
            acl=json.dumps(policy(openbao=args.settings.openbao), indent=2),
            overwrite_existing_content=args.settings.tailnet.overwrite_policy,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.auth_keys = {
            node: self._key(name, node, generation, acl, args).key
            for node, generation in args.generations.items()
        }
        self.register_outputs({"tags": [OVERLORD_TAG, DEVICE_TAG, ADMIN_TAG]})

    def _key(
        self, name: str, node: str, generation: int, acl: tailscale.Acl, args: TailnetArgs
    ) -> tailscale.TailnetKey:
        # Tailscale allows letters, digits, spaces and dashes only.
        description = f"overlord {args.stack} {node} {generation}"

        def revoke_leftover(_: pulumi.ResourceHookArgs) -> None:
            args.api.remove_keys(description)

        return tailscale.TailnetKey(
            f"{name}-key-{node}",
            description=description,
            reusable=False,
            ephemeral=False,
            preauthorized=True,
            expiry=args.settings.tailnet.key_expiry_seconds,
            tags=[OVERLORD_TAG],
            # A key is used once and expires on purpose; that is no reason for another one.
            recreate_if_invalid="never",
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[acl],  # the policy declares the tag
                replacement_trigger=generation,
                additional_secret_outputs=["key"],
                hooks=pulumi.ResourceHookBinding(
                    before_create=[
                        pulumi.ResourceHook(f"{name}-key-{node}-leftover", revoke_leftover)
                    ]
                ),
            ),
        )
