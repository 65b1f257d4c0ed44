"""Credentials that the program needs: where each is looked for, and what it is for."""

from __future__ import annotations

from components.alert_settings import alert_tokens
from components.arbiter_settings import ARBITER_DNS_TOKEN
from components.external_check_settings import UPTIMEROBOT_KEY
from components.setting_base import PROJECT, Token
from components.settings import NODES

HETZNER_TOKEN = Token("HCLOUD_TOKEN", "hcloud:token", "Hetzner Cloud API token, read and write")
CLOUDFLARE_TOKEN = Token(
    "CLOUDFLARE_API_TOKEN", "cloudflare:apiToken", "Cloudflare API token for the zone"
)
TAILSCALE_TOKEN = Token("TAILSCALE_API_KEY", "tailscale:apiKey", "Tailscale API key")
B2_KEY_ID = Token("OVERLORD_B2_KEY_ID", f"{PROJECT}:b2KeyId", "id of the operator's B2 key")
B2_KEY = Token("OVERLORD_B2_KEY", f"{PROJECT}:b2Key", "operator's B2 key, for buckets and bundles")
NODE_B2_KEY_ID = Token(
    "OVERLORD_NODE_B2_KEY_ID", f"{PROJECT}:nodeB2KeyId", "id of the nodes' B2 key"
)
NODE_B2_KEY = Token(
    "OVERLORD_NODE_B2_KEY", f"{PROJECT}:nodeB2Key", "nodes' B2 key: no right to delete versions"
)
SECOND_B2_KEY_ID = Token(
    "OVERLORD_SECOND_B2_KEY_ID",
    f"{PROJECT}:secondB2KeyId",
    "id of the operator's B2 key at the second repository's account",
)
SECOND_B2_KEY = Token(
    "OVERLORD_SECOND_B2_KEY",
    f"{PROJECT}:secondB2Key",
    "operator's B2 key at the second repository's account, for its bucket",
)
NODE_SECOND_B2_KEY_ID = Token(
    "OVERLORD_NODE_SECOND_B2_KEY_ID",
    f"{PROJECT}:nodeSecondB2KeyId",
    "id of the nodes' B2 key at the second repository's account",
)
NODE_SECOND_B2_KEY = Token(
    "OVERLORD_NODE_SECOND_B2_KEY",
    f"{PROJECT}:nodeSecondB2Key",
    "nodes' B2 key at the second repository's account: no right to delete versions",
)
ACME_DNS_TOKEN = Token(
    "OVERLORD_ACME_DNS_TOKEN",
    f"{PROJECT}:acmeDnsToken",
    "Cloudflare API token of the nodes: Zone DNS Edit for the zone, nothing else",
)
TOKENS = (
    HETZNER_TOKEN,
    CLOUDFLARE_TOKEN,
    TAILSCALE_TOKEN,
    B2_KEY_ID,
    B2_KEY,
    NODE_B2_KEY_ID,
    NODE_B2_KEY,
)
SECOND_TOKENS = (SECOND_B2_KEY_ID, SECOND_B2_KEY, NODE_SECOND_B2_KEY_ID, NODE_SECOND_B2_KEY)
"""Needed where there is a second repository."""
OPTIONAL_TOKENS = (
    *alert_tokens(NODES),
    UPTIMEROBOT_KEY,
    ARBITER_DNS_TOKEN,
    ACME_DNS_TOKEN,
    *SECOND_TOKENS,
)
"""Needed only by what is asked for."""
