"""Every secret that the program makes, its age, and the document that a node gets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pulumi

from components.generated import GeneratedSecret, Kind
from components.settings import NODES
from components.ssh_keys import DEPLOY_KEY, deploy_keys, host_key

ROTATION_AGE = timedelta(days=90)


def _arbiter_token(node: str) -> str:
    return f"arbiter_token_{node.replace('-', '_')}"


# The node gets its hash only.
_LOGIN = "admin_password"
_ARBITER_OPERATOR = "arbiter_operator_token"
_CIPHER = "backup_cipher_key"
_ROTATABLE: Mapping[str, Kind] = {
    "postgres_superuser_password": "password",
    "postgres_app_password": "password",
    "postgres_replication_password": "password",
    "postgres_tls_key": "tlsPair",
    "postgres_monitor_password": "password",
    "postgres_gitea_password": "password",
    "gitea_secret_key": "password",
    "api_enrol_token": "password",
    "api_operator_token": "password",
    "grafana_admin_password": "password",
    "postgres_openbao_password": "password",
    _LOGIN: "loginPassword",
    "origin_tls_key": "tlsKey",
    **{_arbiter_token(node): "token" for node in NODES},
    _ARBITER_OPERATOR: "token",
}
_OPENBAO_DATABASE = "postgres_openbao_password"
# Made once: OpenBao's data is sealed with the one, and it knows its administrator by the other
# until the password is changed there. Made even where OpenBao is off, so that switching it off
# for a while does not throw the key of its data away.
_OPENBAO_KEPT = ("openbao_seal_key", "openbao_admin_password")
# On every node. The others are of one node, of nobody but the operator, or of what is switched on.
_SHARED = tuple(
    name
    for name in _ROTATABLE
    if name not in (_LOGIN, _OPENBAO_DATABASE) and not name.startswith("arbiter_")
)
SECRET_NAMES = (*_ROTATABLE, DEPLOY_KEY)
"""Secrets that `overlord:secretVersions` replaces. A host key is replaced with its server."""


@dataclass(frozen=True)
class SecretsArgs:
    """What the secrets are made from.

    Args:
        generations: by node, of its server; each server has a host key of its own.
        hostnames: names in the origin certificate's request.
        versions: by secret; a raised number replaces it.
        protect: whether keys that data is encrypted with may not be deleted.
    """

    generations: Mapping[str, int]
    hostnames: Sequence[str]
    versions: Mapping[str, int]
    protect: bool


class Secrets(pulumi.ComponentResource):
    """Generated once, kept in the state as secrets, replaced only when asked for."""

    values: dict[str, pulumi.Output[str]]
    arbiter_tokens: dict[str, pulumi.Output[list[str]]]
    arbiter_operator_token: pulumi.Output[str]
    admin_password_hash: pulumi.Output[str]
    origin_csr: pulumi.Output[str]
    postgres_certificate: pulumi.Output[str]
    backup_cipher_key: pulumi.Output[str]
    deploy_key_number: int
    deploy_private_key: pulumi.Output[str]
    deploy_public_key: pulumi.Output[str]
    deploy_authorized_keys: pulumi.Output[str]
    host_private_keys: dict[str, pulumi.Output[str]]
    host_public_keys: dict[str, pulumi.Output[str]]

    def __init__(
        self, name: str, args: SecretsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:Secrets", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        # PostgreSQL's own certificate names the nodes as they call each other over the mesh.
        names = {"tlsKey": args.hostnames, "tlsPair": tuple(args.generations)}
        made = {
            secret: GeneratedSecret(
                f"{name}-{secret.replace('_', '-')}",
                kind=kind,
                version=args.versions.get(secret, 1),
                hostnames=names.get(kind, ()),
                opts=child,
            )
            for secret, kind in _ROTATABLE.items()
        }
        number = args.versions.get(DEPLOY_KEY, 1)
        deploy = deploy_keys(f"{name}-deploy-key", number, child)
        # Never replaced: what was written with one can be read with it alone.
        kept = {
            secret: GeneratedSecret(
                f"{name}-{secret.replace('_', '-')}",
                kind="password",
                version=1,
                opts=pulumi.ResourceOptions.merge(
                    child, pulumi.ResourceOptions(protect=args.protect)
                ),
            )
            for secret in (_CIPHER, *_OPENBAO_KEPT)
        }
        hosts = {
            node: host_key(f"{name}-host-key-{node}", generation, child)
            for node, generation in args.generations.items()
        }
        _warn_when_old(DEPLOY_KEY, number, deploy.following)
        for secret, resource in made.items():
            _warn_when_old(secret, args.versions.get(secret, 1), resource)
        self.values = {secret: resource.value for secret, resource in (made | kept).items()}
        self.arbiter_tokens = {
            node: pulumi.Output.all(
                made[_arbiter_token(node)].value, made[_arbiter_token(node)].previous
            ).apply(lambda tokens: [token for token in tokens if token])
            for node in args.generations
        }
        self.arbiter_operator_token = made[_ARBITER_OPERATOR].value
        self.admin_password_hash = made[_LOGIN].hash
        self.origin_csr = made["origin_tls_key"].csr
        self.postgres_certificate = made["postgres_tls_key"].certificate
        self.deploy_key_number = number
        self.deploy_private_key = deploy.current.value
        self.deploy_public_key = deploy.current.public_key
        self.deploy_authorized_keys = deploy.authorised
        self.backup_cipher_key = kept[_CIPHER].value
        self.host_private_keys = {node: key.value for node, key in hosts.items()}
        self.host_public_keys = {node: key.public_key for node, key in hosts.items()}
        self.register_outputs({"deployPublicKey": self.deploy_public_key})

    def document(
        self,
        node: str,
        *,
        origin_certificate: pulumi.Input[str],
        b2_key_id: pulumi.Input[str],
        b2_key: pulumi.Input[str],
        acme_dns_token: str | None,
        alert_secrets: Mapping[str, str],
        openbao: bool,
        second_b2_key: tuple[str, str] | None = None,
    ) -> pulumi.Output[str]:
        """The node's secrets document: JSON, sorted, the same text for the same secrets.
        `second_b2_key` is the id and the key of the second repository, where there is one."""
        second_names = ("second_b2_key_id", "second_b2_key")
        second = dict(zip(second_names, second_b2_key, strict=True)) if second_b2_key else {}
        switched_on = (_OPENBAO_DATABASE, *_OPENBAO_KEPT) if openbao else ()
        entries: dict[str, pulumi.Input[str]] = {
            **{name: self.values[name] for name in (*_SHARED, *switched_on)},
            "arbiter_token": self.values[_arbiter_token(node)],
            "admin_password_hash": self.admin_password_hash,
            "ssh_host_ed25519_key": self.host_private_keys[node],
            "deploy_authorized_keys": self.deploy_authorized_keys,
            "origin_tls_cert": origin_certificate,
            "postgres_tls_cert": self.postgres_certificate,
            _CIPHER: self.backup_cipher_key,
            "b2_key_id": b2_key_id,
            "b2_key": b2_key,
            **({"acme_dns_token": acme_dns_token} if acme_dns_token else {}),
            **second,
            **alert_secrets,
        }
        return pulumi.Output.secret(
            pulumi.Output.all(**entries).apply(lambda values: json.dumps(values, sort_keys=True))
        )


def age_warning(secret: str, version: int, created_at: str, now: datetime) -> str | None:
    """What to say about a secret that is due for rotation, or None."""
    age = now - datetime.fromisoformat(created_at)
    if age < ROTATION_AGE:
        return None
    return (
        f"{secret} is {age.days} days old. Replace it: "
        f"pulumi config set --path 'overlord:secretVersions.{secret}' {version + 1}"
    )


def _warn_when_old(secret: str, version: int, resource: GeneratedSecret) -> None:
    def warn(created_at: str) -> None:
        message = age_warning(secret, version, created_at, datetime.now(UTC))
        if message:
            pulumi.log.warn(message)

    resource.created_at.apply(warn)
