"""What the program asks vendors itself: leftovers, protection, the arbiter's record."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import responses

from components.cloudflare_api import MARK, CloudflareApi
from components.hetzner_api import HetznerApi
from components.leftovers import clear_hetzner_leftover
from components.public_record import PublicRecordProvider
from components.tailscale_api import TailscaleApi
from components.vendor_api import VendorError

HETZNER = "https://hetzner.example.com/v1"
CLOUDFLARE = "https://cloudflare.example.com/client/v4"
TAILSCALE = "https://tailscale.example.com"
RECORDS = f"{CLOUDFLARE}/zones/z/dns_records"


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def calls(http: responses.RequestsMock, method: str) -> list[str]:
    return [
        str(call.request.url).split("?")[0] for call in http.calls if call.request.method == method
    ]


def vendor() -> HetznerApi:
    return HetznerApi(HETZNER, "secret-token")


def primary_ip(**changes: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "name": "vps-01-ipv4",
        "labels": {"overlord-stack": "prod"},
        "created": datetime.now(UTC).isoformat(),
        "protection": {"delete": True},
        "assignee_id": None,
        **changes,
    }


def listed(http: responses.RequestsMock, *found: dict[str, Any]) -> None:
    http.get(f"{HETZNER}/primary_ips", json={"primary_ips": list(found), "meta": {}})
    http.post(
        f"{HETZNER}/primary_ips/7/actions/change_protection", json={"action": {"status": "success"}}
    )
    http.delete(f"{HETZNER}/primary_ips/7", status=204)


def test_what_an_interrupted_run_left_is_unprotected_and_removed(
    http: responses.RequestsMock,
) -> None:
    listed(http, primary_ip())
    clear_hetzner_leftover(vendor(), "primary_ips", "vps-01-ipv4", "prod")
    assert calls(http, "POST") == [f"{HETZNER}/primary_ips/7/actions/change_protection"]
    assert calls(http, "DELETE") == [f"{HETZNER}/primary_ips/7"]


def test_where_nothing_was_left_nothing_is_removed(http: responses.RequestsMock) -> None:
    listed(http)
    clear_hetzner_leftover(vendor(), "primary_ips", "vps-01-ipv4", "prod")
    assert calls(http, "DELETE") == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": {}}, "was not made by this stack"),
        ({"labels": {"overlord-stack": "other"}}, "was not made by this stack"),
        ({"assignee_id": 9}, "is in use"),
        (
            {"created": (datetime.now(UTC) - timedelta(days=3)).isoformat()},
            "is 3 days old. It is not removed",
        ),
    ],
)
def test_what_may_be_someones_is_never_removed_and_the_error_says_what_to_do(
    http: responses.RequestsMock, changes: dict[str, Any], reason: str
) -> None:
    listed(http, primary_ip(**changes))
    with pytest.raises(VendorError) as error:
        clear_hetzner_leftover(vendor(), "primary_ips", "vps-01-ipv4", "prod")
    assert reason in str(error.value)
    assert "vps-01-ipv4" in str(error.value)
    assert "pulumi import hcloud:index/primaryIp:PrimaryIp NAME 7" in str(error.value)
    assert calls(http, "DELETE") == []


def test_protection_of_something_that_is_gone_is_lifted_without_an_error(
    http: responses.RequestsMock,
) -> None:
    http.post(f"{HETZNER}/servers/1/actions/change_protection", status=404, json={})
    vendor().lift_protection("servers", 1)


def test_an_action_that_fails_says_why(http: responses.RequestsMock) -> None:
    http.delete(
        f"{HETZNER}/servers/1",
        json={"action": {"id": 5, "status": "error", "error": {"message": "host is down"}}},
    )
    with pytest.raises(VendorError, match="DELETE /servers/1 failed: host is down"):
        vendor().delete("servers", 1)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {}, "refused the token.*export HCLOUD_TOKEN"),
        (403, {}, "token may not GET /servers"),
        (
            422,
            {"error": {"code": "invalid_input", "message": "no such label"}},
            "422 .invalid_input: no such label.",
        ),
        (500, {}, "500"),
    ],
)
def test_a_refusal_names_the_call_and_the_remedy_and_never_the_token(
    http: responses.RequestsMock, status: int, body: dict[str, Any], says: str
) -> None:
    http.get(f"{HETZNER}/servers", status=status, json=body)
    with pytest.raises(VendorError, match=says) as error:
        vendor().servers("overlord-stack=prod")
    assert "secret-token" not in str(error.value)
    assert "secret-token" not in repr(vendor()._api)


def test_a_vendor_that_does_not_answer_is_named_with_its_address(
    http: responses.RequestsMock,
) -> None:
    with pytest.raises(VendorError, match=f"no answer from {HETZNER}.*hcloud:endpoint"):
        vendor().servers("overlord-stack=prod")


def test_every_page_of_a_list_is_read(http: responses.RequestsMock) -> None:
    for page, following in ((1, 2), (2, None)):
        http.get(
            f"{HETZNER}/server_types",
            match=[responses.matchers.query_param_matcher({"page": str(page), "per_page": "50"})],
            json={
                "server_types": [
                    {
                        "name": f"cpx{page}2",
                        "cores": 4,
                        "memory": 8.0,
                        "disk": 160,
                        "architecture": "x86",
                        "locations": [{"name": "fsn1", "available": page == 1}],
                    }
                ],
                "meta": {"pagination": {"next_page": following}},
            },
        )
    offers = vendor().offers("fsn1")
    assert offers["cpx12"].available
    assert not offers["cpx22"].available
    assert not vendor().offers("hel1")["cpx12"].offered


def record(**changes: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "name": "fleet.example.com",
        "type": "A",
        "content": "198.51.100.2",
        "proxied": True,
        **changes,
    }


RECORD_PROPS = {
    "endpoint": CLOUDFLARE,
    "zoneId": "z",
    "name": "fleet.example.com",
    "address": "198.51.100.1",
    "proxied": True,
}
PROVIDER = PublicRecordProvider()


def answer(result: Any) -> dict[str, Any]:
    return {"success": True, "result": result}


def test_the_public_record_is_made_once_on_the_primary(http: responses.RequestsMock) -> None:
    http.get(RECORDS, json=answer([]))
    http.post(
        RECORDS,
        json=answer(record(content="198.51.100.1")),
        match=[
            responses.matchers.json_params_matcher(
                {
                    "type": "A",
                    "name": "fleet.example.com",
                    "content": "198.51.100.1",
                    "ttl": 1,
                    "proxied": True,
                    "comment": MARK,
                }
            )
        ],
    )
    assert PROVIDER.create(dict(RECORD_PROPS)).id == "r1"


def test_a_record_that_is_there_is_kept_wherever_it_points(http: responses.RequestsMock) -> None:
    http.get(RECORDS, json=answer([record()]))
    assert PROVIDER.create(dict(RECORD_PROPS)).id == "r1"
    assert {call.request.method for call in http.calls} == {"GET"}


def test_after_a_failover_the_program_never_writes_the_address(
    http: responses.RequestsMock,
) -> None:
    http.get(f"{RECORDS}/r1", json=answer(record()))
    http.patch(
        f"{RECORDS}/r1",
        json=answer(record()),
        match=[responses.matchers.json_params_matcher({"proxied": True})],
    )
    outs = PROVIDER.read("r1", dict(RECORD_PROPS)).outs or {}
    assert not PROVIDER.diff("r1", outs, dict(RECORD_PROPS)).changes
    moved = {**RECORD_PROPS, "address": "198.51.100.9"}
    assert not PROVIDER.diff("r1", outs, moved).changes
    PROVIDER.update("r1", outs, moved)


def test_a_record_whose_proxy_was_switched_off_is_put_right(http: responses.RequestsMock) -> None:
    http.get(f"{RECORDS}/r1", json=answer(record(proxied=False)))
    outs = PROVIDER.read("r1", dict(RECORD_PROPS)).outs or {}
    diff = PROVIDER.diff("r1", outs, dict(RECORD_PROPS))
    assert diff.changes
    assert diff.replaces == []


def test_a_record_that_is_gone_is_seen(http: responses.RequestsMock) -> None:
    http.get(f"{RECORDS}/r1", status=404, json={"success": False, "errors": []})
    assert PROVIDER.read("r1", dict(RECORD_PROPS)).id is None


def test_lists_at_cloudflare_are_read_to_the_end(http: responses.RequestsMock) -> None:
    for page in (1, 2):
        http.get(
            f"{CLOUDFLARE}/things",
            match=[responses.matchers.query_param_matcher({"page": str(page), "per_page": "50"})],
            json={**answer([{"id": page}]), "result_info": {"total_pages": 2}},
        )
    assert [entry["id"] for entry in CloudflareApi(CLOUDFLARE, "t").list("/things", {})] == [1, 2]


def test_the_former_device_of_a_node_leaves_the_mesh_and_no_other_does(
    http: responses.RequestsMock,
) -> None:
    http.get(
        f"{TAILSCALE}/api/v2/tailnet/-/devices",
        json={
            "devices": [
                {"id": "1", "hostname": "vps-01", "tags": ["tag:overlord"]},
                {"id": "2", "hostname": "vps-02", "tags": ["tag:overlord"]},
                {"id": "3", "hostname": "vps-01", "tags": ["tag:device"]},
                {"id": "4", "hostname": "vps-01"},
            ]
        },
    )
    http.delete(f"{TAILSCALE}/api/v2/device/1", json={})
    TailscaleApi(TAILSCALE, "-", "t").remove_devices("vps-01")
    assert calls(http, "DELETE") == [f"{TAILSCALE}/api/v2/device/1"]


def test_only_a_key_with_exactly_this_description_is_revoked(http: responses.RequestsMock) -> None:
    http.get(
        f"{TAILSCALE}/api/v2/tailnet/-/keys",
        json={
            "keys": [
                {"id": "1", "description": "overlord prod vps-01 1"},
                {"id": "2", "description": "overlord prod vps-01 11"},
                {"id": "3"},
            ]
        },
    )
    http.delete(f"{TAILSCALE}/api/v2/tailnet/-/keys/1", json={})
    TailscaleApi(TAILSCALE, "-", "t").remove_keys("overlord prod vps-01 1")
    assert calls(http, "DELETE") == [f"{TAILSCALE}/api/v2/tailnet/-/keys/1"]
