"""Policies: what Tailscale accepts, and the part of it that headscale can enforce.

Tailscale knows more than headscale. What changes who may reach whom and cannot be expressed is
refused with a clear message (grants, postures, ip sets). What does not is left out on the way to
headscale: tests (checked for form, not run), node attributes, tailnet-wide options, and the
autogroups of administrators, who do not exist on a tailnet without people.
"""

from __future__ import annotations

import json
from typing import Any

from sandbox.cloud.tailscale import hujson
from sandbox.cloud.tailscale.domain import JsonObject
from sandbox.cloud.tailscale.errors import TailscaleError

_ENFORCED = ("acls", "groups", "hosts", "tagOwners", "autoApprovers", "ssh")
_LEFT_OUT = (
    "tests",
    "sshTests",
    "nodeAttrs",
    "derpMap",
    "disableIPv4",
    "OneCGNATRoute",
    "randomizeClientPort",
)
_NOT_EMULATED = ("grants", "postures", "defaultSrcPosture", "ipsets")
_PEOPLE = ("autogroup:admin", "autogroup:owner", "autogroup:it-admin", "autogroup:network-admin")


def check(text: str) -> JsonObject:
    """Parse a policy and hold it against Tailscale's rules; return it as an object."""
    try:
        policy = hujson.loads(text)
    except ValueError as error:
        raise TailscaleError(400, f"error parsing policy: {error}") from None
    if not isinstance(policy, dict):
        raise TailscaleError(400, "policy must be an object")
    for name in policy:
        if name in _NOT_EMULATED:
            raise TailscaleError(400, f"{name}: valid at Tailscale, not emulated by this sandbox")
        if name not in (*_ENFORCED, *_LEFT_OUT):
            raise TailscaleError(400, f"unknown field {name!r}")
    owners = policy.get("tagOwners", {})
    for tag, names in owners.items():
        _check_owners(tag, names, policy)
    for number, rule in enumerate(policy.get("acls", [])):
        _check_rule(f"acls[{number}]", rule, policy)
    for number, test in enumerate(policy.get("tests", [])):
        if not isinstance(test, dict) or "src" not in test:
            raise TailscaleError(400, f"tests[{number}]: needs src and accept or deny")
    return policy


def for_headscale(policy: JsonObject) -> str:
    """Render the part that headscale enforces."""
    kept: JsonObject = {name: policy[name] for name in _ENFORCED if name in policy}
    kept["tagOwners"] = {
        tag: [name for name in names if name not in _PEOPLE]
        for tag, names in policy.get("tagOwners", {}).items()
    }
    rules = []
    for rule in policy.get("acls", []):
        sources = [source for source in rule["src"] if source not in _PEOPLE]
        if sources:
            rules.append({**rule, "src": sources})
    kept["acls"] = rules
    return json.dumps(kept, indent=2)


def check_tags(tags: list[str], policy: JsonObject) -> None:
    """Refuse tags that the policy does not define."""
    unknown = [tag for tag in tags if tag not in policy.get("tagOwners", {})]
    if unknown:
        raise TailscaleError(
            400, f"requested tags [{' '.join(unknown)}] are invalid or not permitted"
        )


def _check_owners(tag: str, names: Any, policy: JsonObject) -> None:
    if not tag.startswith("tag:"):
        raise TailscaleError(400, f"tagOwners: {tag!r} must start with 'tag:'")
    if not isinstance(names, list):
        raise TailscaleError(400, f"tagOwners[{tag!r}]: must be a list")
    for name in names:
        _check_name(f"tagOwners[{tag!r}]", name, policy)


def _check_rule(where: str, rule: Any, policy: JsonObject) -> None:
    if not isinstance(rule, dict) or rule.get("action") != "accept":
        raise TailscaleError(400, f"{where}: action must be 'accept'")
    for side in ("src", "dst"):
        if not isinstance(rule.get(side), list) or not rule[side]:
            raise TailscaleError(400, f"{where}: {side} must be a list that is not empty")
    for source in rule["src"]:
        _check_name(f"{where}.src", source, policy)
    for target in rule["dst"]:
        name, _, ports = str(target).rpartition(":")
        if not name or not ports:
            raise TailscaleError(400, f"{where}.dst: {target!r} needs a port, as in 'tag:x:443'")
        _check_name(f"{where}.dst", name, policy)


def _check_name(where: str, name: Any, policy: JsonObject) -> None:
    if not isinstance(name, str):
        raise TailscaleError(400, f"{where}: {name!r} must be a string")
    if name.startswith("tag:") and name not in policy.get("tagOwners", {}):
        raise TailscaleError(400, f"{where}: tag not found: {name!r}")
    if name.startswith("group:") and name not in policy.get("groups", {}):
        raise TailscaleError(400, f"{where}: group not found: {name!r}")
