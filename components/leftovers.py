"""Hooks that clear away what an interrupted run left at a vendor.

A run that is killed between a vendor's answer and the engine's record leaves something that the
state does not know. The next run would meet it as a taken name, or make a second one. So before a
resource is created, its hook looks for one of the same name that carries this stack's mark, and
removes it. It never touches what is old, in use, or not ours.
"""

from __future__ import annotations

import pulumi

from components.hetzner_api import HetznerApi, Kind
from components.last_run import STACK_LABEL
from components.vendor_api import VendorError, check_age

_KINDS = {
    "servers": ("server", "hcloud:index/server:Server"),
    "primary_ips": ("primary IP", "hcloud:index/primaryIp:PrimaryIp"),
    "firewalls": ("firewall", "hcloud:index/firewall:Firewall"),
    "ssh_keys": ("SSH key", "hcloud:index/sshKey:SshKey"),
}


def clear_hetzner_leftover(api: HetznerApi, kind: Kind, name: str, stack: str) -> None:
    """Remove the leftover of this name, if there is one.

    Args:
        api: Hetzner.
        kind: what to look for.
        name: its name at Hetzner.
        stack: value of the stack label that makes it ours.

    Raises:
        VendorError: the name is taken by something that must stay.
    """
    found = api.find(kind, name)
    if found is None:
        return
    noun, token = _KINDS[kind]
    what = f"A Hetzner {noun} named {name} (id {found.id})"
    remedy = (
        f"Rename or delete it, or take it over with `pulumi import {token} NAME {found.id}`; "
        "then run pulumi up again."
    )
    if found.labels.get(STACK_LABEL) != stack:
        raise VendorError(f"{what} exists already and was not made by this stack. {remedy}")
    if found.in_use:
        raise VendorError(f"{what} exists already and is in use. {remedy}")
    check_age(what, found.created, remedy)
    pulumi.log.info(f"{noun} {name}: removing what an interrupted run left (id {found.id})")
    if found.protected:
        api.lift_protection(kind, found.id)
    api.delete(kind, found.id)


def leftover_hook(
    hook_name: str, api: HetznerApi, kind: Kind, name: str, stack: str
) -> pulumi.ResourceHookBinding:
    """A binding that clears the leftover before the resource is created."""

    def clear(_: pulumi.ResourceHookArgs) -> None:
        clear_hetzner_leftover(api, kind, name, stack)

    return pulumi.ResourceHookBinding(before_create=[pulumi.ResourceHook(hook_name, clear)])
