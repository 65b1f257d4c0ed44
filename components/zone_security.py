"""The zone's own defences: TLS, HTTPS, firewall rules, rate limit, Under Attack mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pulumi

from components.cloudflare import Ruleset, ZoneSetting
from components.cloudflare_api import MARK, CloudflareApi, leftover_hook
from components.settings import Settings

# Devices report once a minute; a site of fifty behind one address, with retries after an outage,
# stays far below.
REQUESTS_PER_PERIOD = 200
# The free plan counts over ten seconds, blocks for ten, and tells data centres apart.
PERIOD_SECONDS = 10


def zone_settings(under_attack: bool) -> Mapping[str, str]:
    """Settings of the zone by their id."""
    return {
        "ssl": "strict",
        "min_tls_version": "1.2",
        "always_use_https": "on",
        "security_level": "under_attack" if under_attack else "medium",
    }


def firewall_rules(public_name: str, arbiter_name: str | None) -> list[dict[str, Any]]:
    """What the edge refuses, and what it lets through under attack.

    Args:
        public_name: the name that devices and people use.
        arbiter_name: the arbiter's, or None where there is none.
    """
    here = f'http.host eq "{public_name}"'
    rules: list[dict[str, Any]] = [
        {
            "action": "block",
            "expression": f"({here} and (starts_with(http.request.uri.path, "
            '"/metrics") or http.request.uri.path eq "/leader"))',
            "description": "Internal pages. Cloudflare's own monitors do not pass here",
            "enabled": True,
        },
        {
            # A device cannot solve a challenge: under attack it would fall silent.
            "action": "skip",
            "actionParameters": {"products": ["bic", "securityLevel"]},
            "expression": f'({here} and starts_with(http.request.uri.path, "/api/"))',
            "description": "Devices are never challenged",
            "enabled": True,
        },
    ]
    if arbiter_name:
        rules.append(
            {
                # Nor can a node: under attack the pair would lose its arbiter.
                "action": "skip",
                "actionParameters": {"products": ["bic", "securityLevel"]},
                "expression": f'(http.host eq "{arbiter_name}")',
                "description": "Nodes that ask the arbiter are never challenged",
                "enabled": True,
            }
        )
    return rules


def rate_limit_rules() -> list[dict[str, Any]]:
    """One rule, which is what the free plan allows."""
    return [
        {
            "action": "block",
            # The free plan compares paths only.
            "expression": '(starts_with(http.request.uri.path, "/api/"))',
            "description": "Too many requests from one address",
            "enabled": True,
            "ratelimit": {
                "characteristics": ["cf.colo.id", "ip.src"],
                "period": PERIOD_SECONDS,
                "requestsPerPeriod": REQUESTS_PER_PERIOD,
                "mitigationTimeout": PERIOD_SECONDS,
            },
        }
    ]


@dataclass(frozen=True)
class ZoneSecurityArgs:
    """What the defences are made from.

    Args:
        settings: names, zone and switches.
        api: Cloudflare.
    """

    settings: Settings
    api: CloudflareApi


class ZoneSecurity(pulumi.ComponentResource):
    """Settings and rules of the zone."""

    def __init__(
        self, name: str, args: ZoneSecurityArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:ZoneSecurity", name, None, opts)
        settings = args.settings
        for setting, value in zone_settings(settings.under_attack).items():
            ZoneSetting(
                f"{name}-{setting.replace('_', '-')}",
                zone_id=settings.zone_id,
                setting_id=setting,
                value=value,
                opts=pulumi.ResourceOptions(parent=self),
            )
        arbiter_name = settings.arbiter_name if settings.arbiter_enabled else None
        firewall = firewall_rules(settings.public_name, arbiter_name)
        for purpose, phase, rules in (
            ("firewall", "http_request_firewall_custom", firewall),
            ("rate-limit", "http_ratelimit", rate_limit_rules()),
        ):
            Ruleset(
                f"{name}-{purpose}",
                zone_id=settings.zone_id,
                name=f"overlord {purpose}",
                phase=phase,
                description=MARK,
                rules=rules,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    hooks=leftover_hook(
                        f"{name}-{purpose}-leftover",
                        args.api,
                        f"/zones/{settings.zone_id}/rulesets",
                        {},
                        partial(_is_ours, phase),
                    ),
                ),
            )
        self.register_outputs({"underAttack": settings.under_attack})


def _is_ours(phase: str, entry: dict[str, Any]) -> bool:
    return entry.get("phase") == phase and entry.get("description") == MARK
