"""The class of a Worker's Durable Object, as a dynamic resource.

Cloudflare makes the storage of such a class by a migration in the upload of the script, and
refuses the same migration in a second upload (error 10079). The provider sends the program's
migrations with every upload. So this resource makes the class once, with a script that does nothing
yet, and the script's own resource never speaks of migrations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult
from pulumi.dynamic import Resource as DynamicResource

from components.cloudflare_api import CloudflareApi, CloudflareProvider
from components.dynamic import changed, replace_on

TAG = "v1"
"""Of the migration. A second class would need a second one."""
_IDENTITY = ("endpoint", "accountId", "scriptName", "className")
_MODULE = "placeholder.js"


class DurableObjectClassProvider(CloudflareProvider):
    """Make sure that one class has its storage."""

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Another script or class is another storage."""
        return replace_on(changed(olds, news, _IDENTITY))

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Upload a script with the class, unless an interrupted run has done so."""
        api = self.api(props)
        if _tag(api, props) is None:
            api.upload(_path(props), _placeholder(props["className"]))
        return CreateResult(f"{props['scriptName']}/{props['className']}", dict(props))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """The class as it is; it goes with its script."""
        found = _tag(self.api(props), props)
        return ReadResult(id_, props) if found else ReadResult(None, {})

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Delete the script, and with it the storage."""
        self.api(props).delete(_path(props))


class DurableObjectClass(DynamicResource, name="DurableObjectClass"):
    """The storage of a Worker's class. It must exist before a script can bind it."""

    def __init__(
        self,
        resource_name: str,
        *,
        endpoint: str,
        account_id: str,
        script_name: str,
        class_name: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            DurableObjectClassProvider(),
            resource_name,
            {
                "endpoint": endpoint,
                "accountId": account_id,
                "scriptName": script_name,
                "className": class_name,
            },
            opts,
        )


def _path(props: Mapping[str, Any]) -> str:
    return f"/accounts/{props['accountId']}/workers/scripts/{props['scriptName']}"


def _tag(api: CloudflareApi, props: Mapping[str, Any]) -> str | None:
    scripts = api.list(f"/accounts/{props['accountId']}/workers/scripts", {})
    for script in scripts:
        if script.get("id") == props["scriptName"]:
            return script.get("migration_tag") or None
    return None


def _placeholder(class_name: str) -> dict[str, tuple[str, str, str]]:
    metadata = {
        "main_module": _MODULE,
        "compatibility_date": "2026-11-01",
        "migrations": {"new_tag": TAG, "new_sqlite_classes": [class_name]},
    }
    source = (
        f"export class {class_name} {{}}\n"
        'export default { fetch: () => new Response("not here yet\\n", { status: 503 }) };\n'
    )
    return {
        "metadata": ("metadata.json", json.dumps(metadata), "application/json"),
        _MODULE: (_MODULE, source, "application/javascript+module"),
    }
