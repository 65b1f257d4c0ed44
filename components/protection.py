"""Hetzner's own delete protection, lifted in the moment before a delete that was asked for."""

from __future__ import annotations

import pulumi

from components.hetzner_api import HetznerApi, Kind
from components.vendor_api import VendorError


def lift_protection_hook(
    hook_name: str, api: HetznerApi, kind: Kind, protected: bool
) -> pulumi.ResourceHook:
    """A before_delete hook; the provider does not lift the protection.

    Without it, a delete would shut the server down, be refused, and leave the server off.
    """

    def lift(hook: pulumi.ResourceHookArgs) -> None:
        if protected:
            raise VendorError(
                f"{hook.name} is protected and is not deleted. To rebuild a node, set "
                "overlord:rebuild to its name; to take the pair down, set overlord:protect to "
                "false and run pulumi up first."
            )
        api.lift_protection(kind, hook.id)

    return pulumi.ResourceHook(hook_name, lift)
