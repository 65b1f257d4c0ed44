"""A monitor at UptimeRobot as a dynamic resource."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, UpdateResult
from pulumi.dynamic import Resource as DynamicResource

from components.dynamic import ConfiguredProvider, changed, replace_on
from components.external_check_settings import UPTIMEROBOT_KEY
from components.uptimerobot_api import Monitor, UptimeRobotApi

_IDENTITY = ("endpoint", "kind")
_VALUES = ("name", "target", "intervalSeconds", "contacts", "paused")


class UptimeMonitorProvider(ConfiguredProvider):
    """Create, read, update and delete one monitor."""

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """The kind of a monitor is for ever; everything else is changed in place."""
        return replace_on(changed(olds, news, _IDENTITY), changed(olds, news, _VALUES))

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make the monitor, or take the one of this name that an interrupted run left."""
        api = self._api(props)
        found = api.find(props["name"])
        if found and found.kind == props["kind"]:
            self._edit(api, found.id, props)
            return CreateResult(found.id, dict(props))
        made = api.create(
            props["name"],
            props["kind"],
            props["target"],
            int(props["intervalSeconds"]),
            list(props["contacts"]),
        )
        return CreateResult(made, dict(props))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """The monitor as it is now; gone is gone, and a paused one is a difference."""
        monitor = self._api(props).get(id_)
        if monitor is None:
            return ReadResult(None, {})
        return ReadResult(id_, {**props, **_values(monitor)})

    def update(self, id_: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Bring the monitor to the new values."""
        self._edit(self._api(news), id_, news)
        return UpdateResult(dict(news))

    def delete(self, id_: str, props: dict[str, Any]) -> None:
        """Delete the monitor."""
        self._api(props).delete(id_)

    @staticmethod
    def _edit(api: UptimeRobotApi, id_: str, props: Mapping[str, Any]) -> None:
        api.edit(
            id_,
            props["name"],
            props["target"],
            int(props["intervalSeconds"]),
            list(props["contacts"]),
        )

    def _api(self, props: Mapping[str, Any]) -> UptimeRobotApi:
        key = self.provider_setting(UPTIMEROBOT_KEY.key) or os.environ.get(
            UPTIMEROBOT_KEY.variable, ""
        )
        return UptimeRobotApi(props["endpoint"], key)


class UptimeMonitor(DynamicResource, name="UptimeMonitor"):
    """One target that is checked from outside."""

    def __init__(
        self,
        resource_name: str,
        *,
        endpoint: str,
        name: str,
        kind: str,
        target: str,
        interval_seconds: int,
        contacts: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            UptimeMonitorProvider(),
            resource_name,
            {
                "endpoint": endpoint,
                "name": name,
                "kind": kind,
                "target": target,
                "intervalSeconds": interval_seconds,
                "contacts": list(contacts),
                "paused": False,
            },
            opts,
        )


def _values(monitor: Monitor) -> dict[str, Any]:
    return {
        "name": monitor.name,
        "kind": monitor.kind,
        "target": monitor.target,
        "intervalSeconds": monitor.interval,
        "contacts": list(monitor.contacts),
        "paused": monitor.paused,
    }
