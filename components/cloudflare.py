"""The few Cloudflare resources in use, as thin typed classes.

The vendor's Python SDK takes seconds and hundreds of megabytes to import, at every preview. These
classes register the same types with the same properties; a test holds each property name against
the installed SDK. That package stays pinned, so that `pulumi install` fetches the plugin it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

import pulumi

PLUGIN_VERSION = version("pulumi-cloudflare")


class CloudflareResource(pulumi.CustomResource):
    """A resource of the Cloudflare provider. Subclasses say which."""

    TOKEN: ClassVar[str]
    INPUTS: ClassVar[tuple[str, ...]]
    OUTPUTS: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, resource_name: str, props: Mapping[str, Any], opts: pulumi.ResourceOptions | None
    ) -> None:
        unset = dict.fromkeys((*self.INPUTS, *self.OUTPUTS))
        super().__init__(
            self.TOKEN,
            resource_name,
            {**unset, **props},
            pulumi.ResourceOptions.merge(pulumi.ResourceOptions(version=PLUGIN_VERSION), opts),
        )


class DnsRecord(CloudflareResource):
    """A DNS record."""

    TOKEN = "cloudflare:index/dnsRecord:DnsRecord"  # noqa: S105  # a type, no password
    INPUTS = ("zoneId", "name", "type", "content", "data", "ttl", "proxied", "comment")

    def __init__(
        self,
        resource_name: str,
        *,
        zone_id: str,
        name: str,
        type: str,
        ttl: int,
        content: pulumi.Input[str] | None = None,
        data: Mapping[str, Any] | None = None,
        proxied: bool = False,
        comment: str = "",
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "zoneId": zone_id,
            "name": name,
            "type": type,
            "content": content,
            "data": data,
            "ttl": ttl,
            "proxied": proxied,
            "comment": comment,
        }
        super().__init__(resource_name, props, opts)


class ZoneSetting(CloudflareResource):
    """One setting of a zone."""

    TOKEN = "cloudflare:index/zoneSetting:ZoneSetting"  # noqa: S105
    INPUTS = ("zoneId", "settingId", "value")

    def __init__(
        self,
        resource_name: str,
        *,
        zone_id: str,
        setting_id: str,
        value: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            resource_name, {"zoneId": zone_id, "settingId": setting_id, "value": value}, opts
        )


class LoadBalancerMonitor(CloudflareResource):
    """How the health of an origin is asked for."""

    TOKEN = "cloudflare:index/loadBalancerMonitor:LoadBalancerMonitor"  # noqa: S105
    INPUTS = (
        "accountId",
        "type",
        "method",
        "path",
        "port",
        "header",
        "expectedCodes",
        "interval",
        "timeout",
        "retries",
        "consecutiveDown",
        "consecutiveUp",
        "allowInsecure",
        "followRedirects",
        "description",
    )

    def __init__(
        self,
        resource_name: str,
        *,
        account_id: str,
        path: str,
        host: str,
        description: str,
        interval: int,
        consecutive_down: int,
        consecutive_up: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "accountId": account_id,
            "type": "https",
            "method": "GET",
            "path": path,
            "port": 443,
            "header": {"Host": [host]},
            "expectedCodes": "200",
            "interval": interval,
            "timeout": 5,
            "retries": 1,
            "consecutiveDown": consecutive_down,
            "consecutiveUp": consecutive_up,
            "allowInsecure": False,
            "followRedirects": False,
            "description": description,
        }
        super().__init__(resource_name, props, opts)


class LoadBalancerPool(CloudflareResource):
    """A pool with one origin."""

    TOKEN = "cloudflare:index/loadBalancerPool:LoadBalancerPool"  # noqa: S105
    INPUTS = (
        "accountId",
        "name",
        "origins",
        "monitor",
        "minimumOrigins",
        "enabled",
        "description",
    )

    def __init__(
        self,
        resource_name: str,
        *,
        account_id: str,
        name: str,
        origin_name: str,
        origin_address: pulumi.Input[str],
        origin_host: str,
        monitor: pulumi.Input[str],
        description: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "accountId": account_id,
            "name": name,
            "origins": [
                {
                    "name": origin_name,
                    "address": origin_address,
                    "enabled": True,
                    "weight": 1,
                    "header": {"hosts": [origin_host]},
                }
            ],
            "monitor": monitor,
            "minimumOrigins": 1,
            "enabled": True,
            "description": description,
        }
        super().__init__(resource_name, props, opts)


class LoadBalancer(CloudflareResource):
    """A name that leads to the first healthy pool."""

    TOKEN = "cloudflare:index/loadBalancer:LoadBalancer"  # noqa: S105
    INPUTS = (
        "zoneId",
        "name",
        "defaultPools",
        "fallbackPool",
        "proxied",
        "steeringPolicy",
        "sessionAffinity",
        "enabled",
        "description",
    )

    def __init__(
        self,
        resource_name: str,
        *,
        zone_id: str,
        name: str,
        pools: Sequence[pulumi.Input[str]],
        description: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "zoneId": zone_id,
            "name": name,
            "defaultPools": list(pools),
            # Where requests go when no pool is healthy: after the death of the first node the other
            # one's monitor may take a minute more to see that it leads. A node that does not lead
            # passes writes on, so this one is never the wrong one.
            "fallbackPool": pools[-1],
            "proxied": True,
            "steeringPolicy": "off",  # in the order of defaultPools
            "sessionAffinity": "none",
            "enabled": True,
            "description": description,
        }
        super().__init__(resource_name, props, opts)


class Ruleset(CloudflareResource):
    """The rules of one phase of a zone."""

    TOKEN = "cloudflare:index/ruleset:Ruleset"  # noqa: S105
    INPUTS = ("zoneId", "name", "kind", "phase", "description", "rules")

    def __init__(
        self,
        resource_name: str,
        *,
        zone_id: str,
        name: str,
        phase: str,
        description: str,
        rules: Sequence[Mapping[str, Any]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "zoneId": zone_id,
            "name": name,
            "kind": "zone",
            "phase": phase,
            "description": description,
            "rules": list(rules),
        }
        super().__init__(resource_name, props, opts)


class OriginCaCertificate(CloudflareResource):
    """A certificate that only Cloudflare's edge trusts."""

    TOKEN = "cloudflare:index/originCaCertificate:OriginCaCertificate"  # noqa: S105
    INPUTS = ("csr", "hostnames", "requestType", "requestedValidity")
    OUTPUTS = ("certificate", "expiresOn")

    certificate: pulumi.Output[str]
    expires_on: pulumi.Output[str]

    def __init__(
        self,
        resource_name: str,
        *,
        csr: pulumi.Input[str],
        hostnames: Sequence[str],
        validity_days: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "csr": csr,
            "hostnames": list(hostnames),
            "requestType": "origin-ecc",
            "requestedValidity": validity_days,
        }
        super().__init__(resource_name, props, opts)

    def translate_output_property(self, prop: str) -> str:
        """Names as the program knows them."""
        return {"expiresOn": "expires_on"}.get(prop, prop)


class WorkersScript(CloudflareResource):
    """A Worker of one module, with what is bound to it."""

    TOKEN = "cloudflare:index/workersScript:WorkersScript"  # noqa: S105
    INPUTS = (
        "accountId",
        "scriptName",
        "content",
        "mainModule",
        "compatibilityDate",
        "bindings",
    )

    def __init__(
        self,
        resource_name: str,
        *,
        account_id: str,
        script_name: str,
        content: str,
        main_module: str,
        compatibility_date: str,
        bindings: Sequence[Mapping[str, pulumi.Input[str]]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "accountId": account_id,
            "scriptName": script_name,
            "content": content,
            "mainModule": main_module,
            "compatibilityDate": compatibility_date,
            "bindings": list(bindings),
        }
        super().__init__(resource_name, props, opts)


class WorkersCronTrigger(CloudflareResource):
    """When a Worker runs by itself."""

    TOKEN = "cloudflare:index/workersCronTrigger:WorkersCronTrigger"  # noqa: S105
    INPUTS = ("accountId", "scriptName", "schedules")

    def __init__(
        self,
        resource_name: str,
        *,
        account_id: str,
        script_name: str,
        crons: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "accountId": account_id,
            "scriptName": script_name,
            "schedules": [{"cron": cron} for cron in crons],
        }
        super().__init__(resource_name, props, opts)


class WorkersCustomDomain(CloudflareResource):
    """A name of the zone that a Worker answers on, with its record and certificate."""

    TOKEN = "cloudflare:index/workersCustomDomain:WorkersCustomDomain"  # noqa: S105
    INPUTS = ("accountId", "zoneId", "hostname", "service")

    def __init__(
        self,
        resource_name: str,
        *,
        account_id: str,
        zone_id: str,
        hostname: str,
        service: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "accountId": account_id,
            "zoneId": zone_id,
            "hostname": hostname,
            "service": service,
        }
        super().__init__(resource_name, props, opts)


IP_RANGES_TOKEN = "cloudflare:index/getIpRanges:getIpRanges"  # noqa: S105


def ip_ranges() -> pulumi.Output[list[str]]:
    """Cloudflare's networks, IPv4 and IPv6, sorted."""
    answer = pulumi.runtime.invoke_output(
        IP_RANGES_TOKEN, {}, pulumi.InvokeOutputOptions(version=PLUGIN_VERSION)
    )
    return answer.apply(
        lambda ranges: sorted([*(ranges.get("ipv4Cidrs") or []), *(ranges.get("ipv6Cidrs") or [])])
    )
