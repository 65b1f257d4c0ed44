"""A certificate on disk, read and judged. Pure but for the reading."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization

Source = Literal["acme", "origin", "self-signed"]
"""acme: issued by a public authority. origin: Cloudflare's Origin CA, which its edge trusts.
self-signed: nobody trusts it; it only keeps nginx up."""

PREFERENCE: tuple[Source, ...] = ("acme", "origin", "self-signed")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key.

    Args:
        names: host names that it is for.
        ends: until when it is valid.
        key_fits: whether the key beside it is its own.
    """

    source: Source
    chain: bytes
    key: bytes
    names: frozenset[str]
    ends: datetime
    key_fits: bool

    def serves(self, name: str, now: datetime) -> bool:
        """Whether it can be shown for a name."""
        wildcard = f"*.{name.partition('.')[2]}"
        return self.key_fits and now < self.ends and bool({name, wildcard} & self.names)


def read_certificate(source: Source, chain: Path, key: Path) -> Certificate | None:
    """A certificate and its key; None where there is none that can be read."""
    try:
        chain_bytes, key_bytes = chain.read_bytes(), key.read_bytes()
        leaf = x509.load_pem_x509_certificate(chain_bytes)
        private = serialization.load_pem_private_key(key_bytes, password=None)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return None
    return Certificate(
        source=source,
        chain=chain_bytes,
        key=key_bytes,
        names=frozenset(names.get_values_for_type(x509.DNSName)),
        ends=end_of(leaf),
        key_fits=_public(leaf.public_key()) == _public(private.public_key()),
    )


def end_of(certificate: x509.Certificate) -> datetime:
    """Until when it is valid. Older versions of the library know only the naive time."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=UTC)


def choose(candidates: tuple[Certificate, ...], name: str, now: datetime) -> Certificate | None:
    """The best one that can be shown for the public name; None when none can."""
    usable = [one for one in candidates if one.serves(name, now)]
    return min(usable, key=lambda one: PREFERENCE.index(one.source), default=None)


def _public(key: object) -> bytes:
    assert hasattr(key, "public_bytes")
    raw: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return raw
