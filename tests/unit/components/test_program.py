"""What the program asks of the engine, for both stacks, and what it never asks for."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components.credentials import SECOND_TOKENS
from components.launcher import MAX_USER_DATA_BYTES
from components.s3_bucket import LifecycleRule
from components.settings import NODES
from components.tailnet import policy as policy_of
from tests.support.program import (
    FakeHetzner,
    Recording,
    config_of,
    offer,
    run_program,
    secret_looking,
)

SERVER = "hcloud:index/server:Server"
PRIMARY_IP = "hcloud:index/primaryIp:PrimaryIp"
FIREWALL = "hcloud:index/firewall:Firewall"
RECORD = "cloudflare:index/dnsRecord:DnsRecord"
BALANCER = "cloudflare:index/loadBalancer:LoadBalancer"
COMMAND = "command:remote:Command"
KEY = "tailscale:index/tailnetKey:TailnetKey"
BUCKET = "pulumi-python:dynamic:S3Bucket"

COMMON = {
    SERVER: 2,
    PRIMARY_IP: 4,
    "hcloud:index/rdns:Rdns": 4,
    FIREWALL: 1,
    "hcloud:index/sshKey:SshKey": 1,
    "tailscale:index/acl:Acl": 1,
    KEY: 2,
    BUCKET: 3,
    "pulumi-python:dynamic:BundleObject": 1,
    "pulumi-python:dynamic:LaunchTicket": 2,
    "pulumi-python:dynamic:GeneratedSecret": 23,
    "cloudflare:index/originCaCertificate:OriginCaCertificate": 1,
    "cloudflare:index/zoneSetting:ZoneSetting": 4,
    "cloudflare:index/ruleset:Ruleset": 2,
    "pulumi-python:dynamic:DurableObjectClass": 1,
    "cloudflare:index/workersScript:WorkersScript": 1,
    "cloudflare:index/workersCronTrigger:WorkersCronTrigger": 1,
    "cloudflare:index/workersCustomDomain:WorkersCustomDomain": 1,
    RECORD: 7,
    COMMAND: 4,
}


def inventory(recording: Recording) -> Counter[str]:
    return Counter(one.type for one in recording.resources if not one.type.startswith("overlord:"))


@pytest.fixture
def balanced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recording:
    """The sandbox with Cloudflare's load balancer."""
    config = {**config_of("Pulumi.sandbox.yaml"), "overlord:steering": "loadBalancer"}
    return run_program(monkeypatch, tmp_path, config)


@pytest.mark.parametrize("stack", ["sandbox", "prod"])
def test_a_stack_has_exactly_these_resources(stack: str, request: pytest.FixtureRequest) -> None:
    recording: Recording = request.getfixturevalue(stack)
    assert inventory(recording) == {**COMMON, "pulumi-python:dynamic:PublicRecord": 1}


def test_with_the_load_balancer_it_has_these_instead_of_the_record(balanced: Recording) -> None:
    assert inventory(balanced) == {
        **COMMON,
        BALANCER: 1,
        "cloudflare:index/loadBalancerPool:LoadBalancerPool": 2,
        "cloudflare:index/loadBalancerMonitor:LoadBalancerMonitor": 1,
    }


def test_worker_steering_has_no_load_balancer_and_no_record_that_the_program_writes(
    prod: Recording,
) -> None:
    assert not [one for one in prod.resources if "loadBalancer" in one.type]
    written = [one for one in prod.of_type(RECORD) if one.inputs["name"] == "fleet.example.com"]
    assert {one.inputs["type"] for one in written} == {"CAA"}


def test_every_resource_belongs_to_a_component(sandbox: Recording) -> None:
    for one in sandbox.resources:
        parent_type = one.parent.split("::")[2].split("$")[-1]
        if one.type.startswith("overlord:"):
            assert parent_type == "pulumi:pulumi:Stack", one.name
        else:
            assert parent_type.startswith("overlord:index:"), one.name
            assert one.name.startswith(one.parent.split("::")[-1] + "-"), one.name


def test_no_two_resources_of_a_type_share_a_name(sandbox: Recording) -> None:
    assert max(Counter((one.type, one.name) for one in sandbox.resources).values()) == 1


@pytest.mark.parametrize("node", NODES)
def test_a_server_is_never_replaced_by_surprise(sandbox: Recording, node: str) -> None:
    server = sandbox.named(f"{node}-server")
    assert set(server.options.ignoreChanges) == {"userData", "image", "sshKeys"}
    assert server.options.deleteBeforeReplace
    assert server.options.replacement_trigger.number_value == 1
    assert server.options.protect
    assert server.inputs["deleteProtection"]
    assert server.inputs["rebuildProtection"]
    assert server.inputs["shutdownBeforeDeletion"]
    assert list(server.options.hooks.before_delete) == [f"{node}-lift-protection"]
    assert list(server.options.hooks.before_create) == [f"{node}-make-room"]


def test_servers_name_a_location_and_never_a_data_centre(sandbox: Recording) -> None:
    servers = sandbox.of_type(SERVER)
    assert {one.inputs["location"] for one in servers} == {"fsn1", "hel1"}
    for one in (*servers, *sandbox.of_type(PRIMARY_IP)):
        assert "datacenter" not in one.inputs


def test_addresses_outlive_the_servers(sandbox: Recording) -> None:
    for one in sandbox.of_type(PRIMARY_IP):
        assert one.options.protect
        assert one.inputs["deleteProtection"]
        assert one.inputs["autoDelete"] is False
        assert one.options.replacement_trigger.WhichOneof("kind") in (None, "null_value")


def test_addresses_have_reverse_names(prod: Recording) -> None:
    names = Counter(one.inputs["dnsPtr"] for one in prod.of_type("hcloud:index/rdns:Rdns"))
    assert names == {"vps-01.example.com": 2, "vps-02.example.com": 2}


def test_everything_at_hetzner_carries_the_stacks_labels(sandbox: Recording) -> None:
    for one in sandbox.resources:
        if one.type in {SERVER, PRIMARY_IP, FIREWALL, "hcloud:index/sshKey:SshKey"}:
            assert one.inputs["labels"]["overlord-stack"] == "sandbox"
            assert one.inputs["labels"]["managed-by"] == "pulumi"


def test_the_firewall_lets_in_web_ssh_wireguard_and_ping_and_nothing_else(
    sandbox: Recording,
) -> None:
    (firewall,) = sandbox.of_type(FIREWALL)
    rules = {
        (rule["protocol"], rule.get("port")): rule["sourceIps"] for rule in firewall.inputs["rules"]
    }
    edge = ["192.0.2.0/25", "2001:db8:cf::/48"]
    anywhere = ["0.0.0.0/0", "::/0"]
    assert rules == {
        ("tcp", "80"): edge,
        ("tcp", "443"): edge,
        ("tcp", "22"): ["198.51.100.1/32"],
        ("udp", "41641"): anywhere,
        ("icmp", None): anywhere,
    }
    assert {rule["direction"] for rule in firewall.inputs["rules"]} == {"in"}


def test_web_ports_are_open_to_everyone_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {**config_of("Pulumi.sandbox.yaml"), "overlord:webSources": "everywhere"}
    (firewall,) = run_program(monkeypatch, tmp_path, config).of_type(FIREWALL)
    rules = {(r["protocol"], r.get("port")): r["sourceIps"] for r in firewall.inputs["rules"]}
    assert rules["tcp", "443"] == ["0.0.0.0/0", "::/0"]
    assert rules["tcp", "22"] == ["198.51.100.1/32"]


@pytest.mark.parametrize("stack", ["sandbox", "prod"])
def test_no_tcp_port_is_open_to_the_world(stack: str, request: pytest.FixtureRequest) -> None:
    recording: Recording = request.getfixturevalue(stack)
    for rule in recording.of_type(FIREWALL)[0].inputs["rules"]:
        if rule["protocol"] == "tcp":
            assert not [source for source in rule["sourceIps"] if source.endswith("/0")]


def test_each_node_has_one_single_use_short_lived_tagged_key(sandbox: Recording) -> None:
    keys = sandbox.of_type(KEY)
    assert len({one.inputs["description"] for one in keys}) == 2
    for one in keys:
        assert one.inputs["reusable"] is False
        assert one.inputs["ephemeral"] is False
        assert one.inputs["preauthorized"] is True
        assert one.inputs["expiry"] <= 3600
        assert one.inputs["tags"] == ["tag:overlord"]
        assert one.inputs["recreateIfInvalid"] == "never"
        assert "key" in one.options.additionalSecretOutputs
        assert re.fullmatch(r"[a-zA-Z0-9 -]{1,50}", one.inputs["description"])


def test_a_device_reaches_the_api_and_the_log_port_and_nothing_else(sandbox: Recording) -> None:
    (acl,) = sandbox.of_type("tailscale:index/acl:Acl")
    policy = json.loads(acl.inputs["acl"])
    from_device = [rule["dst"] for rule in policy["acls"] if "tag:device" in rule["src"]]
    assert from_device == [["tag:overlord:443,3100"]]
    with_secrets = [rule["dst"] for rule in policy_of(openbao=True)["acls"]]
    assert ["tag:overlord:443,3100,8200"] in with_secrets
    assert not any(source == "*" for rule in policy["acls"] for source in rule["src"])
    assert all(owners == [] for owners in policy["tagOwners"].values())


def test_data_and_bundles_are_locked_and_logs_are_not(sandbox: Recording) -> None:
    buckets = {one.inputs["name"]: one for one in sandbox.of_type(BUCKET)}
    assert set(buckets) == {
        "overlord-sandbox-data",
        "overlord-sandbox-bundles",
        "overlord-sandbox-logs",
    }
    assert {name: one.inputs["lockDays"] for name, one in buckets.items()} == {
        "overlord-sandbox-data": 14,
        "overlord-sandbox-bundles": 14,
        "overlord-sandbox-logs": 0,
    }
    for one in buckets.values():
        assert one.options.protect
        assert one.options.retainOnDelete
        assert one.inputs["owner"].endswith("/sandbox")
        assert one.inputs["versioning"] is True
        assert one.inputs["encryption"] == "AES256"
        assert one.inputs["public"] is False
    rules = {
        rule["prefix"]: rule["expireDays"]
        for rule in buckets["overlord-sandbox-data"].inputs["lifecycle"]
    }
    assert rules == {"database/": 0, "metrics/": 7, "config/": 0}
    assert buckets["overlord-sandbox-logs"].inputs["lifecycle"] == [
        LifecycleRule("logs/", 30, 1).as_property()
    ]


def test_only_a_bucket_that_is_named_goes_with_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = config_of("Pulumi.sandbox.yaml")
    named = "overlord-sandbox-logs"
    backup = {**json.loads(config["overlord:backup"]), "forceDestroy": [named]}
    recording = run_program(
        monkeypatch, tmp_path, {**config, "overlord:backup": json.dumps(backup)}
    )
    buckets = {one.inputs["name"]: one for one in recording.of_type(BUCKET)}
    assert len(buckets) == 3
    for name, one in buckets.items():
        assert one.options.retainOnDelete is (name != named)
        assert one.inputs["forceDestroy"] is (name == named)


@pytest.mark.parametrize("named", ["overlord-sandbox-logs", "overlord-sandbox-data"])
def test_what_backups_are_encrypted_with_is_protected_as_long_as_they_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    config = config_of("Pulumi.sandbox.yaml")
    backup = {**json.loads(config["overlord:backup"]), "forceDestroy": [named]}
    changes = {"overlord:backup": json.dumps(backup), "overlord:protect": "false"}
    recording = run_program(monkeypatch, tmp_path, {**config, **changes})
    for key in ("backup-cipher-key", "openbao-seal-key", "openbao-admin-password"):
        options = recording.named(f"secrets-{key}").options
        assert options.protect is (named != "overlord-sandbox-data")
    assert not recording.named("secrets-api-enrol-token").options.protect


def test_the_load_balancer_asks_who_leads_and_prefers_the_primary(balanced: Recording) -> None:
    monitor = balanced.named("dns-monitor").inputs
    assert monitor["path"] == "/leader"
    assert monitor["header"] == {"Host": ["fleet.overlord.localhost"]}
    assert monitor["expectedCodes"] == "200"
    assert monitor["allowInsecure"] is False
    assert monitor["consecutiveDown"] == monitor["consecutiveUp"] == 1
    pools = [balanced.named(f"dns-pool-{node}").inputs for node in NODES]
    assert [pool["origins"][0]["name"] for pool in pools] == ["vps-01", "vps-02"]
    balancer = balanced.named("dns-load-balancer").inputs
    assert balancer["steeringPolicy"] == "off"
    assert balancer["fallbackPool"] == balancer["defaultPools"][1]


def test_the_zone_is_strict_about_tls(prod: Recording) -> None:
    settings = {
        one.inputs["settingId"]: one.inputs["value"]
        for one in prod.of_type("cloudflare:index/zoneSetting:ZoneSetting")
    }
    assert settings == {
        "ssl": "strict",
        "min_tls_version": "1.2",
        "always_use_https": "on",
        "security_level": "medium",
    }


def test_under_attack_is_one_switch_and_devices_and_nodes_are_not_challenged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {**config_of("Pulumi.prod.yaml"), "overlord:underAttack": "true"}
    recording = run_program(monkeypatch, tmp_path, config, stack_name="prod")
    assert recording.named("zone-security-level").inputs["value"] == "under_attack"
    rules = recording.named("zone-firewall").inputs["rules"]
    devices, nodes = [rule for rule in rules if rule["action"] == "skip"]
    for skip in (devices, nodes):
        assert {"bic", "securityLevel"} == set(skip["actionParameters"]["products"])
    assert "/api/" in devices["expression"]
    assert nodes["expression"] == '(http.host eq "witness.example.com")'


def test_a_zone_that_belongs_to_someone_else_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {**config_of("Pulumi.prod.yaml"), "overlord:manageZone": "false"}
    recording = run_program(monkeypatch, tmp_path, config, stack_name="prod")
    assert not [one for one in recording.resources if "zone" in one.name]


def test_changes_go_to_the_standby_first_and_wait_for_both_first_boots(
    sandbox: Recording,
) -> None:
    def needs(name: str) -> set[str]:
        return {urn.split("::")[-1] for urn in sandbox.named(name).options.dependencies}

    boots = {"bootstrap-first-boot-vps-01", "bootstrap-first-boot-vps-02"}
    assert boots <= needs("bootstrap-apply-vps-02")
    assert {*boots, "bootstrap-apply-vps-02"} <= needs("bootstrap-apply-vps-01")
    assert "bootstrap-apply-vps-01" not in needs("bootstrap-apply-vps-02")


def test_commands_pin_the_host_key_and_have_no_secret_on_their_command_line(
    sandbox: Recording,
) -> None:
    for one in sandbox.of_type(COMMAND):
        assert one.inputs["connection"]["hostKey"].startswith("ssh-ed25519 ")
        assert "connection" in one.secret_inputs
        assert not secret_looking(one.inputs["create"])
        assert "environment" not in one.inputs
        assert one.inputs["addPreviousOutputInEnv"] is False
    for node in NODES:
        apply = sandbox.named(f"bootstrap-apply-{node}")
        assert re.fullmatch(
            r"sudo /usr/local/bin/overlordctl apply --bundle [0-9a-f]{64}", apply.inputs["create"]
        )
        assert "stdin" in apply.secret_inputs


@pytest.mark.parametrize("node", NODES)
def test_the_secrets_document_has_what_the_node_needs(sandbox: Recording, node: str) -> None:
    document = json.loads(sandbox.named(f"bootstrap-apply-{node}").inputs["stdin"])
    assert set(document) == {
        "postgres_superuser_password",
        "postgres_app_password",
        "postgres_replication_password",
        "postgres_tls_cert",
        "postgres_tls_key",
        "postgres_monitor_password",
        "postgres_gitea_password",
        "gitea_secret_key",
        "admin_password_hash",
        "ssh_host_ed25519_key",
        "deploy_authorized_keys",
        "origin_tls_key",
        "origin_tls_cert",
        "b2_key_id",
        "b2_key",
        "backup_cipher_key",
        "api_enrol_token",
        "api_operator_token",
        "grafana_admin_password",
        "arbiter_token",
        "alert_slack_url",
        "alert_heartbeat_url",
    }
    # Its own and no other: a node may only speak for itself.
    assert document["arbiter_token"] == f"value-of-secrets-arbiter-token-{node}"
    assert document["alert_heartbeat_url"].endswith(node.replace("-", "_"))
    assert document["b2_key"] == "token-overlord_node_b2_key"
    assert document["ssh_host_ed25519_key"] == f"value-of-secrets-host-key-{node}"
    assert all(isinstance(value, str) for value in document.values())


@pytest.mark.parametrize("stack", ["sandbox", "prod"])
def test_no_secret_is_in_a_plain_input(stack: str, request: pytest.FixtureRequest) -> None:
    recording: Recording = request.getfixturevalue(stack)
    for one in recording.resources:
        plain = {name: value for name, value in one.inputs.items() if name not in one.secret_inputs}
        assert not secret_looking(json.dumps(plain)), f"{one.name}: {plain}"


@pytest.mark.parametrize("stack", ["sandbox", "prod"])
def test_no_secret_is_in_a_plain_output_or_a_log(
    stack: str, request: pytest.FixtureRequest
) -> None:
    recording: Recording = request.getfixturevalue(stack)
    assert recording.secret_outputs == {"adminSecrets", "deployPrivateKey"}
    plain = {
        name: value
        for name, value in recording.outputs.items()
        if name not in recording.secret_outputs
    }
    assert not secret_looking(json.dumps(plain))
    assert not secret_looking(recording.log)


def test_what_providers_make_secret_is_marked_so(sandbox: Recording) -> None:
    for one in sandbox.of_type("pulumi-python:dynamic:GeneratedSecret"):
        assert set(one.options.additionalSecretOutputs) == {"value", "previous", "hash"}
    for one in sandbox.of_type("pulumi-python:dynamic:LaunchTicket"):
        assert {"bundleUrl", "secretsUrl", "secretsKey"} <= set(one.options.additionalSecretOutputs)
        assert "document" in one.secret_inputs


def test_a_stored_provider_is_a_reference_to_its_class_and_not_its_code(
    sandbox: Recording,
) -> None:
    import base64

    for one in sandbox.resources:
        if one.type.startswith("pulumi-python:"):
            pickled = base64.b64decode(one.inputs["__provider"])
            assert b"components." in pickled
            assert len(pickled) < 200, one.name


def test_the_outputs_are_complete(sandbox: Recording) -> None:
    assert set(sandbox.outputs) == {
        "publicUrl",
        "nodes",
        "monthlyCost",
        "arbiterUrl",
        "buckets",
        "bundleSha256",
        "tailnet",
        "deployPrivateKey",
        "hostPublicKeys",
        "adminSecrets",
        "rebuild",
        "rebuildGenerations",
        "deployKey",
    }
    assert sandbox.outputs["publicUrl"] == "https://fleet.overlord.localhost:8443/"
    node = sandbox.outputs["nodes"]["vps-01"]
    assert node["hostname"] == "vps-01.overlord.localhost"
    assert node["location"] == "fsn1"
    assert node["serverType"] == "cpx32"
    assert node["ipv6"].endswith("::1")
    assert sandbox.outputs["rebuildGenerations"] == {"vps-01": 1, "vps-02": 1}
    assert sandbox.outputs["monthlyCost"]["total"] > 0


@pytest.mark.parametrize("node", NODES)
def test_user_data_fits_and_holds_what_the_first_boot_needs(sandbox: Recording, node: str) -> None:
    server = sandbox.named(f"{node}-server")
    assert "userData" in server.secret_inputs
    text = server.inputs["userData"]
    assert len(text.encode()) <= MAX_USER_DATA_BYTES
    document = yaml.safe_load(text)
    boot = next(f for f in document["write_files"] if f["path"] == "/etc/overlord/boot.json")
    settings = json.loads(boot["content"])
    assert settings["node"] == node
    assert settings["bundle_sha256"] == sandbox.outputs["bundleSha256"]
    assert settings["tailscale_auth_key"] == f"tskey-tailnet-key-{node}"


def test_user_data_of_both_nodes_fits_with_twenty_keys_of_4096_bits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=4096).public_key()
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    config = {
        **config_of("Pulumi.prod.yaml"),
        "overlord:adminSshKeys": json.dumps([f"{line} admin-{n}@example.com" for n in range(20)]),
    }
    recording = run_program(monkeypatch, tmp_path, config, stack_name="prod")
    for node in NODES:
        text = recording.named(f"{node}-server").inputs["userData"]
        assert text.count("admin-19@example.com") == 1
        assert len(text.encode()) <= MAX_USER_DATA_BYTES


def test_the_same_inputs_give_the_same_bytes(
    sandbox: Recording, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    again = run_program(monkeypatch, tmp_path, config_of("Pulumi.sandbox.yaml"))

    def shape(recording: Recording) -> dict[str, Any]:
        return {
            f"{one.type} {one.name}": {
                # Numbers that the fake vendors count up in the order of arrival.
                name: re.sub(r"198\.51\.100\.\d+|2001:db8:0:\d+|\d+\.0\b", "N", json.dumps(value))
                for name, value in one.inputs.items()
                if name not in {"userData", "sha256", "create", "bundleSha256", "triggers"}
                and "Pool" not in name
                and name not in {"monitor", "sshKeys", "firewallIds", "publicNets"}
            }
            for one in recording.resources
        }

    assert shape(again) == shape(sandbox)


def rebuilt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hetzner: FakeHetzner | None = None
) -> Recording:
    stack = "urn:pulumi:sandbox::overlord::pulumi:pulumi:Stack::overlord-sandbox"
    state: dict[str, Any] = {
        stack: {
            "type": "pulumi:pulumi:Stack",
            "outputs": {"rebuild": "", "rebuildGenerations": {"vps-01": 1, "vps-02": 1}},
        }
    }
    for node in NODES:
        state[f"urn:x::{node}-server"] = {
            "type": SERVER,
            "outputs": {"id": "1", "labels": {"overlord-generation": "1"}},
        }
        state[f"urn:x::{node}-launch-ticket"] = {
            "type": "pulumi-python:dynamic:LaunchTicket",
            "outputs": {"generation": 1},
        }
    config = {**config_of("Pulumi.sandbox.yaml"), "overlord:rebuild": "vps-02"}
    return run_program(monkeypatch, tmp_path, config, last_state=state, hetzner=hetzner)


def live_pair(server_type: str = "cpx32") -> list[Any]:
    from tests.unit.components.test_last_run import server

    return [
        server().__class__(
            **{
                **server().__dict__,
                "name": node,
                "labels": {"overlord-node": node},
                "server_type": server_type,
            }
        )
        for node in NODES
    ]


def test_a_rebuild_lifts_the_protection_of_the_named_server_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recording = rebuilt(monkeypatch, tmp_path, FakeHetzner(live_pair(), {"cpx32": offer("cpx32")}))
    standby, primary = recording.named("vps-02-server"), recording.named("vps-01-server")
    assert not standby.options.protect
    assert not standby.inputs["deleteProtection"]
    assert standby.options.replacement_trigger.number_value == 2
    assert primary.options.protect
    assert primary.inputs["deleteProtection"]
    assert primary.options.replacement_trigger.number_value == 1
    for one in recording.of_type(PRIMARY_IP):
        assert one.options.protect
        assert one.inputs["deleteProtection"]
    assert recording.named("tailnet-key-vps-02").options.replacement_trigger.number_value == 2
    assert recording.named("tailnet-key-vps-01").options.replacement_trigger.number_value == 1
    assert recording.outputs["rebuildGenerations"] == {"vps-01": 1, "vps-02": 2}
    assert "it is not protected" in recording.log


def test_a_running_server_keeps_its_type_when_that_is_sold_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sold_out = {"cpx32": offer("cpx32"), "cx33": offer("cx33", available=False)}
    recording = rebuilt(monkeypatch, tmp_path, FakeHetzner(live_pair("cx33"), sold_out))
    assert recording.named("vps-01-server").inputs["serverType"] == "cx33"
    assert recording.named("vps-02-server").inputs["serverType"] == "cpx32"


def test_a_rebuild_is_refused_before_anything_is_deleted_when_nothing_can_be_ordered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sold_out = {name: offer(name, available=False) for name in ("cpx32", "cx33", "ccx23")}
    with pytest.raises(Exception, match="sold out at the moment"):
        rebuilt(monkeypatch, tmp_path, FakeHetzner(live_pair(), sold_out))


def test_bad_settings_stop_the_program_before_it_registers_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {**config_of("Pulumi.sandbox.yaml"), "overlord:locations": '["fsn1", "fsn1"]'}
    with pytest.raises(Exception, match="both nodes would be in fsn1"):
        run_program(monkeypatch, tmp_path, config)


def test_a_preview_without_any_state_knows_every_resource(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sandbox: Recording
) -> None:
    preview = run_program(monkeypatch, tmp_path, config_of("Pulumi.sandbox.yaml"), preview=True)
    assert inventory(preview) == inventory(sandbox)


def test_a_rebuilt_server_gets_a_host_key_of_its_own_and_the_other_keeps_its(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recording = rebuilt(monkeypatch, tmp_path, FakeHetzner(live_pair(), {"cpx32": offer("cpx32")}))
    names = {one.name for one in recording.of_type("pulumi-python:dynamic:GeneratedSecret")}
    assert {name for name in names if "host-key" in name} == {
        "secrets-host-key-vps-01",
        "secrets-host-key-vps-02-2",
    }
    for command in ("first-boot", "apply"):
        connection = recording.named(f"bootstrap-{command}-vps-02").inputs["connection"]
        assert connection["hostKey"] == "ssh-ed25519 PUBLIC secrets-host-key-vps-02-2"


def with_deploy_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, last: int
) -> Recording:
    """The program with a deploy key of this number, after a run with the last one."""
    stack = {"type": "pulumi:pulumi:Stack", "outputs": {"deployKey": last}}
    config = {
        **config_of("Pulumi.sandbox.yaml"),
        "overlord:secretVersions": json.dumps({"deploy_key": number}),
    }
    return run_program(monkeypatch, tmp_path, config, last_state={"urn:pulumi:x::y": stack})


def test_a_raised_deploy_key_is_one_that_the_nodes_know_and_they_are_told_of_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = with_deploy_key(monkeypatch, tmp_path, 1, 1)
    after = with_deploy_key(monkeypatch, tmp_path, 2, 1)
    for node in NODES:
        apply = after.named(f"bootstrap-apply-{node}").inputs
        assert apply["connection"]["privateKey"] == "value-of-secrets-deploy-key-2"
        known = json.loads(before.named(f"bootstrap-apply-{node}").inputs["stdin"])
        told = json.loads(apply["stdin"])
        public = "ssh-ed25519 PUBLIC secrets-deploy-key"
        assert known["deploy_authorized_keys"] == f"{public}\n{public}-2\n"
        assert told["deploy_authorized_keys"] == f"{public}-2\n{public}-3\n"
    # Hetzner takes no second key of a name, and the old one goes last.
    names = [run.named("deploy-key").inputs["name"] for run in (before, after)]
    assert names == ["overlord-sandbox-deploy", "overlord-sandbox-deploy-2"]
    assert after.outputs["deployKey"] == 2


@pytest.mark.parametrize(("number", "last"), [(3, 1), (1, 2)])
def test_a_deploy_key_that_no_node_knows_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, last: int
) -> None:
    with pytest.raises(pulumi.RunError, match=f"the nodes know the keys {last} and {last + 1}"):
        with_deploy_key(monkeypatch, tmp_path, number, last)


@pytest.fixture
def with_second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recording:
    """The sandbox with a second repository for the database's backups."""
    config = config_of("Pulumi.sandbox.yaml")
    backup = json.loads(config["overlord:backup"])
    second = {
        "endpoint": "https://s3.us-west-004.backblazeb2.com",
        "region": "us-west-004",
        "bucketPrefix": "overlord-elsewhere",
    }
    config["overlord:backup"] = json.dumps({**backup, "second": second})
    for token in SECOND_TOKENS:
        monkeypatch.setenv(token.variable, f"token-{token.variable.lower()}")
    return run_program(monkeypatch, tmp_path, config)


def test_a_second_repository_is_one_more_bucket_under_the_same_lock_and_rules(
    sandbox: Recording, with_second: Recording
) -> None:
    more = inventory(with_second) - inventory(sandbox)
    assert more == {BUCKET: 1}
    first, second = with_second.named("store-data"), with_second.named("store-second-data")
    assert second.inputs["name"] == "overlord-elsewhere-data"
    assert first.options.protect
    assert not second.options.protect  # it can be switched off
    assert second.options.retainOnDelete
    assert second.inputs["account"] == "second"
    for same in ("lockDays", "lockMode", "lifecycle", "versioning", "encryption", "public"):
        assert second.inputs[same] == first.inputs[same]
    assert "account" not in first.inputs
    # Keys are in no resource's properties.
    assert "token-overlord_second" not in json.dumps(second.inputs)
    costs = [one.outputs["monthlyCost"]["total"] for one in (sandbox, with_second)]
    assert costs[1] > costs[0]


@pytest.mark.parametrize("node", NODES)
def test_the_key_of_the_second_repository_is_on_the_nodes_only_where_there_is_one(
    sandbox: Recording, with_second: Recording, node: str
) -> None:
    first, second = (
        json.loads(one.named(f"bootstrap-apply-{node}").inputs["stdin"])
        for one in (sandbox, with_second)
    )
    assert set(second) - set(first) == {"second_b2_key_id", "second_b2_key"}
    assert second["second_b2_key"] == "token-overlord_node_second_b2_key"
    assert second["second_b2_key_id"] == "token-overlord_node_second_b2_key_id"
