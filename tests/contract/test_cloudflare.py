"""The emulated Cloudflare API, through the vendor's own client."""

from __future__ import annotations

import json
import secrets
import ssl
from typing import Any

import cloudflare
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.cloud.cloud import Setup
from tests.contract.conftest import ZONE, RunningCloud
from tests.contract.fakes import FakeDriver, FakeTailnet


def raw(cloud: RunningCloud, method: str, path: str, **kwargs: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {cloud.tokens.cloudflare}", **kwargs.pop("headers", {})}
    url = cloud.url("cloudflare", f"/client/v4{path}")
    return httpx.request(method, url, headers=headers, **kwargs)


def record(cloud: RunningCloud, **fields: Any) -> httpx.Response:
    given = {"type": "A", "name": f"fleet.{ZONE}", "content": "203.0.113.10", "ttl": 1, **fields}
    return raw(cloud, "POST", f"/zones/{cloud.setup.zone_id}/dns_records", json=given)


def errors(answer: httpx.Response) -> list[int]:
    assert answer.json()["success"] is False
    assert answer.json()["result"] is None
    return [error["code"] for error in answer.json()["errors"]]


def test_the_client_finds_the_zone_by_name(cloud: RunningCloud) -> None:
    client = cloud.cloudflare()
    zones = list(client.zones.list(name=ZONE))
    assert [(zone.id, zone.name) for zone in zones] == [(cloud.setup.zone_id, ZONE)]
    assert client.zones.get(zone_id=cloud.setup.zone_id).account.id == cloud.setup.account_id
    assert list(client.zones.list(name="example.com")) == []
    assert client.user.tokens.verify().status == "active"


def test_a_record_is_created_read_replaced_edited_and_deleted(cloud: RunningCloud) -> None:
    records, zone = cloud.cloudflare().dns.records, cloud.setup.zone_id
    made = records.create(
        zone_id=zone, type="A", name="vps-01", content="203.0.113.10", ttl=300, comment="primary"
    )
    assert (made.name, made.ttl, made.comment) == (f"vps-01.{ZONE}", 300, "primary")
    assert records.get(made.id, zone_id=zone).content == "203.0.113.10"

    replaced = records.update(
        made.id, zone_id=zone, type="A", name=f"vps-01.{ZONE}", content="203.0.113.11", ttl=1
    )
    assert (replaced.content, replaced.comment) == ("203.0.113.11", None)
    edited = records.edit(
        made.id, zone_id=zone, type="A", name=f"vps-01.{ZONE}", ttl=1, comment="moved"
    )
    assert (edited.content, edited.comment) == ("203.0.113.11", "moved")

    records.delete(made.id, zone_id=zone)
    with pytest.raises(cloudflare.NotFoundError) as error:
        records.get(made.id, zone_id=zone)
    assert error.value.errors[0].code == 81044


def test_records_are_listed_in_pages_and_by_name(cloud: RunningCloud) -> None:
    for number in range(5):
        record(cloud, name=f"vps-{number}", content=f"203.0.113.{number + 10}")
    client, zone = cloud.cloudflare(), cloud.setup.zone_id
    assert len(list(client.dns.records.list(zone_id=zone, per_page=2))) == 5
    found = list(client.dns.records.list(zone_id=zone, name={"exact": f"vps-3.{ZONE}"}))
    assert [r.content for r in found] == ["203.0.113.13"]
    info = raw(cloud, "GET", f"/zones/{zone}/dns_records?per_page=2&page=3").json()["result_info"]
    assert info == {"page": 3, "per_page": 2, "count": 1, "total_count": 5, "total_pages": 3}


def test_caa_is_given_as_data_and_comes_back_as_content(cloud: RunningCloud) -> None:
    data = {"flags": 0, "tag": "issue", "value": "letsencrypt.org"}
    made = record(cloud, type="CAA", name="@", content=None, data=data).json()["result"]
    assert made["content"] == '0 issue "letsencrypt.org"'
    assert made["data"] == data
    assert made["name"] == ZONE


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"content": "not an address"}, 9005),
        ({"type": "AAAA", "content": "203.0.113.10"}, 9006),
        ({"ttl": 30}, 9021),
        ({"type": "TXT", "content": "x", "proxied": True}, 9041),
        ({"name": "bad name"}, 9000),
        ({"type": "BALLOON"}, 9004),
        ({"type": "MX", "content": "mail.example.com"}, 9100),
        ({"comment": "x" * 101}, 9203),
    ],
)
def test_a_wrong_record_is_refused(cloud: RunningCloud, fields: dict[str, Any], code: int) -> None:
    answer = record(cloud, **fields)
    assert answer.status_code == 400
    assert errors(answer) == [code]


def test_a_record_cannot_exist_twice(cloud: RunningCloud) -> None:
    record(cloud).raise_for_status()
    assert errors(record(cloud)) == [81058]
    assert errors(record(cloud, proxied=True)) == [81057]
    assert errors(record(cloud, type="CNAME", content="example.com")) == [81053]
    record(cloud, content="203.0.113.11").raise_for_status()
    record(cloud, name="www", type="CNAME", content="example.com").raise_for_status()
    assert errors(record(cloud, name="www")) == [81054]


def test_a_proxied_record_has_the_automatic_ttl(cloud: RunningCloud) -> None:
    made = record(cloud, proxied=True, ttl=600).json()["result"]
    assert (made["ttl"], made["proxied"], made["proxiable"]) == (1, True, True)


def test_tokens_are_checked(cloud: RunningCloud) -> None:
    with pytest.raises(cloudflare.PermissionDeniedError) as error:
        list(cloud.cloudflare("wrong").zones.list())
    assert error.value.errors[0].code == 10000
    with pytest.raises(cloudflare.AuthenticationError):
        cloud.cloudflare("wrong").user.tokens.verify()
    answer = httpx.get(cloud.url("cloudflare", "/client/v4/zones"))
    assert (answer.status_code, errors(answer)) == (400, [6003])


def test_identifiers_of_others_and_of_nobody_are_refused(cloud: RunningCloud) -> None:
    foreign = raw(cloud, "GET", f"/zones/{secrets.token_hex(16)}/dns_records")
    assert (foreign.status_code, errors(foreign)) == (403, [10000])
    malformed = raw(cloud, "GET", "/zones/zone/dns_records")
    assert (malformed.status_code, errors(malformed)) == (404, [7003])
    assert errors(raw(cloud, "GET", "/balloons")) == [7003]


def test_zone_settings_have_defaults_and_take_valid_values_only(cloud: RunningCloud) -> None:
    client, zone = cloud.cloudflare(), cloud.setup.zone_id
    assert client.zones.settings.get("ssl", zone_id=zone).value == "full"
    client.zones.settings.edit("ssl", zone_id=zone, value="strict")
    assert client.zones.settings.get("ssl", zone_id=zone).value == "strict"
    wrong = raw(cloud, "PATCH", f"/zones/{zone}/settings/ssl", json={"value": "very"})
    assert (wrong.status_code, errors(wrong)) == (400, [1007])
    unknown = raw(cloud, "PATCH", f"/zones/{zone}/settings/colour", json={"value": "on"})
    assert errors(unknown) == [1006]


def _balancing(cloud: RunningCloud) -> tuple[Any, Any, Any]:
    client, account = cloud.cloudflare(), cloud.setup.account_id
    monitor = client.load_balancers.monitors.create(
        account_id=account,
        type="https",
        path="/leader",
        expected_codes="200",
        interval=60,
        timeout=5,
        retries=1,
        consecutive_down=2,
        consecutive_up=2,
        header={"Host": [f"fleet.{ZONE}"]},
    )
    pool = client.load_balancers.pools.create(
        account_id=account,
        name="primary",
        origins=[{"name": "vps-01", "address": "127.0.0.1"}],
        monitor=monitor.id,
    )
    balancer = client.load_balancers.create(
        zone_id=cloud.setup.zone_id,
        name=f"fleet.{ZONE}",
        default_pools=[pool.id],
        fallback_pool=pool.id,
        proxied=True,
        steering_policy="off",
    )
    return monitor, pool, balancer


def test_a_load_balancer_is_built_up_and_taken_down_in_order(cloud: RunningCloud) -> None:
    client, account, zone = cloud.cloudflare(), cloud.setup.account_id, cloud.setup.zone_id
    monitor, pool, balancer = _balancing(cloud)
    assert client.load_balancers.get(balancer.id, zone_id=zone).default_pools == [pool.id]
    assert client.load_balancers.monitors.get(monitor.id, account_id=account).path == "/leader"

    for path in (
        f"/accounts/{account}/load_balancers/monitors/{monitor.id}",
        f"/accounts/{account}/load_balancers/pools/{pool.id}",
    ):
        refused = raw(cloud, "DELETE", path)
        assert refused.status_code == 412
        assert "is referenced by" in refused.json()["errors"][0]["message"]
    client.load_balancers.delete(balancer.id, zone_id=zone)
    client.load_balancers.pools.delete(pool.id, account_id=account)
    client.load_balancers.monitors.delete(monitor.id, account_id=account)
    assert list(client.load_balancers.pools.list(account_id=account)) == []


def test_a_replaced_pool_keeps_its_id(cloud: RunningCloud) -> None:
    client, account = cloud.cloudflare(), cloud.setup.account_id
    _, pool, _ = _balancing(cloud)
    changed = client.load_balancers.pools.update(
        pool.id,
        account_id=account,
        name="renamed",
        origins=[{"name": "vps-02", "address": "127.0.0.2"}],
    )
    assert (changed.id, changed.name, changed.monitor) == (pool.id, "renamed", None)


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("monitors", {"type": "https", "interval": 10, "timeout": 5, "retries": 2}, "interval"),
        ("monitors", {"type": "ftp"}, "type"),
        ("pools", {"name": "p", "origins": []}, "origins"),
        ("pools", {"origins": [{"name": "a", "address": "127.0.0.1"}]}, "name"),
        (
            "pools",
            {"name": "p", "origins": [{"name": "a", "address": "127.0.0.1"}], "monitor": "x"},
            "monitor",
        ),
    ],
)
def test_wrong_monitors_and_pools_are_refused(
    cloud: RunningCloud, path: str, body: dict[str, Any], complaint: str
) -> None:
    url = f"/accounts/{cloud.setup.account_id}/load_balancers/{path}"
    answer = raw(cloud, "POST", url, json=body)
    assert (answer.status_code, errors(answer)) == (400, [1002])
    assert complaint in answer.json()["errors"][0]["message"]


def _ratelimit(**more: Any) -> dict[str, Any]:
    return {
        "action": "block",
        "expression": '(http.request.uri.path eq "/api/status")',
        "ratelimit": {
            "characteristics": ["ip.src", "cf.colo.id"],
            "period": 10,
            "requests_per_period": 100,
            "mitigation_timeout": 10,
            **more,
        },
    }


def test_a_ruleset_is_created_replaced_and_deleted(cloud: RunningCloud) -> None:
    url = f"/zones/{cloud.setup.zone_id}/rulesets"
    body = {"name": "rate", "kind": "zone", "phase": "http_ratelimit", "rules": [_ratelimit()]}
    made = raw(cloud, "POST", url, json=body).json()["result"]
    assert made["version"] == "1"
    assert made["rules"][0]["enabled"] is True
    assert raw(cloud, "POST", url, json=body).status_code == 400

    body["rules"] = [{**_ratelimit(), "description": "slower", "ref": made["rules"][0]["ref"]}]
    replaced = raw(cloud, "PUT", f"{url}/{made['id']}", json=body).json()["result"]
    assert (replaced["version"], replaced["rules"][0]["version"]) == ("2", "2")
    assert replaced["rules"][0]["id"] == made["rules"][0]["id"]
    client = cloud.cloudflare()
    entry = client.rulesets.phases.get("http_ratelimit", zone_id=cloud.setup.zone_id)
    assert entry.id == made["id"]
    client.rulesets.delete(made["id"], zone_id=cloud.setup.zone_id)
    gone = raw(cloud, "GET", f"{url}/{made['id']}")
    assert (gone.status_code, errors(gone)) == (404, [10003])


@pytest.mark.parametrize(
    ("phase", "rules"),
    [
        ("http_ratelimit", [_ratelimit(period=60)]),
        ("http_ratelimit", [_ratelimit(), _ratelimit()]),
        ("http_ratelimit", [{"action": "block", "expression": "true"}]),
        ("http_request_firewall_custom", [{"action": "block", "expression": "(ip.src eq"}]),
        ("http_request_firewall_custom", [{"action": "explode", "expression": "true"}]),
        ("http_balloons", []),
    ],
)
def test_rules_that_the_free_plan_or_the_parser_refuses(
    cloud: RunningCloud, phase: str, rules: list[dict[str, Any]]
) -> None:
    body = {"name": "x", "kind": "zone", "phase": phase, "rules": rules}
    answer = raw(cloud, "POST", f"/zones/{cloud.setup.zone_id}/rulesets", json=body)
    assert answer.status_code == 400


def _csr(*names: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_the_origin_ca_signs_for_names_of_the_zone(cloud: RunningCloud) -> None:
    client, name = cloud.cloudflare(), f"fleet.{ZONE}"
    made = client.origin_ca_certificates.create(
        csr=_csr(name), hostnames=[name], request_type="origin-ecc", requested_validity=5475
    )
    certificate = x509.load_pem_x509_certificate(made.certificate.encode())
    authority = x509.load_pem_x509_certificate((cloud.setup.ca_dir / "ca.pem").read_bytes())
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]
    assert client.origin_ca_certificates.get(made.id).hostnames == [name]
    client.origin_ca_certificates.delete(made.id)
    with pytest.raises(cloudflare.NotFoundError):
        client.origin_ca_certificates.get(made.id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostnames": ["example.com"]},
        {"hostnames": []},
        {"csr": "no certificate request"},
        {"requested_validity": 4},
        {"request_type": "origin-pq"},
    ],
)
def test_the_origin_ca_refuses_the_rest(cloud: RunningCloud, wrong: dict[str, Any]) -> None:
    name = f"fleet.{ZONE}"
    body = {"csr": _csr(name), "hostnames": [name], "request_type": "origin-ecc"}
    answer = raw(cloud, "POST", "/certificates", json={**body, "requested_validity": 90, **wrong})
    assert answer.status_code == 400


def test_the_edges_networks_are_public(cloud: RunningCloud) -> None:
    answer = httpx.get(cloud.url("cloudflare", "/client/v4/ips"))
    assert answer.json()["result"]["ipv4_cidrs"] == ["203.0.113.2/32"]


def test_a_worker_is_stored_as_the_provider_uploads_it(cloud: RunningCloud) -> None:
    script = f"/accounts/{cloud.setup.account_id}/workers/scripts/arbiter"
    service = f"/accounts/{cloud.setup.account_id}/workers/services/arbiter"
    assert raw(cloud, "GET", service).status_code == 404
    metadata = {
        "main_module": "arbiter.js",
        "compatibility_date": "2026-11-01",
        "bindings": [{"type": "secret_text", "name": "TOKEN", "text": "hidden"}],
        "migrations": {"new_tag": "v1", "new_sqlite_classes": ["Lease"]},
    }
    files = {
        "metadata": (None, json.dumps(metadata), "application/json"),
        "arbiter.js": ("arbiter.js", "export default {}", "application/javascript+module"),
    }
    made = raw(cloud, "PUT", script, files=files).json()["result"]
    assert (made["id"], made["migration_tag"]) == ("arbiter", "v1")
    assert raw(cloud, "GET", service).json()["result"]["id"] == "arbiter"
    settings = raw(cloud, "GET", f"{script}/settings")
    assert settings.json()["result"]["bindings"] == [{"type": "secret_text", "name": "TOKEN"}]
    assert raw(cloud, "GET", script).text == "export default {}"
    raw(cloud, "PUT", f"{script}/schedules", json=[{"cron": "* * * * *"}]).raise_for_status()
    schedules = raw(cloud, "GET", f"{script}/schedules").json()["result"]["schedules"]
    assert schedules[0]["cron"] == "* * * * *"
    raw(cloud, "DELETE", script).raise_for_status()
    assert raw(cloud, "GET", service).status_code == 404


def test_an_injected_failure_of_the_vendor_reaches_the_client(cloud: RunningCloud) -> None:
    fault = {"vendor": "cloudflare", "status": 502, "body": "bad gateway", "count": None}
    httpx.post(cloud.url("control", "/faults"), json=fault).raise_for_status()
    with pytest.raises(cloudflare.InternalServerError):
        cloud.cloudflare().user.tokens.verify()


def test_the_zone_survives_a_restart(
    cloud: RunningCloud, setup: Setup, driver: FakeDriver, tailnet: FakeTailnet
) -> None:
    made = record(cloud, proxied=True).json()["result"]
    _balancing(cloud)
    again = RunningCloud(setup, driver, tailnet)
    try:
        found = again.cloudflare().dns.records.get(made["id"], zone_id=setup.zone_id)
        assert found.content == "203.0.113.10"
        account = setup.account_id
        pools = list(again.cloudflare().load_balancers.pools.list(account_id=account))
        assert [pool.name for pool in pools] == ["primary"]
    finally:
        again.stop()


def test_the_cas_key_is_its_owners_alone(cloud: RunningCloud) -> None:
    assert (cloud.setup.ca_dir / "ca.key").stat().st_mode & 0o077 == 0
    ssl.create_default_context(cafile=cloud.ca)
