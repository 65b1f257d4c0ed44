"""Settings of the arbiter: whether there is one, where the nodes find it, how long a lease is."""

from __future__ import annotations

from pydantic import Field

from components.setting_base import PROJECT, Endpoint, Model, Token

ARBITER_DNS_TOKEN = Token(
    "OVERLORD_ARBITER_DNS_TOKEN",
    f"{PROJECT}:arbiterDnsToken",
    "Cloudflare API token of the arbiter: edits the zone's DNS records and nothing else",
)


class ArbiterSettings(Model):
    """The arbiter. Durations are in seconds."""

    enabled: bool | None = Field(
        default=None,
        description="true, false, or nothing for: only when steering is worker. Without an arbiter "
        "nobody promotes a node but an operator",
    )
    url: Endpoint | None = Field(
        default=None, description="https address, or nothing for https://witness.DOMAIN"
    )
    lease_seconds: int = Field(
        default=15,
        ge=10,
        le=60,
        description="10 to 60: how long a primary may go on without the arbiter's word",
    )
