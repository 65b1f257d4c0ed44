"""Secrets that the program makes: strong, kept, replaced only when asked for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from components.generated import GeneratedSecretProvider
from components.secrets import age_warning

PROVIDER = GeneratedSecretProvider()


def made(kind: str, **changes: Any) -> dict[str, Any]:
    props = {"kind": kind, "version": 1, "hostnames": [], **changes}
    return PROVIDER.create(props).outs or {}


def test_a_password_has_forty_letters_and_digits_and_no_two_are_alike() -> None:
    values = {made("password")["value"] for _ in range(20)}
    assert len(values) == 20
    assert all(len(value) == 40 and value.isalnum() for value in values)


def test_a_login_password_comes_with_a_hash_that_opens_it() -> None:
    secret = made("loginPassword")
    assert secret["hash"].startswith("$2b$")
    assert bcrypt.checkpw(secret["value"].encode(), secret["hash"].encode())


def test_an_ssh_key_is_a_matching_pair_in_openssh_format() -> None:
    secret = made("sshKey")
    private = serialization.load_ssh_private_key(secret["value"].encode(), password=None)
    public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    assert public.decode() == secret["publicKey"]
    assert secret["publicKey"].startswith("ssh-ed25519 ")


def test_a_tls_key_signs_a_request_for_every_host_name() -> None:
    secret = made("tlsKey", hostnames=["fleet.example.com", "vps-01.example.com"])
    request = x509.load_pem_x509_csr(secret["csr"].encode())
    assert request.is_signature_valid
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fleet.example.com", "vps-01.example.com"]


def test_a_tls_pair_has_a_certificate_that_it_signed_itself_for_every_host_name() -> None:
    secret = made("tlsPair", hostnames=["vps-01", "vps-02"])
    certificate = x509.load_pem_x509_certificate(secret["certificate"].encode())
    certificate.verify_directly_issued_by(certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["vps-01", "vps-02"]
    key = serialization.load_pem_private_key(secret["value"].encode(), password=None)
    assert key.public_key() == certificate.public_key()


def test_a_renewed_token_leaves_the_one_before_it_good() -> None:
    old = made("token")
    assert old["previous"] == ""
    news = {"kind": "token", "version": 2, "hostnames": []}
    diff = PROVIDER.diff("x", old, news)
    assert diff.changes
    assert diff.replaces == []
    new = PROVIDER.update("x", old, news).outs or {}
    assert new["previous"] == old["value"]
    assert new["value"] != old["value"]
    assert not PROVIDER.diff("x", new, news).changes


def test_other_host_names_make_another_request_with_the_same_key() -> None:
    old = made("tlsKey", hostnames=["a.example.com"])
    news = {"kind": "tlsKey", "version": 1, "hostnames": ["b.example.com"]}
    diff = PROVIDER.diff("x", old, news)
    assert diff.changes
    assert diff.replaces == []
    new = PROVIDER.update("x", old, news).outs or {}
    assert new["value"] == old["value"]
    assert new["csr"] != old["csr"]


def test_a_raised_version_replaces_the_secret_and_nothing_else_does() -> None:
    old = made("password")
    same = {"kind": "password", "version": 1, "hostnames": []}
    assert not PROVIDER.diff("x", old, same).changes
    assert PROVIDER.diff("x", old, {**same, "version": 2}).replaces == ["version"]


@pytest.mark.parametrize(("days", "due"), [(0, False), (89, False), (90, True), (400, True)])
def test_a_secret_of_ninety_days_is_due_and_the_warning_says_how_to_replace_it(
    days: int, due: bool
) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    created = (now - timedelta(days=days)).isoformat()
    message = age_warning("api_operator_token", 3, created, now)
    assert (message is not None) == due
    if message:
        assert "secretVersions.api_operator_token' 4" in message
        assert f"{days} days old" in message
