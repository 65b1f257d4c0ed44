"""Names: the public one follows the healthy node, and each node has its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from components.cloudflare import DnsRecord, LoadBalancer, LoadBalancerMonitor, LoadBalancerPool
from components.cloudflare_api import MARK, CloudflareApi, leftover_hook
from components.public_record import PublicRecord
from components.settings import NODES, PRIMARY, Settings

# A node's own name moves only in a disaster; five minutes is what people wait for anyway.
NODE_TTL_SECONDS = 300
CAA_TTL_SECONDS = 3600
# Asked every minute, and a miss once more at once. One answer is enough either way: /leader is 200
# only under a lease, so a new primary is known with the first question, and two in a row would
# double the outage.
MONITOR_INTERVAL_SECONDS = 60
CONSECUTIVE = 1


@dataclass(frozen=True)
class FailoverDnsArgs:
    """What the names are made from.

    Args:
        settings: names, zone and steering.
        addresses: by node, {ipv4, ipv6}.
        stack: mark of this stack.
        api: Cloudflare.
    """

    settings: Settings
    addresses: Mapping[str, Mapping[str, pulumi.Input[str]]]
    stack: str
    api: CloudflareApi


class FailoverDns(pulumi.ComponentResource):
    """Records of both nodes, and the public name in one of two ways of steering."""

    def __init__(
        self, name: str, args: FailoverDnsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:FailoverDns", name, None, opts)
        settings = args.settings
        for node in NODES:
            for kind, version in (("A", "ipv4"), ("AAAA", "ipv6")):
                self._record(
                    f"{name}-{node}-{version}",
                    args,
                    settings.fqdn(node),
                    kind,
                    NODE_TTL_SECONDS,
                    content=args.addresses[node][version],
                )
        for issuer in settings.caa_issuers:
            self._record(
                f"{name}-caa-{issuer.replace('.', '-')}",
                args,
                settings.public_name,
                "CAA",
                CAA_TTL_SECONDS,
                data={"flags": 0, "tag": "issue", "value": issuer},
            )
        if settings.steering == "loadBalancer":
            self._load_balancer(name, args)
        else:
            PublicRecord(
                f"{name}-public",
                endpoint=settings.cloudflare_endpoint,
                zone_id=settings.zone_id,
                name=settings.public_name,
                address=args.addresses[PRIMARY]["ipv4"],
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({"publicName": settings.public_name})

    def _record(
        self,
        resource_name: str,
        args: FailoverDnsArgs,
        record_name: str,
        kind: str,
        ttl: int,
        content: pulumi.Input[str] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        def is_ours(entry: dict[str, Any]) -> bool:
            same = data is None or (entry.get("data") or {}).get("value") == data["value"]
            return entry.get("comment") == MARK and same

        zone_id = args.settings.zone_id
        DnsRecord(
            resource_name,
            zone_id=zone_id,
            name=record_name,
            type=kind,
            ttl=ttl,
            content=content,
            data=data,
            comment=MARK,
            opts=pulumi.ResourceOptions(
                parent=self,
                hooks=leftover_hook(
                    f"{resource_name}-leftover",
                    args.api,
                    f"/zones/{zone_id}/dns_records",
                    {"name": record_name, "type": kind},
                    is_ours,
                ),
            ),
        )

    def _load_balancer(self, name: str, args: FailoverDnsArgs) -> None:
        settings = args.settings
        account_id = settings.account_id
        assert account_id is not None  # checked with the settings
        account = f"/accounts/{account_id}/load_balancers"
        description = f"overlord {args.stack}: {MARK}"

        def options(resource_name: str, path: str, field: str, value: str) -> Any:
            return pulumi.ResourceOptions(
                parent=self,
                hooks=leftover_hook(
                    f"{resource_name}-leftover",
                    args.api,
                    path,
                    {},
                    lambda entry: (
                        entry.get(field) == value and entry.get("description") == description
                    ),
                ),
            )

        monitor = LoadBalancerMonitor(
            f"{name}-monitor",
            account_id=account_id,
            path="/leader",
            host=settings.public_name,
            description=description,
            interval=MONITOR_INTERVAL_SECONDS,
            consecutive_down=CONSECUTIVE,
            consecutive_up=CONSECUTIVE,
            opts=options(f"{name}-monitor", f"{account}/monitors", "path", "/leader"),
        )
        pools = []
        for node in NODES:
            pool_name = f"overlord-{args.stack}-{node}"
            pools.append(
                LoadBalancerPool(
                    f"{name}-pool-{node}",
                    account_id=account_id,
                    name=pool_name,
                    origin_name=node,
                    origin_address=args.addresses[node]["ipv4"],
                    origin_host=settings.public_name,
                    monitor=monitor.id,
                    description=description,
                    opts=options(f"{name}-pool-{node}", f"{account}/pools", "name", pool_name),
                ).id
            )
        LoadBalancer(
            f"{name}-load-balancer",
            zone_id=settings.zone_id,
            name=settings.public_name,
            pools=pools,
            description=description,
            opts=options(
                f"{name}-load-balancer",
                f"/zones/{settings.zone_id}/load_balancers",
                "name",
                settings.public_name,
            ),
        )
