"""A bucket of which somebody has taken everything, as the owner of the account can."""

from typing import Any


def empty_bucket(owner: Any, bucket: str, prefix: str = "") -> None:
    """Delete every version of every object for good, with the owner's client."""
    for page in owner.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            where = {"Bucket": bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
            owner.delete_object(**where, BypassGovernanceRetention=True)
