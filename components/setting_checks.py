"""Checks across settings and credentials: what is right by itself and wrong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from components.arbiter_settings import ARBITER_DNS_TOKEN, ArbiterSettings
from components.credentials import TOKENS
from components.setting_base import Token
from components.setting_problems import Problem, key_of
from components.settings import NODES, has_arbiter


def cross_checks(values: Mapping[str, Any]) -> list[Problem]:
    """Problems between settings.

    Args:
        values: those that are right by themselves, by field name.
    """
    problems: list[Problem] = []

    def add(name: str, wrong: str, right: str) -> None:
        problems.append(Problem(key_of(tuple(name.split("."))), wrong, right))

    locations = values.get("locations")
    if locations and locations[0] == locations[1]:
        add(
            "locations",
            f"both nodes would be in {locations[0]}; one fault there would take both",
            "two different Hetzner locations, such as [fsn1, hel1]",
        )
    domain, public_name = values.get("domain"), values.get("public_name")
    if domain and public_name:
        if not public_name.endswith(f".{domain}"):
            add(
                "publicName",
                f"{public_name} is not inside overlord:domain ({domain})",
                f"a name below the zone, such as fleet.{domain}, or another overlord:domain",
            )
        elif public_name in {f"{node}.{domain}" for node in NODES}:
            add(
                "publicName",
                f"{public_name} is the name of a node",
                f"a name of its own, such as fleet.{domain}",
            )
    if values.get("steering") == "loadBalancer" and values.get("account_id", "") is None:
        add(
            "accountId",
            "overlord:steering is loadBalancer, whose pools belong to an account",
            "the account's id, or overlord:steering set to worker",
        )
    alerts = values.get("alerts")
    if alerts and alerts.email and alerts.email.username and not alerts.email.require_tls:
        add(
            "alerts.email.requireTls",
            "the login at the mail server would travel unencrypted",
            "true, or no overlord:alerts.email.username",
        )
    backup = values.get("backup")
    if backup and backup.database_retention_days < backup.object_lock_days:
        add(
            "backup.databaseRetentionDays",
            f"{backup.database_retention_days} days end before the lock of "
            f"{backup.object_lock_days} days (backup.objectLockDays) lets anything go",
            "at least as many days as the lock, or a shorter lock",
        )
    if backup and (unknown := set(backup.force_destroy) - set(backup.bucket_names)):
        add(
            "backup.forceDestroy",
            f"no bucket of this pair: {', '.join(sorted(unknown))}",
            f"names of buckets to delete with their data: {', '.join(backup.bucket_names)}",
        )
    if backup and backup.second:
        if backup.second.region == backup.region:
            add(
                "backup.second.region",
                f"{backup.region} is the region of the first repository; one fault there "
                "would take both",
                "another region, at an account of its own",
            )
        if backup.second.bucket_prefix == backup.bucket_prefix:
            add(
                "backup.second.bucketPrefix",
                f"{backup.bucket_prefix} names the first repository's bucket, and names of "
                "buckets are shared with the whole world",
                f"another one, such as {backup.bucket_prefix[:44]}-second",
            )
    if values.get("under_attack") and values.get("manage_zone") is False:
        add(
            "underAttack",
            "overlord:manageZone is false, so the program does not touch the zone's settings",
            "false, or overlord:manageZone set to true",
        )
    if values.get("registry", "") is None and values.get("own_registry", "") is None:
        add(
            "ownRegistry",
            "no registry holds the images built from this repository",
            "registry with those images, as host/path, or overlord:registry with a mirror of all",
        )
    versions = values.get("secret_versions")
    if versions:
        # Imported here: the list of secrets is the secrets module's business.
        from components.secrets import SECRET_NAMES

        problems += [
            Problem(
                key_of(("secretVersions", name)),
                "there is no such secret",
                f"one of {', '.join(SECRET_NAMES)}",
            )
            for name in versions
            if name not in SECRET_NAMES
        ]
    return problems


def arbiter_mistakes(
    values: Mapping[str, Any], tokens: Mapping[str, str | None]
) -> Iterator[Problem]:
    """Problems of the arbiter: what it needs beside its own settings."""
    arbiter, steering = values.get("arbiter"), values.get("steering")
    if not isinstance(arbiter, ArbiterSettings) or not isinstance(steering, str):
        return
    domain, name = values.get("domain"), values.get("public_name")
    if not has_arbiter(arbiter, steering):
        return
    ways_out = "overlord:arbiter.enabled set to false (then nobody promotes a node by itself)"
    if values.get("account_id", "") is None:
        yield Problem(
            key_of(("accountId",)),
            "there is an arbiter, whose Worker belongs to an account",
            f"the account's id, or {ways_out}",
        )
    if name is not None and name == f"witness.{domain}":
        yield Problem(
            key_of(("publicName",)),
            f"{name} is the name of the arbiter",
            f"a name of its own, such as fleet.{domain}",
        )
    if steering == "worker" and not tokens.get(ARBITER_DNS_TOKEN.variable):
        yield Problem(
            ARBITER_DNS_TOKEN.key,
            f"missing: {ARBITER_DNS_TOKEN.purpose}",
            f"{ARBITER_DNS_TOKEN.remedy}, or {ways_out}",
        )


def missing_tokens(
    tokens: Mapping[str, str | None], needed: Iterable[Token] = TOKENS
) -> list[Problem]:
    """A problem for each credential that is neither configured nor in the environment."""
    return [
        Problem(token.key, f"missing: {token.purpose}", token.remedy)
        for token in needed
        if not tokens.get(token.variable)
    ]
