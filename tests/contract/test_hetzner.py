"""The emulated Hetzner API, through the vendor's own client."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hcloud import APIException
from hcloud.actions.domain import ActionFailedException
from hcloud.firewalls import FirewallResource, FirewallRule
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType
from hcloud.servers import ServerCreatePublicNetwork

from sandbox.cloud.cloud import Setup
from sandbox.machines import driver as machines
from tests.contract.conftest import RunningCloud
from tests.contract.fakes import FakeDriver, FakeTailnet


def public_key() -> str:
    key = Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def create(cloud: RunningCloud, name: str = "vps-01", **options: Any) -> Any:
    answer = cloud.hetzner().servers.create(
        name=name,
        server_type=ServerType(name=str(options.pop("server_type", "cx23"))),
        image=Image(name=str(options.pop("image", "debian-12"))),
        location=Location(name=str(options.pop("location", "nbg1"))),
        **options,
    )
    answer.action.wait_until_finished()
    for action in answer.next_actions:
        action.wait_until_finished()
    return cloud.hetzner().servers.get_by_id(answer.server.id)


def code_of(error: pytest.ExceptionInfo[APIException]) -> str:
    return str(error.value.code)


def raw(cloud: RunningCloud, method: str, path: str, **kwargs: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {cloud.tokens.hcloud}"}
    url = cloud.url("hetzner", f"/v1{path}")
    return httpx.request(method, url, headers=headers, **kwargs)  # type: ignore[arg-type]


def test_a_created_server_boots_with_what_was_posted(
    cloud: RunningCloud, driver: FakeDriver
) -> None:
    client = cloud.hetzner()
    key = client.ssh_keys.create(name="admin", public_key=public_key())
    server = create(cloud, ssh_keys=[key], user_data="#cloud-config\n", labels={"role": "primary"})

    spec = driver.machines[server.id]
    assert (spec.name, spec.image, spec.location) == ("vps-01", "debian-12", "nbg1")
    assert (spec.cores, spec.memory_gb, spec.disk_gb) == (2, 4, 40)
    assert spec.user_data == "#cloud-config\n"
    assert spec.ssh_keys == (key.public_key,)
    assert server.status == "running"
    assert spec.ipv4 == server.public_net.ipv4.ip == "203.0.113.10"
    assert server.public_net.ipv6.ip == spec.ipv6 == "2001:db8:0:1::/64"
    assert server.server_type.name == "cx23"
    assert server.location.name == "nbg1"


def test_an_action_is_running_until_the_machine_is_started(
    cloud: RunningCloud, driver: FakeDriver
) -> None:
    driver.may_create.clear()
    client = cloud.hetzner()
    answer = client.servers.create(
        name="slow", server_type=ServerType(name="cx23"), image=Image(name="debian-12")
    )
    assert answer.action.status == "running"
    assert client.servers.get_by_id(answer.server.id).status == "initializing"
    with pytest.raises(APIException) as error:
        client.servers.get_by_id(answer.server.id).power_off()
    assert code_of(error) == "locked"

    driver.may_create.set()
    answer.action.wait_until_finished()
    assert client.actions.get_by_id(answer.action.id).progress == 100
    assert client.servers.get_by_id(answer.server.id).status == "running"
    listed = client.servers.get_actions(answer.server)
    assert {action.command for action in listed} >= {"create_server", "start_server"}


def test_a_machine_that_fails_to_start_fails_the_action(
    cloud: RunningCloud, driver: FakeDriver
) -> None:
    driver.fail = "no space left for the disk of server vps-01"
    answer = cloud.hetzner().servers.create(
        name="vps-01", server_type=ServerType(name="cx23"), image=Image(name="debian-12")
    )
    with pytest.raises(ActionFailedException, match="no space left"):
        answer.action.wait_until_finished()


def test_names_are_unique_until_their_server_is_gone(cloud: RunningCloud) -> None:
    server = create(cloud)
    with pytest.raises(APIException) as error:
        create(cloud)
    assert code_of(error) == "uniqueness_error"
    assert raw(cloud, "POST", "/servers", json=_order("vps-01")).status_code == 409

    server.delete().wait_until_finished()
    with pytest.raises(APIException) as gone:
        cloud.hetzner().servers.get_by_id(server.id)
    assert code_of(gone) == "not_found"
    create(cloud)


def _order(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "server_type": "cx23", "image": "debian-12", **more}


def test_power_actions_reach_the_machine_and_show_in_the_status(
    cloud: RunningCloud, driver: FakeDriver
) -> None:
    server = create(cloud)
    client = cloud.hetzner()
    for action, status in (
        (server.power_off, "off"),
        (server.power_on, "running"),
        (server.reboot, "running"),
        (server.reset, "running"),
        (server.shutdown, "off"),
    ):
        action().wait_until_finished()
        assert client.servers.get_by_id(server.id).status == status
    called = [call for call, _ in driver.calls]
    assert called == ["create", "power_off", "power_on", "reboot", "reset", "shutdown"]


def test_a_machine_that_powers_itself_off_is_seen(cloud: RunningCloud, driver: FakeDriver) -> None:
    server = create(cloud)
    driver.running.clear()
    assert cloud.hetzner().servers.get_by_id(server.id).status == "off"


def test_protection_refuses_deletion_and_rebuild_until_lifted(cloud: RunningCloud) -> None:
    server = create(cloud)
    server.change_protection(delete=True, rebuild=True).wait_until_finished()
    for refused in (server.delete, lambda: server.rebuild(Image(name="debian-12"))):
        with pytest.raises(APIException) as error:
            refused()
        assert code_of(error) == "protected"
    assert raw(cloud, "DELETE", f"/servers/{server.id}").status_code == 423

    server.change_protection(delete=False, rebuild=False).wait_until_finished()
    server.delete().wait_until_finished()


def test_a_rebuild_boots_the_same_server_anew(cloud: RunningCloud, driver: FakeDriver) -> None:
    server = create(cloud, user_data="#cloud-config\n")
    server.rebuild(Image(name="ubuntu-24.04")).action.wait_until_finished()
    assert [call for call, _ in driver.calls] == ["create", "delete", "create"]
    assert driver.machines[server.id].image == "ubuntu-24.04"
    assert driver.machines[server.id].user_data == "#cloud-config\n"


def test_the_type_changes_only_while_the_server_is_off(
    cloud: RunningCloud, driver: FakeDriver
) -> None:
    server = create(cloud)
    with pytest.raises(APIException) as error:
        server.change_type(ServerType(name="cx33"), upgrade_disk=True)
    assert code_of(error) == "server_not_stopped"
    server.power_off().wait_until_finished()
    server.change_type(ServerType(name="cx33"), upgrade_disk=False).wait_until_finished()
    changed = cloud.hetzner().servers.get_by_id(server.id)
    assert changed.server_type.name == "cx33"
    assert changed.primary_disk_size == 40
    assert ("resize", server.id) in driver.calls


def test_labels_and_names_can_be_changed_and_selected_by(cloud: RunningCloud) -> None:
    server = create(cloud, labels={"env": "prod", "role": "primary"})
    create(cloud, "vps-02", labels={"env": "prod", "role": "standby"})
    client = cloud.hetzner()
    server.update(name="vps-09", labels={"env": "test"})
    for selector, names in (
        ("env=prod", ["vps-02"]),
        ("env!=prod", ["vps-09"]),
        ("role", ["vps-02"]),
        ("!role", ["vps-09"]),
        ("env in (prod,test)", ["vps-02", "vps-09"]),
        ("env notin (prod),env", ["vps-09"]),
    ):
        found = client.servers.get_all(label_selector=selector)
        assert sorted(s.name for s in found) == names, selector
    assert client.servers.get_by_name("vps-09").id == server.id


def test_backups_are_switched_on_and_off(cloud: RunningCloud) -> None:
    server = create(cloud)
    server.enable_backup().wait_until_finished()
    assert cloud.hetzner().servers.get_by_id(server.id).backup_window == "22-02"
    server.disable_backup().wait_until_finished()
    assert cloud.hetzner().servers.get_by_id(server.id).backup_window is None


def test_a_primary_ip_outlives_its_server(cloud: RunningCloud) -> None:
    client = cloud.hetzner()
    ipv4 = _ip(cloud, "vps-01-ipv4")
    net = ServerCreatePublicNetwork(ipv4=ipv4, enable_ipv6=False)
    server = create(cloud, public_net=net)
    assert server.public_net.ipv4.ip == ipv4.ip
    assert server.public_net.ipv6 is None
    assert client.primary_ips.get_by_id(ipv4.id).assignee_id == server.id

    with pytest.raises(APIException) as error:
        create(cloud, "vps-02", public_net=net)
    assert code_of(error) == "primary_ip_assigned"
    server.delete().wait_until_finished()
    left = client.primary_ips.get_by_id(ipv4.id)
    assert (left.assignee_id, left.assignee_type) == (None, "unassigned")
    assert create(cloud, "vps-01", public_net=net).public_net.ipv4.ip == ipv4.ip


def _ip(cloud: RunningCloud, name: str, location: str = "nbg1") -> Any:
    return (
        cloud.hetzner()
        .primary_ips.create(
            type="ipv4", name=name, location=Location(name=location), auto_delete=False
        )
        .primary_ip
    )


def test_addresses_made_with_a_server_go_with_it(cloud: RunningCloud) -> None:
    server = create(cloud)
    assert len(cloud.hetzner().primary_ips.get_all()) == 2
    server.delete().wait_until_finished()
    assert cloud.hetzner().primary_ips.get_all() == []


def test_a_primary_ip_in_another_location_is_refused(cloud: RunningCloud) -> None:
    ip = _ip(cloud, "elsewhere", "fsn1")
    with pytest.raises(APIException) as error:
        create(cloud, public_net=ServerCreatePublicNetwork(ipv4=ip, enable_ipv6=False))
    assert code_of(error) == "primary_ip_datacenter_mismatch"


def test_reverse_dns_is_set_and_reset(cloud: RunningCloud) -> None:
    client = cloud.hetzner()
    ip = _ip(cloud, "one")
    client.primary_ips.change_dns_ptr(ip, ip.ip, "vps-01.example.com").wait_until_finished()
    assert client.primary_ips.get_by_id(ip.id).dns_ptr[0]["dns_ptr"] == "vps-01.example.com"
    client.primary_ips.change_dns_ptr(ip, ip.ip, None).wait_until_finished()
    assert client.primary_ips.get_by_id(ip.id).dns_ptr[0]["dns_ptr"].endswith("your-server.de")


def test_a_primary_ip_is_assigned_and_taken_only_while_the_server_is_off(
    cloud: RunningCloud,
) -> None:
    client = cloud.hetzner()
    server = create(cloud, public_net=ServerCreatePublicNetwork(enable_ipv4=False))
    ip = _ip(cloud, "one")
    with pytest.raises(APIException) as error:
        client.primary_ips.assign(ip, server.id)
    assert code_of(error) == "server_not_stopped"
    server.power_off().wait_until_finished()
    client.primary_ips.assign(ip, server.id).wait_until_finished()
    assert client.servers.get_by_id(server.id).public_net.ipv4.ip == ip.ip
    client.primary_ips.unassign(ip).wait_until_finished()
    assert client.servers.get_by_id(server.id).public_net.ipv4 is None


def test_a_protected_primary_ip_cannot_be_deleted(cloud: RunningCloud) -> None:
    client = cloud.hetzner()
    ip = _ip(cloud, "one")
    client.primary_ips.change_protection(ip, delete=True).wait_until_finished()
    with pytest.raises(APIException) as error:
        client.primary_ips.delete(ip)
    assert code_of(error) == "protected"
    client.primary_ips.change_protection(ip, delete=False).wait_until_finished()
    client.primary_ips.delete(ip)


def _web_rule(*sources: str) -> FirewallRule:
    return FirewallRule(direction="in", protocol="tcp", port="443", source_ips=list(sources))


def test_firewall_rules_reach_the_machine_at_creation_and_on_every_change(
    cloud: RunningCloud, driver: FakeDriver
) -> None:
    client = cloud.hetzner()
    firewall = client.firewalls.create(name="web", rules=[_web_rule("203.0.113.2/32")]).firewall
    server = create(cloud, firewalls=[firewall])
    assert driver.firewalls[server.id] == (
        machines.FirewallRule("tcp", "443", ("203.0.113.2/32",)),
    )
    assert server.public_net.firewalls[0].firewall.id == firewall.id

    ping = FirewallRule(direction="in", protocol="icmp", source_ips=["0.0.0.0/0", "::/0"])
    for action in client.firewalls.set_rules(firewall, [ping]):
        action.wait_until_finished()
    assert driver.firewalls[server.id] == (
        machines.FirewallRule("icmp", None, ("0.0.0.0/0", "::/0")),
    )
    for action in client.firewalls.set_rules(firewall, []):
        action.wait_until_finished()
    assert driver.firewalls[server.id] == ()

    with pytest.raises(APIException) as error:
        client.firewalls.delete(firewall)
    assert code_of(error) == "resource_in_use"
    target = FirewallResource(type="server", server=server)
    for action in client.firewalls.remove_from_resources(firewall, [target]):
        action.wait_until_finished()
    assert driver.firewalls[server.id] is None
    for action in client.firewalls.apply_to_resources(firewall, [target]):
        action.wait_until_finished()
    assert client.firewalls.get_by_id(firewall.id).applied_to[0].server.id == server.id


@pytest.mark.parametrize(
    "rule",
    [
        {"direction": "in", "protocol": "tcp", "source_ips": ["0.0.0.0/0"]},
        {"direction": "in", "protocol": "icmp", "port": "1", "source_ips": ["0.0.0.0/0"]},
        {"direction": "in", "protocol": "tcp", "port": "80", "source_ips": ["10.0.0.1/8"]},
        {"direction": "in", "protocol": "tcp", "port": "80-70", "source_ips": ["0.0.0.0/0"]},
        {"direction": "in", "protocol": "tcp", "port": "80", "source_ips": []},
        {"direction": "out", "protocol": "tcp", "port": "80", "source_ips": ["0.0.0.0/0"]},
        {"direction": "in", "protocol": "sctp", "port": "80", "source_ips": ["0.0.0.0/0"]},
    ],
)
def test_a_wrong_firewall_rule_names_its_field(
    cloud: RunningCloud, rule: dict[str, object]
) -> None:
    answer = raw(cloud, "POST", "/firewalls", json={"name": "web", "rules": [rule]})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_input"
    assert answer.json()["error"]["details"]["fields"][0]["name"].startswith("rules.0")


def test_an_ssh_key_is_unique_by_name_and_by_fingerprint(cloud: RunningCloud) -> None:
    client = cloud.hetzner()
    key = public_key()
    made = client.ssh_keys.create(name="one", public_key=key, labels={"a": "b"})
    for name, other in (("one", public_key()), ("two", key)):
        with pytest.raises(APIException) as error:
            client.ssh_keys.create(name=name, public_key=other)
        assert code_of(error) == "uniqueness_error"
    assert client.ssh_keys.get_by_fingerprint(made.fingerprint).id == made.id
    assert client.ssh_keys.update(made, name="two").name == "two"
    client.ssh_keys.delete(made)
    assert client.ssh_keys.get_all() == []


def test_lists_come_in_pages_and_in_the_order_asked(cloud: RunningCloud) -> None:
    client = cloud.hetzner()
    for number in range(30):
        client.ssh_keys.create(name=f"key-{number:02}", public_key=public_key())
    page = client.ssh_keys.get_list(page=2, per_page=20)
    assert len(page.ssh_keys) == 10
    assert page.meta.pagination.total_entries == 30
    assert page.meta.pagination.next_page is None
    assert len(client.ssh_keys.get_all()) == 30
    answer = raw(cloud, "GET", "/ssh_keys?sort=name:desc&per_page=2").json()
    assert [key["name"] for key in answer["ssh_keys"]] == ["key-29", "key-28"]
    assert raw(cloud, "GET", "/ssh_keys?sort=colour").status_code == 422


def test_the_catalogue_says_what_can_be_ordered_where(cloud: RunningCloud) -> None:
    client = cloud.hetzner()
    current = client.server_types.get_by_name("cx23")
    assert current.category == "cost_optimized"
    assert {place.location.name for place in current.locations} == {"fsn1", "nbg1", "hel1"}
    assert all(place.available and place.deprecation is None for place in current.locations)
    retired = {p.location.name: p for p in client.server_types.get_by_name("cpx21").locations}
    assert not retired["nbg1"].available
    assert retired["nbg1"].deprecation is not None
    assert retired["ash"].available
    image = client.images.get_by_name_and_architecture("ubuntu-24.04", "arm")
    assert image.architecture == "arm"
    assert client.locations.get_by_name("hel1").network_zone == "eu-central"


def test_datacenters_are_gone_as_at_the_vendor(cloud: RunningCloud) -> None:
    answer = raw(cloud, "GET", "/datacenters")
    assert answer.status_code == 410
    assert answer.json()["error"]["code"] == "deprecated_api_endpoint"
    order = _order("vps-01", datacenter="nbg1-dc3")
    assert raw(cloud, "POST", "/servers", json=order).status_code == 422


@pytest.mark.parametrize("options", [{"server_type": "cpx21"}, {"location": "ash"}])
def test_a_type_that_is_not_sold_in_a_location_is_refused(
    cloud: RunningCloud, options: dict[str, Any]
) -> None:
    with pytest.raises(APIException, match="unsupported location for server type") as error:
        create(cloud, **options)
    assert code_of(error) == "invalid_input"


def test_a_sold_out_type_is_refused_and_marked(cloud: RunningCloud) -> None:
    fault = {"vendor": "hetzner", "sold_out": {"type": "cx23", "location": "nbg1"}}
    httpx.post(cloud.url("control", "/faults"), json=fault).raise_for_status()
    answer = raw(cloud, "POST", "/servers", json=_order("vps-01", location="nbg1"))
    assert answer.status_code == 412
    assert answer.json()["error"]["code"] == "resource_unavailable"
    places = cloud.hetzner().server_types.get_by_name("cx23").locations
    assert {p.location.name for p in places if p.available} == {"fsn1", "hel1"}
    httpx.delete(cloud.url("control", "/faults")).raise_for_status()
    create(cloud)


def test_a_used_up_quota_is_refused(cloud: RunningCloud) -> None:
    fault = {"vendor": "hetzner", "quota": {"resource": "servers", "limit": 1}}
    httpx.post(cloud.url("control", "/faults"), json=fault).raise_for_status()
    create(cloud)
    answer = raw(cloud, "POST", "/servers", json=_order("vps-02"))
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "resource_limit_exceeded"


def test_a_refused_server_leaves_no_address_behind(cloud: RunningCloud) -> None:
    raw(cloud, "POST", "/servers", json=_order("vps-01", firewalls=[{"firewall": 1}]))
    assert cloud.hetzner().primary_ips.get_all() == []


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"name": "vps-01"}, "server_type"),
        (_order("not a hostname"), "name"),
        (_order("vps-01", user_data="x" * (32 * 1024 + 1)), "user_data"),
        (_order("vps-01", labels={"-": "x"}), "labels"),
    ],
)
def test_invalid_input_names_its_fields(
    cloud: RunningCloud, order: dict[str, object], field: str
) -> None:
    answer = raw(cloud, "POST", "/servers", json=order)
    assert answer.status_code == 422
    assert field in {f["name"] for f in answer.json()["error"]["details"]["fields"]}


def test_user_data_of_exactly_32_kib_is_accepted(cloud: RunningCloud) -> None:
    assert create(cloud, user_data="x" * 32 * 1024).status == "running"


def test_unknown_tokens_and_reading_tokens_are_told_apart(cloud: RunningCloud) -> None:
    with pytest.raises(APIException) as unknown:
        cloud.hetzner("wrong").servers.get_all()
    assert code_of(unknown) == "unauthorized"
    assert httpx.get(cloud.url("hetzner", "/v1/servers")).status_code == 401
    assert cloud.tokens.hcloud_read is not None
    reader = cloud.hetzner(cloud.tokens.hcloud_read)
    assert reader.servers.get_all() == []
    with pytest.raises(APIException) as readonly:
        reader.ssh_keys.create(name="one", public_key=public_key())
    assert code_of(readonly) == "token_readonly"


def test_json_that_cannot_be_parsed_and_paths_that_do_not_exist(cloud: RunningCloud) -> None:
    broken = raw(cloud, "POST", "/servers", content=b"{")
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "json_error")
    missing = raw(cloud, "GET", "/balloons")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_too_many_requests_are_refused_with_the_limit_in_headers(
    slow_api: Setup, driver: FakeDriver, tailnet: FakeTailnet
) -> None:
    cloud = RunningCloud(slow_api, driver, tailnet)
    try:
        answers = [raw(cloud, "GET", "/servers") for _ in range(4)]
    finally:
        cloud.stop()
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["RateLimit-Limit"] == "3"
    assert [a.headers["RateLimit-Remaining"] for a in answers] == ["2", "1", "0", "0"]
    assert int(answers[3].headers["RateLimit-Reset"]) > 0
    assert answers[3].json()["error"]["code"] == "rate_limit_exceeded"


def test_a_posted_fault_is_answered_once(cloud: RunningCloud) -> None:
    body = {"error": {"code": "unavailable", "message": "try later"}}
    fault = {"vendor": "hetzner", "method": "GET", "path_regex": "/servers$", "status": 503}
    httpx.post(cloud.url("control", "/faults"), json={**fault, "body": body}).raise_for_status()
    with pytest.raises(APIException) as error:
        cloud.hetzner().servers.get_all()
    assert code_of(error) == "unavailable"
    assert cloud.hetzner().servers.get_all() == []


def test_a_lost_answer_leaves_its_effect(cloud: RunningCloud) -> None:
    fault = {"vendor": "hetzner", "method": "POST", "drop": True, "after": True}
    httpx.post(cloud.url("control", "/faults"), json=fault).raise_for_status()
    with pytest.raises(httpx.RemoteProtocolError):
        raw(cloud, "POST", "/ssh_keys", json={"name": "lost", "public_key": public_key()})
    assert cloud.hetzner().ssh_keys.get_by_name("lost") is not None


def test_a_fault_without_an_effect_is_refused(cloud: RunningCloud) -> None:
    answer = httpx.post(cloud.url("control", "/faults"), json={"vendor": "hetzner"})
    assert answer.status_code == 422


def test_servers_survive_a_restart_of_the_cloud(
    cloud: RunningCloud, setup: Setup, driver: FakeDriver, tailnet: FakeTailnet
) -> None:
    server = create(cloud, labels={"role": "primary"})
    stored = json.loads((setup.state_dir / "cloud.json").read_text())
    assert str(server.id) in stored["hetzner"]["servers"]
    assert (setup.state_dir / "cloud.json").stat().st_mode & 0o077 == 0

    again = RunningCloud(setup, driver, tailnet)
    try:
        found = again.hetzner().servers.get_by_id(server.id)
        assert (found.name, found.status, found.labels) == (
            "vps-01", "running", {"role": "primary"},
        )  # fmt: skip
        assert create(again, "vps-02").id > server.id
    finally:
        again.stop()


def test_a_killed_cloud_settles_what_was_half_done(
    setup: Setup, driver: FakeDriver, tailnet: FakeTailnet
) -> None:
    first = RunningCloud(setup, driver, tailnet)
    firewall = first.hetzner().firewalls.create(name="web", rules=[]).firewall
    server = create(first, firewalls=[firewall])
    stored = json.loads((setup.state_dir / "cloud.json").read_text())
    first.stop()
    # As if the process had been killed between starting the machine and closing its firewall.
    action = next(
        a for a in stored["hetzner"]["actions"].values() if a["command"] == "create_server"
    )
    action.update(status="running", progress=0, finished=None)
    stored["hetzner"]["servers"][str(server.id)].update(status="initializing", locked=True)
    (setup.state_dir / "cloud.json").write_text(json.dumps(stored))
    driver.firewalls.clear()

    again = RunningCloud(setup, driver, tailnet)
    try:
        settled = again.hetzner().actions.get_by_id(action["id"])
        assert (settled.status, settled.error["code"]) == ("error", "action_failed")
        found = again.hetzner().servers.get_by_id(server.id)
        assert (found.status, found.locked) == ("running", False)
    finally:
        again.stop()  # waits for what is still going on
    assert driver.firewalls[server.id] == ()


def test_status_shows_what_exists_and_no_secrets(cloud: RunningCloud) -> None:
    create(cloud, user_data="#cloud-config very secret")
    answer = httpx.get(cloud.url("control", "/status"))
    assert answer.json()["hetzner"]["servers"][0]["name"] == "vps-01"
    assert "very secret" not in answer.text
    assert cloud.tokens.hcloud not in answer.text
