"""The few calls to Cloudflare that the provider cannot make for us."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pulumi

from components.credentials import CLOUDFLARE_TOKEN
from components.dynamic import ConfiguredProvider
from components.settings import CLOUDFLARE_URL, Settings
from components.vendor_api import VendorApi, check_age

MARK = "made by overlord; do not edit by hand"
"""Comment or description of everything at Cloudflare that is ours."""


class CloudflareApi:
    """A small client of the Cloudflare API."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._api = VendorApi(
            vendor="Cloudflare",
            endpoint=endpoint or CLOUDFLARE_URL,
            token=token,
            token_remedy=CLOUDFLARE_TOKEN.remedy,
            endpoint_key="cloudflare:baseUrl",
        )

    @classmethod
    def of(cls, settings: Settings) -> CloudflareApi:
        """The client for a stack's settings."""
        return cls(settings.cloudflare_endpoint, CLOUDFLARE_TOKEN.value() or "")

    def list(self, path: str, params: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Everything under a path, page by page."""
        page, pages = 1, 1
        while page <= pages:
            answer = self._api.call(
                "GET", path, params={**params, "page": str(page), "per_page": "50"}
            )
            yield from answer.get("result") or []
            pages = int((answer.get("result_info") or {}).get("total_pages") or 1)
            page += 1

    def get(self, path: str) -> dict[str, Any]:
        """One thing, or {} if it is gone."""
        return dict(self._api.call("GET", path, missing_is_fine=True).get("result") or {})

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make one thing."""
        return dict(self._api.call("POST", path, json=dict(body))["result"])

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change some fields of one thing and leave the others."""
        return dict(self._api.call("PATCH", path, json=dict(body))["result"])

    def upload(self, path: str, parts: Mapping[str, tuple[str, str, str]]) -> dict[str, Any]:
        """Put one thing that is made of files: by part, file name, content and content type."""
        return dict(self._api.call("PUT", path, files=parts)["result"])

    def delete(self, path: str) -> None:
        """Delete one thing. What is gone already is fine."""
        self._api.call("DELETE", path, missing_is_fine=True)


class CloudflareProvider(ConfiguredProvider):
    """A dynamic provider of something at Cloudflare that the vendor's provider cannot do."""

    def api(self, props: Mapping[str, Any]) -> CloudflareApi:
        """The client, with the stack's token, for the endpoint among the properties."""
        token = self.provider_setting("cloudflare:apiToken") or os.environ.get(
            "CLOUDFLARE_API_TOKEN", ""
        )
        return CloudflareApi(props["endpoint"], token)


def leftover_hook(
    hook_name: str,
    api: CloudflareApi,
    path: str,
    params: Mapping[str, str],
    is_ours: Callable[[dict[str, Any]], bool],
) -> pulumi.ResourceHookBinding:
    """A binding that removes what an interrupted run left, before the resource is created.

    Args:
        hook_name: unique name.
        api: Cloudflare.
        path: where such things are listed.
        params: query that narrows the list.
        is_ours: whether an entry is the one that this stack made.
    """

    def clear(_: pulumi.ResourceHookArgs) -> None:
        for entry in api.list(path, params):
            if not is_ours(entry):
                continue
            created = entry.get("created_on")
            if created:
                check_age(
                    f"{path}/{entry['id']} at Cloudflare",
                    datetime.fromisoformat(created),
                    "Delete it there, then run pulumi up again.",
                )
            pulumi.log.info(f"cloudflare: removing {path}/{entry['id']} of an interrupted run")
            api.delete(f"{path}/{entry['id']}")

    return pulumi.ResourceHookBinding(before_create=[pulumi.ResourceHook(hook_name, clear)])
