"""The emulated Tailscale API, asked as the vendor's provider asks."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sandbox.cloud.tailnet import TailnetNode
from sandbox.cloud.tailscale import hujson
from tests.contract.conftest import RunningCloud
from tests.contract.fakes import FakeTailnet

POLICY = """{
  // who owns which tag
  "tagOwners": {"tag:overlord": ["autogroup:admin"], "tag:device": ["tag:overlord"],},
  "acls": [
    {"action": "accept", "src": ["tag:device"], "dst": ["tag:overlord:8000,3100"]}, /* no more */
    {"action": "accept", "src": ["autogroup:admin"], "dst": ["*:*"]},
  ],
  "tests": [{"src": "tag:device", "accept": ["tag:overlord:8000"]}],
}
"""


def call(cloud: RunningCloud, method: str, path: str, **kwargs: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {cloud.tokens.tailscale}", **kwargs.pop("headers", {})}
    return httpx.request(
        method, cloud.url("tailscale", f"/api/v2{path}"), headers=headers, **kwargs
    )


def key_body(*tags: str, **more: Any) -> dict[str, Any]:
    create = {"reusable": False, "ephemeral": False, "preauthorized": True, "tags": list(tags)}
    body = {"capabilities": {"devices": {"create": create}}, "expirySeconds": 3600}
    return {**body, "description": "vps-01", **more}


@pytest.fixture
def with_policy(cloud: RunningCloud) -> RunningCloud:
    call(cloud, "POST", "/tailnet/-/acl", content=POLICY).raise_for_status()
    return cloud


def test_a_key_is_shown_once_and_ends_at_the_coordination_server(
    with_policy: RunningCloud, tailnet: FakeTailnet
) -> None:
    cloud = with_policy
    made = call(cloud, "POST", "/tailnet/-/keys", json=key_body("tag:overlord")).json()
    assert made["key"] == tailnet.keys[made["id"]]
    assert made["capabilities"]["devices"]["create"]["tags"] == ["tag:overlord"]
    again = call(cloud, "GET", f"/tailnet/-/keys/{made['id']}").json()
    assert "key" not in again
    assert again["expires"] == made["expires"]
    assert [k["id"] for k in call(cloud, "GET", "/tailnet/-/keys").json()["keys"]] == [made["id"]]
    assert call(cloud, "DELETE", f"/tailnet/-/keys/{made['id']}").status_code == 200
    assert tailnet.expired == [made["id"]]
    assert call(cloud, "GET", f"/tailnet/-/keys/{made['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (key_body("tag:unknown"), "tag:unknown"),
        (key_body(), "needs tags"),
        (key_body("tag:overlord", expirySeconds=91 * 24 * 3600), "expirySeconds"),
        (key_body("tag:overlord", description="vps_01!"), "description"),
        ({}, "capabilities"),
    ],
)
def test_a_wrong_key_is_refused(
    with_policy: RunningCloud, body: dict[str, Any], complaint: str
) -> None:
    answer = call(with_policy, "POST", "/tailnet/-/keys", json=body)
    assert answer.status_code == 400
    assert complaint in answer.json()["message"]


def test_the_policy_comes_back_as_posted_and_headscale_gets_what_it_knows(
    with_policy: RunningCloud, tailnet: FakeTailnet
) -> None:
    accept = {"Accept": "application/hujson"}
    assert call(with_policy, "GET", "/tailnet/-/acl", headers=accept).text == POLICY
    plain = call(with_policy, "GET", "/tailnet/-/acl").json()
    assert plain["acls"][0]["dst"] == ["tag:overlord:8000,3100"]
    enforced = hujson.loads(tailnet.policy)
    assert enforced["tagOwners"] == {"tag:overlord": [], "tag:device": ["tag:overlord"]}
    assert [rule["src"] for rule in enforced["acls"]] == [["tag:device"]]
    assert "tests" not in enforced


def test_a_policy_is_replaced_only_if_it_is_the_one_expected(cloud: RunningCloud) -> None:
    def post(tag: str) -> httpx.Response:
        return call(cloud, "POST", "/tailnet/-/acl", content=POLICY, headers={"If-Match": tag})

    assert post('"somebody elses"').status_code == 412
    first = post('"ts-default"')
    assert first.status_code == 200
    assert post('"ts-default"').status_code == 412
    etag = call(cloud, "GET", "/tailnet/-/acl").headers["ETag"]
    assert etag == first.headers["ETag"]
    assert post(etag).status_code == 200


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ("{", "parsing"),
        ("[]", "object"),
        ('{"balloons": []}', "balloons"),
        ('{"grants": []}', "not emulated"),
        ('{"acls": [{"action": "drop", "src": ["*"], "dst": ["*:*"]}]}', "accept"),
        ('{"acls": [{"action": "accept", "src": ["tag:x"], "dst": ["*:*"]}]}', "tag not found"),
        ('{"acls": [{"action": "accept", "src": ["*"], "dst": ["*"]}]}', "port"),
    ],
)
def test_a_wrong_policy_is_refused_and_leaves_the_old_one(
    with_policy: RunningCloud, policy: str, complaint: str
) -> None:
    validated = call(with_policy, "POST", "/tailnet/-/acl/validate", content=policy)
    assert validated.status_code == 200
    assert complaint in validated.json()["message"]
    answer = call(with_policy, "POST", "/tailnet/-/acl", content=policy)
    assert answer.status_code == 400
    assert complaint in answer.json()["message"]
    accept = {"Accept": "application/hujson"}
    assert call(with_policy, "GET", "/tailnet/-/acl", headers=accept).text == POLICY


def test_what_headscale_refuses_is_refused(cloud: RunningCloud, tailnet: FakeTailnet) -> None:
    tailnet.refuse_policy = "user not found"
    answer = call(cloud, "POST", "/tailnet/-/acl", content=POLICY)
    assert (answer.status_code, "user not found" in answer.json()["message"]) == (400, True)


def test_devices_are_listed_read_and_removed(cloud: RunningCloud, tailnet: FakeTailnet) -> None:
    tailnet.joined = [
        TailnetNode("7", "vps-01", ("100.64.0.1",), ("tag:overlord",), True, "", "", "tagged")
    ]
    listed = call(cloud, "GET", "/tailnet/-/devices").json()["devices"]
    assert (listed[0]["name"], listed[0]["addresses"]) == ("vps-01", ["100.64.0.1"])
    assert call(cloud, "GET", "/device/7").json()["tags"] == ["tag:overlord"]
    assert call(cloud, "DELETE", "/device/7").status_code == 200
    assert call(cloud, "GET", "/device/7").status_code == 404


def test_the_token_is_checked_in_both_forms(cloud: RunningCloud) -> None:
    url = cloud.url("tailscale", "/api/v2/tailnet/-/keys")
    assert httpx.get(url, auth=(cloud.tokens.tailscale, "")).status_code == 200
    answer = httpx.get(url, headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.json()) == (401, {"message": "API token invalid"})
    assert httpx.get(url).status_code == 401


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "b // no comment",}', {"a": "b // no comment"}),
        ('{"a": [1, 2,], /* c */ "d": ",]"}', {"a": [1, 2], "d": ",]"}),
        ('// first\n{"a": "\\"//"}', {"a": '"//'}),
        ('{"a": [1, // one\n]}', {"a": [1]}),
    ],
)
def test_hujson_is_json_with_comments_and_trailing_commas(text: str, value: object) -> None:
    assert hujson.loads(text) == value
