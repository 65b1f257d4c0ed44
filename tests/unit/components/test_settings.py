"""Every mistake in the configuration is reported at once, by key, with a remedy."""

import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from components.arbiter_settings import ARBITER_DNS_TOKEN
from components.configuration import parse_settings
from components.credentials import SECOND_TOKENS, TOKENS
from components.setting_base import Token
from components.setting_problems import SettingsError
from components.settings import Settings

ALL_TOKENS: dict[str, str | None] = {
    token.variable: "set" for token in (*TOKENS, ARBITER_DNS_TOKEN)
}


def good() -> dict[str, Any]:
    return {
        "environment": "prod",
        "domain": "example.com",
        "zoneId": "a" * 32,
        "accountId": "b" * 32,
        "publicName": "fleet.example.com",
        "locations": ["fsn1", "hel1"],
        "adminCidrs": ["198.51.100.7/32"],
        "ownRegistry": "registry.example.com/overlord",
        "backup": {
            "endpoint": "https://s3.eu-central-003.backblazeb2.com",
            "region": "eu-central-003",
            "bucketPrefix": "example-overlord",
        },
    }


def problems_of(changes: dict[str, Any]) -> dict[str, tuple[str, str]]:
    with pytest.raises(SettingsError) as error:
        parse_settings({**good(), **changes}, ALL_TOKENS)
    text = str(error.value)
    for problem in error.value.problems:
        assert problem.key in text
        assert problem.wrong in text
        assert problem.right in text
    return {problem.key: (problem.wrong, problem.right) for problem in error.value.problems}


def rsa_key(bits: int) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_a_minimal_configuration_is_enough_and_has_safe_defaults() -> None:
    settings = parse_settings(good(), ALL_TOKENS)
    assert settings.protect
    assert settings.web_sources == "cloudflare"
    assert settings.steering == "worker"
    assert not settings.backup.force_destroy
    assert settings.backup.object_lock_days <= settings.backup.database_retention_days


@pytest.mark.parametrize(
    ("changes", "key", "wrong", "right"),
    [
        ({"locations": ["fsn1", "fsn1"]}, "locations", "both nodes would be in fsn1", "two diff"),
        ({"locations": ["fsn1"]}, "locations[1]", "not set", "two different"),
        ({"locations": ["fsn1-dc14", "hel1"]}, "locations[0]", "data centre", "two different"),
        ({"adminCidrs": ["0.0.0.0/0"]}, "adminCidrs[0]", "whole internet", "as narrow"),
        ({"adminCidrs": ["::/0"]}, "adminCidrs[0]", "whole internet", "as narrow"),
        ({"adminCidrs": ["10.0.0.0/4"]}, "adminCidrs[0]", "no network", "as narrow"),
        ({"adminCidrs": ["16.0.0.0/4"]}, "adminCidrs[0]", "268,435,456 addresses", "as narrow"),
        ({"adminCidrs": ["198.51.100.7/24"]}, "adminCidrs[0]", "host bits", "as narrow"),
        ({"adminCidrs": []}, "adminCidrs", "at least 1", "as narrow"),
        ({"fleetSize": 73}, "fleetSize", "no size for 73", "50, 100, 250, 500"),
        ({"fleetSize": "many"}, "fleetSize", "valid integer", "50, 100, 250, 500"),
        ({"steering": "dns"}, "steering", "'dns'", "loadBalancer"),
        ({"webSources": "all"}, "webSources", "'all'", "cloudflare"),
        ({"rebuild": "vps-03"}, "rebuild", "'vps-03'", "vps-01, vps-02"),
        ({"environment": "My Pair"}, "environment", "no plain name", "such as prod"),
        ({"domain": "exa_mple.com"}, "domain", "no host name", "such as example.com"),
        ({"publicName": "fleet.example.org"}, "publicName", "not inside", "fleet.example.com"),
        ({"publicName": "vps-01.example.com"}, "publicName", "name of a node", "fleet.example"),
        ({"publicPort": 70000}, "publicPort", "65535", "443"),
        ({"zoneId": "example"}, "zoneId", "32 hexadecimal", "overview page"),
        ({"image": "windows-11"}, "image", "no image", "ubuntu-24.04"),
        ({"serverTypes": ["BIG"]}, "serverTypes[0]", "server type", "cpx32"),
        ({"adminUser": "root"}, "adminUser", "taken", "Linux user name"),
        ({"adminSshKeys": ["ssh-ed25519 AAAA"]}, "adminSshKeys[0]", "damaged", "public keys"),
        ({"adminSshKeys": ["ssh-dss AAAA x"]}, "adminSshKeys[0]", "not accepted", "ssh-ed25519"),
        ({"adminSshKeys": ["hello"]}, "adminSshKeys[0]", "no SSH public key", "ssh-ed25519"),
        (
            {"adminSshKeys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]},
            "adminSshKeys[0]",
            "private key",
            "public keys",
        ),
        ({"steering": "loadBalancer", "accountId": None}, "accountId", "belong to an", "worker"),
        ({"accountId": None}, "accountId", "Worker belongs to", "arbiter.enabled"),
        ({"publicName": "witness.example.com"}, "publicName", "of the arbiter", "fleet.ex"),
        ({"arbiter": {"leaseSeconds": 5}}, "arbiter.leaseSeconds", "or equal to 10", "10 to 60"),
        ({"arbiter": {"url": "http://w.example.com"}}, "arbiter.url", "unencrypted", "https"),
        ({"ownRegistry": None}, "ownRegistry", "no registry", "overlord:registry"),
        ({"registry": "https://r.example.com"}, "registry", "no registry", "without"),
        ({"underAttack": True, "manageZone": False}, "underAttack", "manageZone", "true"),
        ({"ntpServers": ["a.example.com"]}, "ntpServers", "at least 2", "two time servers"),
        ({"prices": {"cpx32": -1}}, "prices.cpx32", "greater than or equal", "EUR"),
        ({"secretVersions": {"nonsense": 2}}, "secretVersions.nonsense", "no such", "admin_pass"),
        ({"adminCidr": ["x"]}, "adminCidr", "no such setting", "did you mean adminCidrs?"),
        ({"zebra": 1}, "zebra", "no such setting", "Pulumi.yaml"),
        (
            {"backup": {**good()["backup"], "forceDestroy": ["somebody-elses"]}},
            "backup.forceDestroy",
            "no bucket of this pair: somebody-elses",
            "example-overlord-data, ",
        ),
    ],
)
def test_a_mistake_is_named_by_its_key_with_what_is_wrong_and_what_is_right(
    changes: dict[str, Any], key: str, wrong: str, right: str
) -> None:
    found = problems_of(changes)
    assert list(found) == [f"overlord:{key}"]
    assert wrong in found[f"overlord:{key}"][0]
    assert right in found[f"overlord:{key}"][1]


@pytest.mark.parametrize(
    ("changes", "key", "wrong"),
    [
        ({"endpoint": "http://s3.example.com"}, "endpoint", "unencrypted"),
        ({"endpoint": "ftp://s3.example.com"}, "endpoint", "no http or https"),
        ({"endpoint": "https://me:it@s3.example.com"}, "endpoint", "credentials"),
        ({"bucketPrefix": "b2-mine"}, "bucketPrefix", "cannot begin"),
        ({"bucketPrefix": "UPPER"}, "bucketPrefix", "cannot begin"),
        ({"region": "Frankfurt!"}, "region", "pattern"),
        ({"objectLockDays": 0}, "objectLockDays", "greater than or equal to 1"),
        ({"logRetentionDays": 29}, "logRetentionDays", "greater than or equal to 30"),
        ({"objectLockDays": 31}, "databaseRetentionDays", "end before the lock"),
        ({"objectLockMode": "strong"}, "objectLockMode", "governance"),
        ({"lockDays": 3}, "lockDays", "no such setting"),
    ],
)
def test_a_mistake_in_the_backup_settings_is_named_by_its_path(
    changes: dict[str, Any], key: str, wrong: str
) -> None:
    found = problems_of({"backup": {**good()["backup"], **changes}})
    assert list(found) == [f"overlord:backup.{key}"]
    assert wrong in found[f"overlord:backup.{key}"][0]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("hetznerEndpoint", "hcloud:endpoint"),
        ("cloudflareEndpoint", "cloudflare:baseUrl"),
        ("tailscaleEndpoint", "tailscale:baseUrl"),
    ],
)
def test_tokens_are_sent_over_http_to_this_machine_only(name: str, key: str) -> None:
    assert parse_settings({**good(), name: "http://127.0.0.1:8801"}, ALL_TOKENS)
    assert parse_settings({**good(), name: "http://[::1]:8801"}, ALL_TOKENS)
    found = problems_of({name: "http://api.example.com"})
    assert "unencrypted" in found[key][0]


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://headscale.example.com", True),
        ("http://10.0.0.5:8080", True),
        ("http://headscale.example.com", False),
        ("http://8.8.8.8", False),
    ],
)
def test_a_login_server_across_the_internet_needs_https(url: str, fine: bool) -> None:
    changes = {"tailnet": {"loginServer": url}}
    if fine:
        assert parse_settings({**good(), **changes}, ALL_TOKENS)
    else:
        assert "across the internet" in problems_of(changes)["overlord:tailnet.loginServer"][0]


def test_every_mistake_is_reported_at_once_cross_checks_too() -> None:
    found = problems_of(
        {
            "locations": ["fsn1", "fsn1"],
            "adminCidrs": ["0.0.0.0/0", "::/0"],
            "publicName": "elsewhere.org",
            "zoneId": "x",
            "backup": {"objectLockDays": 0},
        }
    )
    assert set(found) == {
        "overlord:locations",
        "overlord:adminCidrs[0]",
        "overlord:adminCidrs[1]",
        "overlord:publicName",
        "overlord:zoneId",
        "overlord:backup.endpoint",
        "overlord:backup.region",
        "overlord:backup.bucketPrefix",
        "overlord:backup.objectLockDays",
    }


@pytest.mark.parametrize("token", [*TOKENS, ARBITER_DNS_TOKEN], ids=lambda token: token.variable)
def test_a_missing_token_is_named_with_both_ways_to_set_it(token: Any) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(good(), {**ALL_TOKENS, token.variable: ""})
    (problem,) = error.value.problems
    assert problem.key == token.key
    assert f"export {token.variable}" in problem.right
    assert f"pulumi config set --secret {token.key}" in problem.right


def test_an_rsa_key_of_2048_bits_is_too_short_and_one_of_3072_is_fine() -> None:
    assert (
        "too short" in problems_of({"adminSshKeys": [rsa_key(2048)]})["overlord:adminSshKeys[0]"][0]
    )
    assert parse_settings({**good(), "adminSshKeys": [rsa_key(3072)]}, ALL_TOKENS)


def test_a_dsa_key_is_refused() -> None:
    key = dsa.generate_private_key(key_size=1024).public_key()
    text = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert "not accepted" in problems_of({"adminSshKeys": [text]})["overlord:adminSshKeys[0]"][0]


def test_a_private_key_is_never_repeated_in_the_message() -> None:
    body = "b3BlbnNzaC1rZXktdjEAAAAA"
    found = problems_of({"adminSshKeys": [f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}"]})
    assert body not in str(found)


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = parse_settings(good(), ALL_TOKENS)
    with pytest.raises(ValueError, match="frozen"):
        settings.rebuild = "vps-01"


def test_every_setting_says_what_would_be_right() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert not re.search(r"\btodo\b", field.description, re.IGNORECASE)


def test_there_is_an_arbiter_where_it_steers_and_otherwise_when_asked_for() -> None:
    def enabled(**changes: Any) -> bool:
        return parse_settings({**good(), **changes}, ALL_TOKENS).arbiter_enabled

    assert enabled(steering="worker")
    assert not enabled(steering="worker", arbiter={"enabled": False})
    assert not enabled(steering="loadBalancer")
    assert enabled(steering="loadBalancer", arbiter={"enabled": True})


def test_the_arbiters_token_is_needed_only_where_it_writes_the_record() -> None:
    tokens = {**ALL_TOKENS, ARBITER_DNS_TOKEN.variable: None}
    without = {**good(), "arbiter": {"enabled": False}}
    assert parse_settings(without, tokens)
    balanced = {**good(), "steering": "loadBalancer", "arbiter": {"enabled": True}}
    assert parse_settings(balanced, tokens)


SECOND = {
    "endpoint": "https://s3.us-west-004.backblazeb2.com",
    "region": "us-west-004",
    "bucketPrefix": "example-overlord-second",
}
WITH_SECOND = {"backup": {**good()["backup"], "second": SECOND}}


def test_there_is_no_second_repository_unless_it_is_asked_for() -> None:
    assert parse_settings(good(), ALL_TOKENS).backup.second is None
    nothing = {"backup": {**good()["backup"], "second": {}}}
    assert parse_settings({**good(), **nothing}, ALL_TOKENS).backup.second is None
    tokens = {**ALL_TOKENS, **{token.variable: "set" for token in SECOND_TOKENS}}
    second = parse_settings({**good(), **WITH_SECOND}, tokens).backup.second
    assert second is not None
    assert second.region == "us-west-004"


@pytest.mark.parametrize("missing", SECOND_TOKENS, ids=lambda token: str(token.variable))
def test_a_second_repository_needs_keys_of_its_own(missing: Token) -> None:
    given = {token.variable: "set" for token in SECOND_TOKENS if token != missing}
    with pytest.raises(SettingsError) as error:
        parse_settings({**good(), **WITH_SECOND}, {**ALL_TOKENS, **given})
    (problem,) = error.value.problems
    assert missing.variable in problem.right
    assert "second repository" in problem.wrong


@pytest.mark.parametrize(
    ("changes", "key", "wrong"),
    [
        ({"region": "eu-central-003"}, "region", "one fault there would take both"),
        ({"bucketPrefix": "example-overlord"}, "bucketPrefix", "names the first repository"),
        ({"endpoint": "http://s3.example.com"}, "endpoint", "unencrypted"),
        ({"adopt": True}, "adopt", "no such setting"),
    ],
)
def test_a_mistake_in_the_second_repository_is_named_by_its_path(
    changes: dict[str, Any], key: str, wrong: str
) -> None:
    tokens = {**ALL_TOKENS, **{token.variable: "set" for token in SECOND_TOKENS}}
    backup = {**good()["backup"], "second": {**SECOND, **changes}}
    with pytest.raises(SettingsError) as error:
        parse_settings({**good(), "backup": backup}, tokens)
    (problem,) = error.value.problems
    assert problem.key == f"overlord:backup.second.{key}"
    assert wrong in problem.wrong
