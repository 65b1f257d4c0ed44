"""The sandbox's certificate authority.

One CA, made once and kept in the cache, signs every certificate of the sandbox: the edge, S3, the
registry, and what the emulated Origin CA issues. Clients trust it as they would a public one.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_COMMON_NAME = "Overlord sandbox CA"
CA_DAYS = 3650
LEAF_DAYS = 397  # the longest that public authorities may issue for
CLOCK_SKEW = timedelta(minutes=5)


def ensure_ca(ca_dir: Path) -> Path:
    """Make the CA's key and certificate unless they exist; return the certificate's path.

    ``ca.pem`` is world readable, ``ca.key`` is mode 0600.
    """
    certificate_path, key_path = ca_dir / "ca.pem", ca_dir / "ca.key"
    if certificate_path.exists() and key_path.exists():
        return certificate_path
    ca_dir.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CA_COMMON_NAME)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _key_pem(key), 0o600)
    _write(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate_path


def issue(
    ca_dir: Path, names: Sequence[str], ips: Sequence[str] = (), days: int = LEAF_DAYS
) -> tuple[bytes, bytes]:
    """Make a key and a server certificate for DNS names and addresses.

    Returns (certificate PEM, key PEM). Wildcard names are accepted.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(ca_dir, key.public_key(), names, ips, days)
    return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def sign_request(
    ca_dir: Path, csr: x509.CertificateSigningRequest, names: Sequence[str], days: int
) -> x509.Certificate:
    """Sign a certificate request for the given DNS names, which need not be those in it."""
    return _sign(ca_dir, csr.public_key(), names, (), days)


def server_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Build a TLS server context from PEM bytes. The key touches the disk only as a 0600 file."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _sign(
    ca_dir: Path,
    public_key: CertificatePublicKeyTypes,
    names: Sequence[str],
    ips: Sequence[str],
    days: int,
) -> x509.Certificate:
    ca = x509.load_pem_x509_certificate((ca_dir / "ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((ca_dir / "ca.key").read_bytes(), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{ca_dir / 'ca.key'} is not an elliptic curve key; remove it to renew it")
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
    common_name = [*names, *ips][0]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        _builder(subject, ca.subject, public_key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(authority, critical=False)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
