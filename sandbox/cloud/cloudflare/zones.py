"""The zone and its settings, the token's own check, and the edge's addresses."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.cloud.cloudflare import answers
from sandbox.cloud.cloudflare.domain import CloudflareState, JsonObject, now
from sandbox.cloud.cloudflare.errors import CloudflareError

CREATED = "2026-01-01T00:00:00.000000Z"
_SWITCH = ("on", "off")

# Setting to its default and the values that the vendor accepts; None where it takes a structure.
SETTINGS: dict[str, tuple[Any, tuple[str, ...] | None]] = {
    "0rtt": ("off", _SWITCH),
    "always_online": ("off", _SWITCH),
    "always_use_https": ("off", _SWITCH),
    "automatic_https_rewrites": ("on", _SWITCH),
    "brotli": ("on", _SWITCH),
    "browser_cache_ttl": (14400, None),
    "browser_check": ("on", _SWITCH),
    "cache_level": ("aggressive", ("aggressive", "basic", "simplified")),
    "challenge_ttl": (1800, None),
    "development_mode": ("off", _SWITCH),
    "email_obfuscation": ("on", _SWITCH),
    "hotlink_protection": ("off", _SWITCH),
    "http3": ("on", _SWITCH),
    "ip_geolocation": ("on", _SWITCH),
    "ipv6": ("on", _SWITCH),
    "min_tls_version": ("1.0", ("1.0", "1.1", "1.2", "1.3")),
    "opportunistic_encryption": ("on", _SWITCH),
    "privacy_pass": ("on", _SWITCH),
    "rocket_loader": ("off", _SWITCH),
    "security_header": ({"strict_transport_security": {"enabled": False}}, None),
    "security_level": (
        "medium",
        ("off", "essentially_off", "low", "medium", "high", "under_attack"),
    ),
    "ssl": ("full", ("off", "flexible", "full", "strict", "origin_pull")),
    "tls_1_3": ("on", ("on", "off", "zrt")),
    "websockets": ("on", _SWITCH),
}


class Zones:
    """The routes of the zone as such."""

    def __init__(self, state: CloudflareState, edge_networks: tuple[str, ...]) -> None:
        self._state, self._edge_networks = state, edge_networks

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        setting = "/zones/{zone}/settings/{setting}"
        return [
            Route("/user/tokens/verify", self.verify),
            Route("/ips", self.ips),
            Route("/accounts", self.accounts),
            Route("/zones", self.index),
            Route("/zones/{zone}", self.get),
            Route("/zones/{zone}/settings", self.settings),
            Route(setting, self.setting, methods=["GET"]),
            Route(setting, self.edit_setting, methods=["PATCH"]),
        ]

    async def verify(self, request: Request) -> Response:
        """Tell a token that it is good; authentication came first."""
        token = request.headers["authorization"].partition(" ")[2]
        identifier = hashlib.sha256(token.encode()).hexdigest()[:32]
        return answers.one({"id": identifier, "status": "active"})

    async def ips(self, request: Request) -> Response:
        """List the networks that the edge connects from: in the sandbox, its one address."""
        networks = {
            "ipv4_cidrs": [n for n in self._edge_networks if ":" not in n],
            "ipv6_cidrs": [n for n in self._edge_networks if ":" in n],
        }
        etag = hashlib.sha256(repr(networks).encode()).hexdigest()[:32]
        return answers.one({**networks, "etag": etag})

    async def accounts(self, request: Request) -> Response:
        """List the one account."""
        return answers.many(request, [self._account()])

    async def index(self, request: Request) -> Response:
        """List zones, by name when asked."""
        name = request.query_params.get("name", self._state.zone)
        return answers.many(request, [self._body()] if name == self._state.zone else [])

    async def get(self, request: Request) -> Response:
        """Get the zone."""
        return answers.one(self._body())

    async def settings(self, request: Request) -> Response:
        """List all settings."""
        return answers.one([self._setting(name) for name in SETTINGS])

    async def setting(self, request: Request) -> Response:
        """Get one."""
        return answers.one(self._setting(request.path_params["setting"]))

    async def edit_setting(self, request: Request) -> Response:
        """Change one."""
        name, given = request.path_params["setting"], await answers.posted(request)
        default, allowed = _known(name)
        value = given.get("value", given.get("enabled"))
        valid = value in allowed if allowed is not None else isinstance(value, type(default))
        if not valid:
            raise CloudflareError(400, 1007, f"Invalid value for zone setting {name}")
        self._state.settings[name] = value
        self._state.settings_modified[name] = now()
        return answers.one(self._setting(name))

    def _setting(self, name: str) -> JsonObject:
        return {
            "id": name,
            "value": setting(self._state, name),
            "editable": True,
            "modified_on": self._state.settings_modified.get(name),
        }

    def _account(self) -> JsonObject:
        return {"id": self._state.account_id, "name": "Sandbox", "type": "standard"}

    def _body(self) -> JsonObject:
        return {
            "id": self._state.zone_id,
            "name": self._state.zone,
            "status": "active",
            "paused": False,
            "type": "full",
            "development_mode": 0,
            "name_servers": [f"ns1.{self._state.zone}", f"ns2.{self._state.zone}"],
            "original_name_servers": [],
            "activated_on": CREATED,
            "created_on": CREATED,
            "modified_on": CREATED,
            "owner": {"id": None, "type": "user", "email": None},
            "account": {"id": self._state.account_id, "name": "Sandbox"},
            "plan": {"id": "0" * 32, "name": "Free Website", "legacy_id": "free"},
            "permissions": ["#zone:read", "#zone:edit"],
            "meta": {"step": 4},
        }


def setting(state: CloudflareState, name: str) -> Any:
    """The value of a setting, its default where nobody changed it."""
    return state.settings.get(name, _known(name)[0])


def _known(name: str) -> tuple[Any, tuple[str, ...] | None]:
    if name not in SETTINGS:
        raise CloudflareError(400, 1006, f"Unrecognized zone setting name {name}")
    return SETTINGS[name]
