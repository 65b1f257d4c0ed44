"""The arbiter: a Worker with a Durable Object that says which node may take writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.arbiter_settings import ARBITER_DNS_TOKEN
from components.cloudflare import WorkersCronTrigger, WorkersCustomDomain, WorkersScript
from components.durable_object import DurableObjectClass
from components.settings import NODES, Settings
from components.worker_script import worker_script

COMPATIBILITY_DATE = "2026-11-01"
"""Of the runtime. The tests of witness/ run with the same one."""
CLASS = "Arbiter"
MODULE = "witness.js"
CHECK = "* * * * *"
"""Every minute, the shortest that there is."""

Binding = Mapping[str, pulumi.Input[str]]


@dataclass(frozen=True)
class WitnessArgs:
    """What the arbiter is made from.

    Args:
        settings: names, zone, account, steering and the lease.
        addresses: by node, {ipv4, ipv6}.
        node_tokens: by node, the tokens that it may come with, the newest first.
        operator_token: an operator's.
        stack: mark of this stack.
    """

    settings: Settings
    addresses: Mapping[str, Mapping[str, pulumi.Input[str]]]
    node_tokens: Mapping[str, pulumi.Input[list[str]]]
    operator_token: pulumi.Input[str]
    stack: str


class Witness(pulumi.ComponentResource):
    """Script, storage, cron and name of the arbiter."""

    url: str

    def __init__(
        self, name: str, args: WitnessArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:Witness", name, None, opts)
        settings = args.settings
        account_id = settings.account_id
        assert account_id is not None  # checked with the settings
        script_name = f"overlord-{args.stack}-witness"
        storage = DurableObjectClass(
            f"{name}-class",
            endpoint=settings.cloudflare_endpoint,
            account_id=account_id,
            script_name=script_name,
            class_name=CLASS,
            opts=pulumi.ResourceOptions(parent=self),
        )
        script = WorkersScript(
            f"{name}-script",
            account_id=account_id,
            script_name=script_name,
            content=worker_script(),
            main_module=MODULE,
            compatibility_date=COMPATIBILITY_DATE,
            bindings=_bindings(args),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[storage]),
        )
        needs_script = pulumi.ResourceOptions(parent=self, depends_on=[script])
        WorkersCronTrigger(
            f"{name}-cron",
            account_id=account_id,
            script_name=script_name,
            crons=[CHECK],
            opts=needs_script,
        )
        WorkersCustomDomain(
            f"{name}-domain",
            account_id=account_id,
            zone_id=settings.zone_id,
            hostname=settings.arbiter_name,
            service=script_name,
            opts=needs_script,
        )
        self.url = settings.arbiter_url
        self.register_outputs({"url": self.url})


def _bindings(args: WitnessArgs) -> list[Binding]:
    """What the Worker is told, by name. Nothing secret is in a plain text."""
    settings = args.settings
    nodes = {
        node: {
            "address": args.addresses[node]["ipv4"],
            "leader": f"https://{settings.fqdn(node)}/leader",
        }
        for node in NODES
    }
    plain: dict[str, pulumi.Input[str]] = {
        "NODES": pulumi.Output.json_dumps(nodes),
        "LEASE_SECONDS": str(settings.arbiter.lease_seconds),
        "STEERING": "worker" if settings.steering == "worker" else "none",
    }
    secret: dict[str, pulumi.Input[str]] = {
        "NODE_TOKENS": pulumi.Output.json_dumps(dict(args.node_tokens)),
        "OPERATOR_TOKEN": args.operator_token,
    }
    if settings.steering == "worker":
        plain |= {
            "CLOUDFLARE_API": settings.cloudflare_endpoint,
            "ZONE_ID": settings.zone_id,
            "PUBLIC_NAME": settings.public_name,
        }
        secret["DNS_TOKEN"] = ARBITER_DNS_TOKEN.value() or ""
    bindings: list[Binding] = [
        {"name": "ARBITER", "type": "durable_object_namespace", "className": CLASS},
        *({"name": name, "type": "plain_text", "text": text} for name, text in plain.items()),
        *(_secret_text(name, text) for name, text in secret.items()),
    ]
    return sorted(bindings, key=lambda binding: str(binding["name"]))


def _secret_text(name: str, text: pulumi.Input[str]) -> Binding:
    return {"name": name, "type": "secret_text", "text": pulumi.Output.secret(text)}
