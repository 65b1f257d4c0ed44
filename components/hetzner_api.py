"""The few calls to Hetzner that the provider cannot make for us."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from components.credentials import HETZNER_TOKEN
from components.settings import Settings
from components.vendor_api import VendorApi, VendorError

Kind = Literal["servers", "primary_ips", "firewalls", "ssh_keys"]
_ACTION_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class LiveResource:
    """Something at Hetzner, as the API has it now.

    Args:
        id: its number.
        name: its name.
        labels: its labels.
        created: when it was created.
        protected: whether Hetzner refuses to delete it.
        in_use: whether something else depends on it.
        server_type: of a server, such as cpx32; else empty.
    """

    id: int
    name: str
    labels: Mapping[str, str]
    created: datetime
    protected: bool
    in_use: bool
    server_type: str = ""


@dataclass(frozen=True)
class Offer:
    """A server type in one location.

    Args:
        name: the type.
        cores: virtual CPUs.
        memory_gb: memory in GB.
        disk_gb: local disk in GB.
        architecture: x86 or arm.
        offered: whether the location has this type at all.
        available: whether it can be ordered there now.
        unavailable_after: when the type is or was withdrawn there, or None.
    """

    name: str
    cores: int
    memory_gb: float
    disk_gb: int
    architecture: str
    offered: bool
    available: bool
    unavailable_after: datetime | None


class HetznerApi:
    """A small client of the Hetzner Cloud API."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._api = VendorApi(
            vendor="Hetzner",
            endpoint=endpoint,
            token=token,
            token_remedy=HETZNER_TOKEN.remedy,
            endpoint_key="hcloud:endpoint",
        )

    @classmethod
    def of(cls, settings: Settings) -> HetznerApi:
        """The client for a stack's settings."""
        return cls(settings.hetzner_endpoint, HETZNER_TOKEN.value() or "")

    def servers(self, selector: str) -> list[LiveResource]:
        """Servers that carry the labels of a selector."""
        return [_live(body) for body in self._pages("servers", {"label_selector": selector})]

    def find(self, kind: Kind, name: str) -> LiveResource | None:
        """The resource of this name, whoever made it."""
        return next((_live(body) for body in self._pages(kind, {"name": name})), None)

    def offers(self, location: str) -> dict[str, Offer]:
        """Every server type by name, as this location offers it."""
        return {
            str(body["name"]): _offer(body, location) for body in self._pages("server_types", {})
        }

    def lift_protection(self, kind: Kind, resource_id: int | str) -> None:
        """Let a server or a primary IP be deleted. One that is gone already is fine."""
        body = {"delete": False}
        if kind == "servers":
            body["rebuild"] = False  # Hetzner wants both at the same value
        self._act("POST", f"/{kind}/{resource_id}/actions/change_protection", body)

    def delete(self, kind: Kind, resource_id: int | str) -> None:
        """Delete something and wait until it is gone. What is gone already is fine."""
        self._act("DELETE", f"/{kind}/{resource_id}", None)

    def _act(self, method: str, path: str, body: Any) -> None:
        answer = self._api.call(method, path, json=body, missing_is_fine=True)
        action = answer.get("action")
        deadline = time.monotonic() + _ACTION_TIMEOUT_SECONDS
        while action and action["status"] == "running":
            if time.monotonic() > deadline:
                raise VendorError(
                    f"Hetzner: {method} {path} still runs after {_ACTION_TIMEOUT_SECONDS} s. "
                    "Look at it in Hetzner's console, then run pulumi up again."
                )
            time.sleep(0.5)
            action = self._api.call("GET", f"/actions/{action['id']}").get("action")
        if action and action["status"] == "error":
            reason = (action.get("error") or {}).get("message", "no reason given")
            raise VendorError(f"Hetzner: {method} {path} failed: {reason}. Run pulumi up again.")

    def _pages(self, kind: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        page: int | None = 1
        while page:
            answer = self._api.call(
                "GET", f"/{kind}", params={**query, "page": str(page), "per_page": "50"}
            )
            yield from answer.get(kind, [])
            page = ((answer.get("meta") or {}).get("pagination") or {}).get("next_page")


def _live(body: Mapping[str, Any]) -> LiveResource:
    return LiveResource(
        id=int(body["id"]),
        name=str(body["name"]),
        labels=dict(body.get("labels") or {}),
        created=datetime.fromisoformat(body["created"]),
        protected=bool((body.get("protection") or {}).get("delete")),
        in_use=bool(body.get("assignee_id") or body.get("applied_to")),
        server_type=str((body.get("server_type") or {}).get("name", "")),
    )


def _offer(body: Mapping[str, Any], location: str) -> Offer:
    here = next((entry for entry in body.get("locations") or [] if entry["name"] == location), None)
    withdrawn = ((here or {}).get("deprecation") or {}).get("unavailable_after")
    return Offer(
        name=str(body["name"]),
        cores=int(body["cores"]),
        memory_gb=float(body["memory"]),
        disk_gb=int(body["disk"]),
        architecture=str(body["architecture"]),
        offered=here is not None,
        available=bool(here is not None and here.get("available", True)),
        unavailable_after=datetime.fromisoformat(withdrawn) if withdrawn else None,
    )
