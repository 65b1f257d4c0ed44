"""A bucket at Backblaze B2 as a dynamic resource, through its S3 interface.

Reads what is there, writes only what differs, takes a half-made bucket of an interrupted run over,
and never deletes data unless told to. A small object says whose the bucket is, so that the same
stack takes its own buckets over when its state has lost them, and nobody else's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    UpdateResult,
)
from pulumi.dynamic import Resource as DynamicResource

from components.dynamic import ConfiguredProvider, changed, replace_on
from components.s3 import (
    S3Error,
    content_md5,
    error_code,
    explain,
    prefix_setting,
    s3_client,
)

OWNER_KEY = "overlord-owner"
"""Key of the object that names the bucket's owner. No lifecycle rule may reach it."""
_IDENTITY = ("endpoint", "region", "name")
# Whose credentials; absent for the pair's own account.
_ACCOUNT = "account"
# What is compared with the live bucket, in the order in which it is written.
_LIVE = ("versioning", "encryption", "public", "lockDays", "lockMode", "lifecycle", "owner")
_SWITCHES = ("adopt", "forceDestroy")
_GONE = {"NoSuchBucket", "404", "NotFound"}
_NOT_SET = {
    "NoSuchLifecycleConfiguration",
    "ObjectLockConfigurationNotFoundError",
    "ServerSideEncryptionConfigurationNotFoundError",
    "NoSuchObjectLockConfiguration",
}
_ALL_USERS = "http://acs.amazonaws.com/groups/global/"
_NO_OBJECT = {"NoSuchKey", "404"}
# Whoever may lift a governance lock can delete an empty bucket, whatever locks its data.
_OWNER_LOCK = timedelta(days=1)


@dataclass(frozen=True)
class LifecycleRule:
    """When objects below a prefix go.

    Args:
        prefix: beginning of the keys; prefixes of one bucket do not overlap, as B2 demands.
        expire_days: days after which an object is hidden, 0 for never.
        hidden_days: days after which a hidden version is deleted.
    """

    prefix: str
    expire_days: int
    hidden_days: int

    def as_property(self) -> dict[str, Any]:
        """The rule as a resource property."""
        return {
            "prefix": self.prefix,
            "expireDays": self.expire_days,
            "hiddenDays": self.hidden_days,
        }


class S3BucketProvider(ConfiguredProvider):
    """Create, read, update and delete a bucket."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse names and rules that B2 would refuse half-way."""
        failures = []
        name = news.get("name")
        if isinstance(name, str) and not re.fullmatch(r"[a-z0-9][a-z0-9-]{4,61}[a-z0-9]", name):
            failures.append(
                CheckFailure("name", f"{name!r}: 6 to 63 lower-case letters, digits and dashes")
            )
        prefixes = [rule["prefix"] for rule in news.get("lifecycle") or []]
        for one in prefixes:
            for other in prefixes:
                if one is not other and other.startswith(one):
                    failures.append(
                        CheckFailure("lifecycle", f"prefixes {one!r} and {other!r} overlap")
                    )
        return CheckResult(news, failures)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Another place or name is another bucket; everything else is changed in place."""
        return replace_on(
            changed(olds, news, _IDENTITY),
            changed(_comparable(olds), _comparable(news), (*_LIVE, *_SWITCHES)),
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Create the bucket, or take over our own or an adopted one."""
        s3, name = self._client(props), props["name"]
        try:
            self._make(s3, name, props)
            self._write(s3, name, props, _live(s3, name))
            return CreateResult(name, {**_kept(props), **_live(s3, name)})
        except Exception as error:
            raise explain(error, f"bucket {name}", props.get(_ACCOUNT, "")) from None

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """The bucket as it is now, so that a refresh shows what drifted."""
        s3 = self._client(props)
        try:
            s3.head_bucket(Bucket=id_)
            return ReadResult(id_, {**_kept(props), **_live(s3, id_)})
        except Exception as error:
            if error_code(error) in _GONE:
                return ReadResult(None, {})
            raise explain(error, f"bucket {id_}", props.get(_ACCOUNT, "")) from None

    def update(self, id_: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Write what differs from the live bucket."""
        s3 = self._client(news)
        try:
            live = _live(s3, id_)
            if live["owner"]:
                _refuse_of_another(id_, live["owner"], news)
            self._write(s3, id_, news, live)
            return UpdateResult({**_kept(news), **_live(s3, id_)})
        except Exception as error:
            raise explain(error, f"bucket {id_}", news.get(_ACCOUNT, "")) from None

    def delete(self, id_: str, props: dict[str, Any]) -> None:
        """Delete the bucket if it is empty, or with its data if `forceDestroy` names it."""
        s3 = self._client(props)
        try:
            if not props.get("forceDestroy") and not _is_empty(s3, id_):
                raise S3Error(
                    f"bucket {id_} holds data and is not deleted. To delete it with its data, "
                    "name it in overlord:backup.forceDestroy and run pulumi up first; to keep "
                    "it, take it out of the state with pulumi state delete."
                )
            _delete(s3, id_)
        except Exception as error:
            if error_code(error) not in _GONE:
                raise explain(error, f"bucket {id_}", props.get(_ACCOUNT, "")) from None

    def _client(self, props: Mapping[str, Any]) -> Any:
        return s3_client(props["endpoint"], props["region"], self.setting, props.get(_ACCOUNT, ""))

    @staticmethod
    def _make(s3: Any, name: str, props: Mapping[str, Any]) -> None:
        locked = bool(props["lockDays"])
        # Asked first: some regions answer the creation of one's own bucket as if it were new.
        if not _is_ours(s3, name):
            s3.create_bucket(
                Bucket=name,
                # B2 has one region an endpoint, and no location constraint for it.
                **({"ObjectLockEnabledForBucket": True} if locked else {}),
            )
            return
        owner, empty = _owner(s3, name), _is_empty(s3, name)
        if owner or not empty:
            _refuse_of_another(name, owner, props)
        if empty and locked and not _live(s3, name)["lockEnabled"]:
            # Only a new bucket can be given a lock, so it was made elsewhere.
            _delete(s3, name)
            s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)

    @staticmethod
    def _write(s3: Any, name: str, props: Mapping[str, Any], live: Mapping[str, Any]) -> None:
        differs = set(changed(_comparable(live), _comparable(props), _LIVE))
        if "versioning" in differs:
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        if "encryption" in differs:
            s3.put_bucket_encryption(
                Bucket=name,
                ServerSideEncryptionConfiguration={
                    "Rules": [
                        {
                            "ApplyServerSideEncryptionByDefault": {
                                "SSEAlgorithm": props["encryption"]
                            }
                        }
                    ]
                },
            )
        if "public" in differs:
            # B2 has no PutPublicAccessBlock; its access list is what makes a bucket private.
            s3.put_bucket_acl(Bucket=name, ACL="private")
        if differs & {"lockDays", "lockMode"} and (props["lockDays"] or live["lockEnabled"]):
            rule = {
                "Rule": {
                    "DefaultRetention": {
                        "Mode": str(props["lockMode"]).upper(),
                        "Days": int(props["lockDays"]),
                    }
                }
            }
            s3.put_object_lock_configuration(
                Bucket=name,
                ObjectLockConfiguration={
                    "ObjectLockEnabled": "Enabled",
                    **(rule if props["lockDays"] else {}),
                },
            )
        if "lifecycle" in differs:
            s3.put_bucket_lifecycle_configuration(
                Bucket=name,
                LifecycleConfiguration={"Rules": [_to_rule(rule) for rule in props["lifecycle"]]},
            )
        if "owner" in differs:
            body = str(props["owner"]).encode()
            lock = {
                "ObjectLockMode": "GOVERNANCE",
                "ObjectLockRetainUntilDate": datetime.now(UTC) + _OWNER_LOCK,
            }
            s3.put_object(
                Bucket=name,
                Key=OWNER_KEY,
                Body=body,
                ContentMD5=content_md5(body),
                ContentType="text/plain",
                **(lock if props["lockDays"] else {}),
            )


class S3Bucket(DynamicResource, name="S3Bucket"):
    """A private, versioned, encrypted bucket that belongs to this stack."""

    name: pulumi.Output[str]

    def __init__(
        self,
        resource_name: str,
        *,
        endpoint: str,
        region: str,
        name: str,
        lock_days: int,
        lock_mode: str,
        lifecycle: Sequence[LifecycleRule],
        adopt: bool,
        force_destroy: bool,
        account: str = "",
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            S3BucketProvider(),
            resource_name,
            {
                "endpoint": endpoint,
                "region": region,
                "name": name,
                "versioning": True,
                "encryption": "AES256",
                "public": False,
                "lockDays": lock_days,
                "lockMode": lock_mode if lock_days else "",
                "lifecycle": [rule.as_property() for rule in lifecycle],
                "owner": f"{pulumi.get_project()}/{pulumi.get_stack()}",
                "adopt": adopt,
                "forceDestroy": force_destroy,
                **({_ACCOUNT: account} if account else {}),
            },
            opts,
        )


def _kept(props: Mapping[str, Any]) -> dict[str, Any]:
    """Properties that no live bucket can tell."""
    return {name: props[name] for name in (*_IDENTITY, _ACCOUNT, *_SWITCHES) if name in props}


def _comparable(props: Mapping[str, Any]) -> dict[str, Any]:
    rules = props.get("lifecycle")
    if not isinstance(rules, list):
        return dict(props)
    return {
        **props,
        "lifecycle": sorted(
            (rule["prefix"], int(rule["expireDays"]), int(rule["hiddenDays"])) for rule in rules
        ),
    }


def _live(s3: Any, name: str) -> dict[str, Any]:
    """The live bucket's settings, in the shape of the properties."""
    lock = _or_empty(s3.get_object_lock_configuration, name).get("ObjectLockConfiguration", {})
    retention = lock.get("Rule", {}).get("DefaultRetention", {})
    days = int(retention.get("Days") or 365 * int(retention.get("Years") or 0))
    rules = (
        _or_empty(s3.get_bucket_encryption, name)
        .get("ServerSideEncryptionConfiguration", {})
        .get("Rules", [])
    )
    grants = s3.get_bucket_acl(Bucket=name).get("Grants", [])
    lifecycle = _or_empty(s3.get_bucket_lifecycle_configuration, name).get("Rules", [])
    return {
        "versioning": s3.get_bucket_versioning(Bucket=name).get("Status") == "Enabled",
        "encryption": next(
            (
                rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"]
                for rule in rules
                if "ApplyServerSideEncryptionByDefault" in rule
            ),
            "",
        ),
        "public": any(
            str(grant.get("Grantee", {}).get("URI", "")).startswith(_ALL_USERS) for grant in grants
        ),
        "lockEnabled": lock.get("ObjectLockEnabled") == "Enabled",
        "lockDays": days,
        "lockMode": str(retention.get("Mode", "")).lower(),
        "lifecycle": sorted(
            (_from_rule(rule) for rule in lifecycle if rule.get("Status") == "Enabled"),
            key=lambda rule: str(rule["prefix"]),
        ),
        "owner": _owner(s3, name),
    }


def _owner(s3: Any, name: str) -> str:
    """Project and stack that the bucket belongs to; empty where nothing says so."""
    try:
        return str(s3.get_object(Bucket=name, Key=OWNER_KEY)["Body"].read(1024).decode().strip())
    except Exception as error:
        if error_code(error) in _NO_OBJECT:
            return ""
        raise


def _refuse_of_another(name: str, owner: str, props: Mapping[str, Any]) -> None:
    """Raises S3Error for a bucket of another owner or of none that says so, unless adopted."""
    if props["adopt"] or owner == props["owner"]:
        return
    state = f"belongs to the stack {owner}" if owner else "holds data and does not say whose"
    raise S3Error(
        f"bucket {name} exists in this account and {state}. To take it over, set "
        "overlord:backup.adopt to true; else choose another "
        f"{prefix_setting(props.get(_ACCOUNT, ''))}."
    )


def _or_empty(call: Any, name: str) -> dict[str, Any]:
    try:
        return dict(call(Bucket=name))
    except Exception as error:
        if error_code(error) in _NOT_SET:
            return {}
        raise


def _to_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    prefix = rule["prefix"]
    return {
        "ID": f"overlord-{prefix.strip('/') or 'all'}",
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "NoncurrentVersionExpiration": {"NoncurrentDays": int(rule["hiddenDays"])},
        **({"Expiration": {"Days": int(rule["expireDays"])}} if rule["expireDays"] else {}),
    }


def _from_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "prefix": rule.get("Filter", {}).get("Prefix", rule.get("Prefix", "")),
        "expireDays": int(rule.get("Expiration", {}).get("Days", 0)),
        "hiddenDays": int(rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays", 0)),
    }


def _is_ours(s3: Any, name: str) -> bool:
    return any(bucket["Name"] == name for bucket in s3.list_buckets().get("Buckets", []))


def _versions(s3: Any, name: str) -> Iterator[dict[str, Any]]:
    """All that is in a bucket, hidden or not, as each version's Key and VersionId."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        yield from page.get("Versions", ())
        yield from page.get("DeleteMarkers", ())


def _is_empty(s3: Any, name: str) -> bool:
    """Whether there is nothing but the owner's mark."""
    return all(version["Key"] == OWNER_KEY for version in _versions(s3, name))


def _delete(s3: Any, name: str) -> None:
    """Delete a bucket and all that is in it."""
    # A key without the right to lift locks is refused where it only asks to.
    bypass = {"BypassGovernanceRetention": True} if _live(s3, name)["lockEnabled"] else {}
    for version in _versions(s3, name):
        try:
            s3.delete_object(
                Bucket=name, Key=version["Key"], VersionId=version["VersionId"], **bypass
            )
        except Exception as error:
            raise S3Error(
                f"bucket {name}: {version['Key']} cannot be deleted "
                f"({error_code(error) or type(error).__name__}): it is locked and the key may "
                "not lift the lock, or the lock is compliance. Wait until it ends, or take the "
                "bucket out of the state with pulumi state delete."
            ) from None
    s3.delete_bucket(Bucket=name)
