"""Who watches from outside: the public name, and each node by itself."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from components.external_check_settings import ExternalCheckSettings
from components.settings import NODES, Settings
from components.uptime_monitor import UptimeMonitor


@dataclass(frozen=True)
class ExternalChecksArgs:
    """What the checks are made from.

    Args:
        settings: names of the pair.
        checks: how often, and who is told.
    """

    settings: Settings
    checks: ExternalCheckSettings


class ExternalChecks(pulumi.ComponentResource):
    """One monitor for /health of the public name, and one for each node."""

    def __init__(
        self, name: str, args: ExternalChecksArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:ExternalChecks", name, None, opts)
        settings, checks = args.settings, args.checks

        def monitor(what: str, host: str, kind: str, target: str) -> None:
            UptimeMonitor(
                f"{name}-{what}",
                endpoint=checks.endpoint,
                name=f"overlord {settings.environment}: {host}",
                kind=kind,
                target=target,
                interval_seconds=checks.interval_seconds,
                contacts=checks.alert_contacts,
                opts=pulumi.ResourceOptions(parent=self),
            )

        public = settings.public_name
        port = "" if settings.public_port == 443 else f":{settings.public_port}"
        monitor("public", public, "https", f"https://{public}{port}/health")
        for node in NODES:
            host = settings.fqdn(node)
            # Web ports answer Cloudflare's networks only, and ping answers everybody.
            target = host if checks.node_check == "ping" else f"https://{host}/health"
            monitor(node, host, checks.node_check, target)
        self.register_outputs({})
