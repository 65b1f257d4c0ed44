"""The few calls to UptimeRobot's API v2 that its monitors need.

The API answers 200 to nearly everything and says in the body whether it did what was asked. The
free plan allows ten calls a minute, so a refused call is repeated when the API says it may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from components.external_check_settings import UPTIMEROBOT_KEY
from components.vendor_api import TIMEOUT_SECONDS, VendorError

TYPES = {"https": 1, "ping": 3}
"""Kinds of monitors that are used here, as the API numbers them."""
_PAUSED = 0
_PAGE = 50


@dataclass(frozen=True)
class Monitor:
    """A monitor as the API has it.

    Args:
        id: its number.
        name: its friendly name.
        kind: one of TYPES, or the API's number of another kind.
        target: address or host name that is checked.
        interval: seconds between two checks.
        contacts: ids of the alert contacts, sorted.
        paused: whether it checks nothing.
    """

    id: str
    name: str
    kind: str
    target: str
    interval: int
    contacts: tuple[str, ...]
    paused: bool


class UptimeRobotApi:
    """A small client of the UptimeRobot API."""

    def __init__(self, endpoint: str, key: str) -> None:
        self._endpoint = endpoint
        self._key = key

    def get(self, monitor_id: str) -> Monitor | None:
        """A monitor, or None if it is gone."""
        return next(iter(self._list({"monitors": monitor_id})), None)

    def find(self, name: str) -> Monitor | None:
        """The monitor of exactly this name."""
        return next((one for one in self._list({"search": name}) if one.name == name), None)

    def create(self, name: str, kind: str, target: str, interval: int, contacts: list[str]) -> str:
        """Make a monitor; its id."""
        answer = self._call(
            "newMonitor",
            {
                "friendly_name": name,
                "type": str(TYPES[kind]),
                "url": target,
                "interval": str(interval),
                "alert_contacts": _contacts(contacts),
            },
        )
        return str(answer["monitor"]["id"])

    def edit(
        self, monitor_id: str, name: str, target: str, interval: int, contacts: list[str]
    ) -> None:
        """Bring a monitor to these values, and set it going if it was paused."""
        self._call(
            "editMonitor",
            {
                "id": monitor_id,
                "friendly_name": name,
                "url": target,
                "interval": str(interval),
                "alert_contacts": _contacts(contacts),
                "status": "1",
            },
        )

    def delete(self, monitor_id: str) -> None:
        """Delete a monitor. One that is gone already is fine."""
        self._call("deleteMonitor", {"id": monitor_id}, missing_is_fine=True)

    def _list(self, query: Mapping[str, str]) -> list[Monitor]:
        found: list[Monitor] = []
        while True:
            page = {"offset": str(len(found)), "limit": str(_PAGE), "alert_contacts": "1"}
            answer = self._call("getMonitors", {**query, **page}, missing_is_fine=True)
            bodies = answer.get("monitors") or []
            found += map(_monitor, bodies)
            total = int((answer.get("pagination") or {}).get("total", 0))
            if not bodies or len(found) >= total:
                return found

    def _call(
        self, method: str, fields: Mapping[str, str], *, missing_is_fine: bool = False
    ) -> dict[str, Any]:
        retries = Retry(
            total=4,
            backoff_factor=2,
            # Only what the API refused to do at all: any other call may have been carried out.
            status_forcelist=(429,),
            allowed_methods=None,
            raise_on_status=False,
        )
        with requests.Session() as session:
            session.mount(self._endpoint, HTTPAdapter(max_retries=retries))
            try:
                answer = session.post(
                    f"{self._endpoint}/{method}",
                    data={"api_key": self._key, "format": "json", **fields},
                    timeout=TIMEOUT_SECONDS,
                )
            except requests.RequestException as error:
                # Not chained: the request holds the key.
                raise VendorError(
                    f"UptimeRobot: no answer from {self._endpoint} ({type(error).__name__}). "
                    "Check the network and overlord:externalChecks.endpoint, then run pulumi up "
                    "again."
                ) from None
        if not answer.ok:
            raise VendorError(
                f"UptimeRobot: {method} answered {answer.status_code}. Run pulumi up again; if it "
                "stays, look at the vendor's status page."
            )
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise VendorError(
                f"UptimeRobot: {method} answered with something that is no JSON. "
                "Check overlord:externalChecks.endpoint."
            )
        if body.get("stat") == "ok":
            return body
        # Of the error only these: it repeats what was sent.
        refusal = body.get("error") or {}
        kind, parameter = str(refusal.get("type")), str(refusal.get("parameter_name", ""))
        if kind == "not_found" and missing_is_fine:
            return {}
        if parameter == "api_key":
            raise VendorError(
                "UptimeRobot refused the key. Set the account's main API key: `export "
                f"{UPTIMEROBOT_KEY.variable}=…` or `pulumi config set --secret "
                f"{UPTIMEROBOT_KEY.key}`."
            )
        about = f" about {parameter}" if parameter else ""
        raise VendorError(
            f"UptimeRobot: {method} was refused ({kind}{about}). Compare overlord:externalChecks "
            "with what the account's plan allows."
        )


def _contacts(ids: list[str]) -> str:
    # id, minutes to wait, minutes until the next message: told at once, and told once.
    return "-".join(f"{one}_0_0" for one in ids)


def _monitor(body: Mapping[str, Any]) -> Monitor:
    kinds = {number: name for name, number in TYPES.items()}
    return Monitor(
        id=str(body["id"]),
        name=str(body["friendly_name"]),
        kind=kinds.get(int(body["type"]), str(body["type"])),
        target=str(body["url"]),
        interval=int(body["interval"]),
        contacts=tuple(sorted(str(one["id"]) for one in body.get("alert_contacts") or [])),
        paused=int(body.get("status", 1)) == _PAUSED,
    )
