"""The public name's record when the arbiter steers it, as a dynamic resource.

The arbiter writes the record's content at a failover. A DnsRecord with `ignore_changes` on its
content would look right, and would still send the content of the state with any other change: back
to the dead node. So this resource makes sure that the record exists and never writes its content
afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, UpdateResult
from pulumi.dynamic import Resource as DynamicResource

from components.cloudflare_api import MARK, CloudflareProvider
from components.dynamic import changed, replace_on

_IDENTITY = ("endpoint", "zoneId", "name")


class PublicRecordProvider(CloudflareProvider):
    """Make sure that one A record exists."""

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """The address is where a new record starts; it is not compared afterwards."""
        return replace_on(changed(olds, news, _IDENTITY), changed(olds, news, ("proxied",)))

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Create the record, or take the one that is there, whatever it points at."""
        api, path = self.api(props), _path(props)
        found = next(api.list(path, {"name": props["name"], "type": "A"}), None)
        record = found or api.post(
            path,
            {
                "type": "A",
                "name": props["name"],
                "content": props["address"],
                "ttl": 1,
                "proxied": True,
                "comment": MARK,
            },
        )
        if not record.get("proxied"):
            record = api.patch(f"{path}/{record['id']}", {"proxied": True})
        return CreateResult(str(record["id"]), _outputs(props, record))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """The record as it is; gone is gone."""
        record = self.api(props).get(f"{_path(props)}/{id_}")
        return ReadResult(id_, _outputs(props, record)) if record else ReadResult(None, {})

    def update(self, id_: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Put the proxy back in front; the content stays as it is."""
        record = self.api(news).patch(f"{_path(news)}/{id_}", {"proxied": True})
        return UpdateResult(_outputs(news, record))

    def delete(self, id_: str, props: dict[str, Any]) -> None:
        """Delete the record."""
        self.api(props).delete(f"{_path(props)}/{id_}")


class PublicRecord(DynamicResource, name="PublicRecord"):
    """A proxied record that exists, and whose content belongs to the arbiter."""

    def __init__(
        self,
        resource_name: str,
        *,
        endpoint: str,
        zone_id: str,
        name: str,
        address: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            PublicRecordProvider(),
            resource_name,
            {
                "endpoint": endpoint,
                "zoneId": zone_id,
                "name": name,
                "address": address,
                "proxied": True,
            },
            opts,
        )


def _path(props: Mapping[str, Any]) -> str:
    return f"/zones/{props['zoneId']}/dns_records"


def _outputs(props: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: props[name] for name in (*_IDENTITY, "address")},
        "proxied": bool(record.get("proxied")),
    }
