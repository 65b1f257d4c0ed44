"""Secrets and key pairs that the program makes once and keeps in the state, as dynamic resources.

Nothing outside the state is created, so a run that is killed simply makes another one.
"""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, UpdateResult
from pulumi.dynamic import Resource as DynamicResource

from components.dynamic import ConfiguredProvider, changed, replace_on

Kind = Literal["password", "loginPassword", "token", "sshKey", "tlsKey", "tlsPair"]
# Only the pair itself trusts the certificate of a tlsPair; a raised version renews it.
PAIR_VALIDITY = timedelta(days=5475)
# bcrypt reads no more than 72 bytes; 40 of 62 letters and digits are 238 bits.
PASSWORD_LENGTH = 40
_ALPHABET = string.ascii_letters + string.digits


class GeneratedSecretProvider(ConfiguredProvider):
    """Makes one secret of a kind."""

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """A raised version replaces the secret; other host names only change the request.

        A token is not replaced but renewed, since the one before must stay good for a while.
        """
        replaces = changed(olds, news, ("kind", "version"))
        updates = changed(olds, news, ("hostnames",))
        if news["kind"] == "token" and replaces == ["version"]:
            return replace_on([], replaces)
        return replace_on(replaces, updates)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make the secret."""
        outs: dict[str, Any] = {
            "kind": props["kind"],
            "version": props["version"],
            "hostnames": props["hostnames"],
            "createdAt": _now(),
            "value": "",
            "previous": "",
            "hash": "",
            "publicKey": "",
            "csr": "",
            "certificate": "",
        }
        if props["kind"] == "sshKey":
            outs["value"], outs["publicKey"] = _ssh_key()
        elif props["kind"] == "tlsKey":
            outs["value"] = _tls_key()
            outs["csr"] = _csr(outs["value"], props["hostnames"])
        elif props["kind"] == "tlsPair":
            outs["value"] = _tls_key()
            outs["certificate"] = _certificate(outs["value"], props["hostnames"])
        else:
            outs["value"] = _password()
            if props["kind"] == "loginPassword":
                outs["hash"] = _password_hash(outs["value"])
        return CreateResult(uuid.uuid4().hex, outs)

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Other host names with the same key, or another token beside the old one."""
        outs = {name: value for name, value in olds.items() if name != "__provider"}
        if outs["kind"] == "token":
            outs["previous"], outs["value"] = outs["value"], _password()
            outs["version"], outs["createdAt"] = news["version"], _now()
            return UpdateResult(outs)
        outs["hostnames"] = news["hostnames"]
        if outs["kind"] == "tlsPair":
            outs["certificate"] = _certificate(outs["value"], news["hostnames"])
        else:
            outs["csr"] = _csr(outs["value"], news["hostnames"])
        return UpdateResult(outs)


class GeneratedSecret(DynamicResource, name="GeneratedSecret"):
    """A password, a login password with its hash, a token with the one before it, an SSH key pair,
    a TLS key with a request, or a TLS key with a certificate that it has signed itself.

    Args:
        kind: what to make.
        version: a raised number replaces it.
        hostnames: names in the request of a tlsKey and in the certificate of a tlsPair.
    """

    value: pulumi.Output[str]
    previous: pulumi.Output[str]
    hash: pulumi.Output[str]
    public_key: pulumi.Output[str]
    csr: pulumi.Output[str]
    certificate: pulumi.Output[str]
    created_at: pulumi.Output[str]

    def __init__(
        self,
        resource_name: str,
        *,
        kind: Kind,
        version: int,
        hostnames: Sequence[str] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            GeneratedSecretProvider(),
            resource_name,
            {
                "kind": kind,
                "version": version,
                "hostnames": list(hostnames),
                "value": None,
                "previous": None,
                "hash": None,
                "public_key": None,
                "csr": None,
                "certificate": None,
                "created_at": None,
            },
            pulumi.ResourceOptions.merge(
                opts,
                pulumi.ResourceOptions(additional_secret_outputs=["value", "previous", "hash"]),
            ),
        )

    def translate_input_property(self, prop: str) -> str:
        """Names as the provider knows them."""
        return {"public_key": "publicKey", "created_at": "createdAt"}.get(prop, prop)

    def translate_output_property(self, prop: str) -> str:
        """Names as the program knows them."""
        return {"publicKey": "public_key", "createdAt": "created_at"}.get(prop, prop)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _password() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(PASSWORD_LENGTH))


def _ssh_key() -> tuple[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), public.decode()


def _tls_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _csr(private_key: str, hostnames: Sequence[str]) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = serialization.load_pem_private_key(private_key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostnames[0])]))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in hostnames]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _certificate(private_key: str, hostnames: Sequence[str]) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = serialization.load_pem_private_key(private_key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostnames[0])])
    # A node's clock may be a little behind at its first boot.
    start = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + PAIR_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in hostnames]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _password_hash(password: str) -> str:
    import bcrypt

    # The login programs of Ubuntu 24.04 and Debian 12 read bcrypt hashes in /etc/shadow.
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=12)).decode()
