"""The deploy key at Hetzner. A server that is made without a key gets a root password by mail."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_hcloud as hcloud

from components.hetzner_api import HetznerApi
from components.leftovers import leftover_hook


@dataclass(frozen=True)
class DeployKeyArgs:
    """What the key is made from.

    Args:
        public_key: the key. Operators' keys are not uploaded: cloud-init brings them, and Hetzner
            refuses a key that the project has under another name.
        number: its number, which is in its name: the old key goes after the new one came.
        labels: labels of everything at Hetzner.
        stack: mark of this stack.
        api: Hetzner.
    """

    public_key: pulumi.Input[str]
    number: int
    labels: dict[str, str]
    stack: str
    api: HetznerApi


class DeployKey(pulumi.ComponentResource):
    """One SSH key for both servers."""

    key_id: pulumi.Output[str]

    def __init__(
        self, name: str, args: DeployKeyArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:DeployKey", name, None, opts)
        vendor_name = f"overlord-{args.stack}-deploy"
        if args.number > 1:
            vendor_name += f"-{args.number}"
        key = hcloud.SshKey(
            f"{name}-key",
            name=vendor_name,
            public_key=args.public_key,
            labels=args.labels,
            opts=pulumi.ResourceOptions(
                parent=self,
                hooks=leftover_hook(
                    f"{name}-key-leftover", args.api, "ssh_keys", vendor_name, args.stack
                ),
            ),
        )
        self.key_id = key.id
        self.register_outputs({"keyId": self.key_id})
