"""The few calls to Tailscale that the provider cannot make for us."""

from __future__ import annotations

import pulumi

from components.credentials import TAILSCALE_TOKEN
from components.settings import Settings
from components.vendor_api import VendorApi


class TailscaleApi:
    """A small client of the Tailscale API."""

    def __init__(self, endpoint: str, tailnet: str, token: str) -> None:
        self._tailnet = tailnet
        self._api = VendorApi(
            vendor="Tailscale",
            endpoint=endpoint,
            token=token,
            token_remedy=TAILSCALE_TOKEN.remedy,
            endpoint_key="tailscale:baseUrl",
        )

    @classmethod
    def of(cls, settings: Settings) -> TailscaleApi:
        """The client for a stack's settings."""
        return cls(
            settings.tailscale_endpoint, settings.tailnet_name, TAILSCALE_TOKEN.value() or ""
        )

    def remove_keys(self, description: str) -> None:
        """Revoke auth keys with exactly this description."""
        for key in self._api.call("GET", f"/api/v2/tailnet/{self._tailnet}/keys").get("keys", []):
            if key.get("description") == description:
                pulumi.log.info("tailnet: revoking a key that an interrupted run left")
                self._api.call("DELETE", f"/api/v2/tailnet/{self._tailnet}/keys/{key['id']}")

    def remove_devices(self, hostname: str) -> None:
        """Remove devices with this host name that carry the overlord tag."""
        path = f"/api/v2/tailnet/{self._tailnet}/devices"
        for device in self._api.call("GET", path).get("devices", []):
            if device.get("hostname") == hostname and OVERLORD_TAG in (device.get("tags") or []):
                pulumi.log.info(f"tailnet: removing the former {hostname}")
                self._api.call("DELETE", f"/api/v2/device/{device['id']}", missing_is_fine=True)


OVERLORD_TAG = "tag:overlord"
