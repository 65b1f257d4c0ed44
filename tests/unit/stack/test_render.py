"""The rendered stack, read as the node's programs read it."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.sizing import SIZES, Size
from stack.alerting import AlertChannels, Slack
from stack.catalogue import CatalogueError, load_catalogue
from stack.limits import SERVICES, limits_for, workers_of
from stack.mirrors import GitMirror
from stack.render import (
    CONFIGURED_SERVICES,
    BackupRepository,
    StackContext,
    StackError,
    render_stack,
)
from tests.support.stack import VPS_01, VPS_02, context

NODES = pytest.mark.parametrize("node", [VPS_01, VPS_02], ids=["vps-01", "vps-02"])
TOOLS = {"migrate", "database-tool"}
# What a service is told in a file of its own, by its folder.
LISTENING = {
    "gitea": (Path("stack/gitea/app.ini.j2").read_text(), r"(?m)^HTTP_ADDR = (.*)$"),
    "openbao": (Path("stack/openbao/openbao.hcl.j2").read_text(), r'(?m)^  address = "(.*):\d+"$'),
}
SMALLEST_NODE_MB = min(size.memory_mb for size in SIZES.values())
TAILNET = re.compile(r"\$\{OVERLORD_TAILNET_IP(:\?[^}]*)?\}")


def compose_of(node: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(render_stack(node)["compose.yaml"])
    return document


def is_private(address: str) -> bool:
    """Whether an address is loopback or the tailnet's."""
    if TAILNET.fullmatch(address) or address == "TAILNET_ADDRESS":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def listen_addresses(service: dict[str, Any]) -> list[str]:
    """The addresses that a service on the host's network is told to listen on."""
    found = []
    for argument in service.get("command", []):
        if match := re.fullmatch(
            r"--(?:web|cluster)\.listen-address=(.*):\d+|-listen_ip=(.*)", argument
        ):
            found.append(match.group(1) or match.group(2))
        if match := re.fullmatch(r"listen_addresses=(.*)", argument):
            found += re.split(r",(?![^{]*\})", match.group(1))
    if address := service.get("environment", {}).get("GF_SERVER_HTTP_ADDR"):
        found.append(address)
    for folder in service.get("volumes", []):
        if told := LISTENING.get(folder.removeprefix("./").partition(":")[0]):
            found += re.findall(told[1], told[0])
    for name in ("OVERLORD_LISTEN", "OVERLORD_PEER_LISTEN"):
        if listen := service.get("environment", {}).get(name):
            found.append(listen.rpartition(":")[0])
    return found


def test_equal_contexts_render_equal_bytes_in_any_process() -> None:
    program = (
        "import hashlib; from tests.support.stack import VPS_01;"
        "from stack.render import render_stack;"
        "print(hashlib.sha256(repr(render_stack(VPS_01)).encode()).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1
    assert list(render_stack(VPS_01)) == sorted(render_stack(VPS_01))


@NODES
def test_nothing_but_nginx_listens_beyond_loopback_and_the_tailnet(node: Any) -> None:
    for name, service in compose_of(node)["services"].items():
        for port in service.get("ports", []):
            assert isinstance(port, str), f"{name} publishes in a form that this test cannot read"
            address = port.rsplit(":", 2)[0]
            assert address != port, f"{name} publishes {port} on every address"
            assert is_private(address), f"{name} publishes {port} on {address}"
        if service.get("network_mode") == "host" and name not in {"nginx", "database-tool"}:
            addresses = listen_addresses(service)
            assert addresses, f"{name} is on the host's network and names no address to listen on"
            for address in addresses:
                assert is_private(address), f"{name} listens on {address}"


def test_the_test_of_listeners_sees_what_is_public() -> None:
    for address in ("", "0.0.0.0", "[::]", "203.0.113.7", "*", "${SOMETHING}"):
        assert not is_private(address)
    for address in ("127.0.0.1", "[::1]", "${OVERLORD_TAILNET_IP}"):
        assert is_private(address)


@NODES
def test_nginx_listens_on_80_and_443_and_otherwise_on_loopback(node: Any) -> None:
    config = render_stack(node)["nginx/nginx.conf"].decode()
    listens = re.findall(r"^\s*listen\s+(\S+?);|^\s*listen\s+(\S+)\s", config, re.M)
    addresses = {first or second for first, second in listens}
    assert addresses == {"80", "[::]:80", "443", "[::]:443", "127.0.0.1:8081"}


def test_the_mirrors_are_listed_by_name_and_from_their_hosts_alone() -> None:
    mirrors = (
        GitMirror("config", "https://git.example.com/fleet/config.git"),
        GitMirror("images", "https://git.example.com:8443/images"),
        GitMirror("tools", "http://other.example.net/tools.git"),
    )
    files = render_stack(context(git_mirrors=mirrors))
    assert files["gitea/mirrors.list"].decode().splitlines() == [
        "config https://git.example.com/fleet/config.git",
        "images https://git.example.com:8443/images",
        "tools http://other.example.net/tools.git",
    ]
    config = files["gitea/app.ini"].decode()
    assert "ALLOWED_DOMAINS = git.example.com,other.example.net\n" in config


def test_grafana_can_be_left_out_and_nothing_of_it_stays() -> None:
    with_it, without = render_stack(VPS_01), render_stack(context(grafana=False))

    services = {
        name: set(yaml.safe_load(files["compose.yaml"])["services"])
        for name, files in (("with", with_it), ("without", without))
    }
    assert services["with"] - services["without"] == {"grafana"}
    assert b"grafana_" not in without["compose.yaml"] + without["secrets.json"]
    assert "grafana/dashboards/fleet.json" in with_it
    assert not any(name.startswith("grafana/") for name in without)
    assert b"grafana-data" not in without["compose.yaml"]
    assert b"upstream grafana" not in without["nginx/nginx.conf"]
    assert b"job_name: grafana" in with_it["prometheus/prometheus.yml"]
    assert b"job_name: grafana" not in without["prometheus/prometheus.yml"]


def test_openbao_is_off_by_default_and_nothing_of_it_is_there_then() -> None:
    without = render_stack(context(openbao=False))
    assert not any(name.startswith("openbao/") for name in without)
    for name in ("compose.yaml", "secrets.json", "prometheus/prometheus.yml"):
        assert b"openbao" in render_stack(VPS_01)[name]
        assert b"openbao" not in without[name], name
    assert not next(one.default for one in fields(StackContext) if one.name == "openbao")


def test_what_writes_to_the_database_asks_whether_it_may_by_one_script() -> None:
    files = render_stack(VPS_01)
    scripts = {name: body for name, body in files.items() if name.endswith("/while-leader.sh")}
    assert set(scripts) == {"gitea/while-leader.sh", "openbao/while-leader.sh"}
    assert len(set(scripts.values())) == 1


def test_grafana_reads_what_runs_beside_it_on_loopback() -> None:
    files = render_stack(VPS_01)
    sources = yaml.safe_load(files["grafana/provisioning/datasources/overlord.yaml"])["datasources"]
    compose = yaml.safe_load(files["compose.yaml"])["services"]
    assert {source["uid"]: source["url"] for source in sources} == {
        "prometheus": "http://127.0.0.1:9090",
        "loki": "http://127.0.0.1:3100",
        "alertmanager": "http://127.0.0.1:9093",
    }
    assert "--web.listen-address=127.0.0.1:9090" in compose["prometheus"]["command"]
    assert "127.0.0.1:3100:3100" in compose["loki"]["ports"]
    assert "--web.listen-address=127.0.0.1:9093" in compose["alertmanager"]["command"]


@NODES
def test_every_image_is_one_of_the_catalogue(node: Any) -> None:
    catalogue = load_catalogue()
    expected = {
        service: catalogue.reference(image.name, registry=node.registry)
        for image in catalogue.images.values()
        for service in image.used_by
    }
    images = {name: service["image"] for name, service in compose_of(node)["services"].items()}
    assert images == expected


@NODES
def test_every_service_has_limits_and_least_privilege(node: Any) -> None:
    services = compose_of(node)["services"]
    assert set(services) == set(SERVICES)
    for name, service in services.items():
        limits = node.limits[name]
        assert service["mem_limit"] == f"{limits.memory_mb}m", name
        assert service["memswap_limit"] == service["mem_limit"], name
        assert service["cpu_quota"] == int(limits.cpus * service["cpu_period"]), name
        assert service["pids_limit"] == limits.pids, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        # The journal has a size; what sends it on knows a service by this label.
        assert service["logging"]["driver"] == "journald", name
        assert service["logging"]["options"]["labels"] == "com.docker.compose.service", name
        assert "privileged" not in service, name
        if name != "nginx":
            assert "cap_add" not in service, name
    assert set(services["nginx"]["cap_add"]) == {"CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID"}


@NODES
def test_every_service_that_stays_has_a_health_check_and_restarts(node: Any) -> None:
    for name, service in compose_of(node)["services"].items():
        if name in TOOLS:
            assert service["restart"] == "no"
            assert service["profiles"] == ["tools"], f"{name} would start by itself"
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] == "CMD", name


@NODES
def test_no_service_runs_as_root_but_nginxs_master_and_cadvisor(node: Any) -> None:
    for name, service in compose_of(node)["services"].items():
        if name == "cadvisor":
            assert service["user"] == "0:0"
        elif name in {"nginx", "api"}:  # the API's image names its own user
            assert "user" not in service
        else:
            assert int(service["user"].split(":")[0]) > 0, name
    assert "USER 10001:10001" in Path("dashboard/Dockerfile").read_text()


@NODES
def test_the_limits_of_all_services_together_fit_the_node(node: Any) -> None:
    # The database's tool runs only while the database does not.
    memory = [limit.memory_mb for name, limit in node.limits.items() if name != "database-tool"]
    assert sum(memory) < SMALLEST_NODE_MB * 0.85


@pytest.mark.parametrize("size", SIZES.values(), ids=lambda size: str(size.fleet_size))
def test_nginx_takes_ten_thousand_connections_within_its_memory_and_its_open_files(
    size: Size,
) -> None:
    limit = limits_for(size.memory_mb, size.cores)["nginx"]
    workers = workers_of(limit)
    assert workers.count * workers.connections > 12_000
    assert workers.count * workers.connections * 42 <= limit.memory_mb * 1024
    assert workers.open_files == 2 * workers.connections <= 16_384
    rendered = render_stack(replace(VPS_01, limits={**VPS_01.limits, "nginx": limit}))
    config = rendered["nginx/nginx.conf"].decode()
    assert f"worker_processes {workers.count};" in config
    assert f"worker_connections {workers.connections};" in config
    assert f"worker_rlimit_nofile {workers.open_files};" in config
    nginx = yaml.safe_load(rendered["compose.yaml"])["services"]["nginx"]
    assert nginx["ulimits"] == {"nofile": workers.open_files}


def test_a_node_too_small_for_the_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="choose a larger server type"):
        limits_for(1024, 1)


@NODES
def test_secrets_come_from_files_that_the_node_is_told_of(node: Any) -> None:
    files = render_stack(node)
    compose = yaml.safe_load(files["compose.yaml"])
    listed = json.loads(files["secrets.json"])
    used = {name for service in compose["services"].values() for name in service.get("secrets", [])}

    assert used == set(compose["secrets"]) == set(listed["files"])
    for name, secret in compose["secrets"].items():
        assert secret == {"file": f"/etc/overlord/secrets/{name}"}
    for name, service in compose["services"].items():
        if service.get("secrets") and name != "nginx":
            assert service["group_add"] == [str(listed["gid"])], name


@NODES
def test_no_secret_is_in_any_rendered_file(node: Any) -> None:
    suspicious = re.compile(
        rb"(?i)(password|passwd|token|secret|api_?key)\s*[:=]\s*['\"]?[A-Za-z0-9+/_-]{12,}"
        rb"|-----BEGIN|://[^/\s:]+:[^/\s@]+@"
    )
    for name, content in render_stack(node).items():
        for match in suspicious.finditer(content):
            assert b"/run/secrets/" in content[match.start() : match.end() + 40], (name, match[0])
    for name, service in compose_of(node)["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET|KEY", variable):
                assert variable.endswith("_FILE"), (name, variable)
                assert value.startswith("/run/secrets/"), (name, variable)


def test_alertmanager_mounts_the_secrets_of_the_channels_in_use_and_no_other() -> None:
    quiet = compose_of(VPS_01)
    assert "secrets" not in quiet["services"]["alertmanager"]
    loud = context(alerts=AlertChannels(slack=Slack(), heartbeat=True))
    compose = compose_of(loud)
    names = ["alert_heartbeat_url", "alert_slack_url"]
    assert compose["services"]["alertmanager"]["secrets"] == names
    assert set(compose["secrets"]) - set(quiet["secrets"]) == set(names)
    assert set(json.loads(render_stack(loud)["secrets.json"])["files"]) == set(compose["secrets"])


def test_a_changed_rule_changes_prometheus_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    import shutil

    import stack.render

    before = compose_of(VPS_01)
    copy = tmp_path / "stack"
    shutil.copytree(stack.render.STACK_DIR, copy)
    rule = copy / "prometheus" / "rules" / "node.yml"
    rule.write_text(rule.read_text().replace("0.8", "0.85"))
    monkeypatch.setattr(stack.render, "STACK_DIR", copy)
    after = compose_of(VPS_01)

    changed = {
        name for name in before["services"] if before["services"][name] != after["services"][name]
    }
    assert changed == {"prometheus"}


def test_both_nodes_evaluate_the_same_rules() -> None:
    rules = [
        {name: content for name, content in render_stack(node).items() if "/rules/" in name}
        for node in (VPS_01, VPS_02)
    ]
    assert rules[0] == rules[1]
    assert rules[0]


def test_prometheus_keeps_by_time_and_by_size_and_cannot_be_stopped_over_http() -> None:
    command = compose_of(VPS_01)["services"]["prometheus"]["command"]
    assert "--storage.tsdb.retention.time=90d" in command
    assert "--storage.tsdb.retention.size=60GB" in command
    assert not any("enable-lifecycle" in flag for flag in command)
    # Snapshots need the admin API, which can delete as well: for the machine itself alone.
    assert "--web.enable-admin-api" in command
    assert [flag for flag in command if "listen-address" in flag] == [
        "--web.listen-address=127.0.0.1:9090"
    ]


@NODES
def test_prometheus_sends_alerts_to_both_alertmanagers_without_its_own_name(node: Any) -> None:
    config = yaml.safe_load(render_stack(node)["prometheus/prometheus.yml"])
    [group] = config["alerting"]["alertmanagers"]
    assert group["static_configs"][0]["targets"] == ["127.0.0.1:9093", f"{node.peer}:9093"]
    [kept, dropped] = config["alerting"]["alert_relabel_configs"]
    assert (kept["regex"], kept["target_label"]) == ("Watchdog;(.+)", "node")
    assert (dropped["action"], dropped["regex"]) == ("labeldrop", "replica")
    assert config["global"]["external_labels"]["replica"] == node.node


@NODES
def test_what_both_nodes_scrape_has_the_same_labels_on_both(node: Any) -> None:
    config = yaml.safe_load(render_stack(node)["prometheus/prometheus.yml"])
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert set(jobs) == {
        *("agent", "alertmanager", "api", "node", "prometheus"),
        *(
            "blackbox",
            "cadvisor",
            "gitea",
            "grafana",
            "loki",
            "openbao",
            "postgres",
            "probe-node",
            "probe-public",
        ),
        *("device", "device-netdata"),
    }
    for name in ("agent", "alertmanager", "node"):
        labels = {group["labels"]["node"] for group in jobs[name]["static_configs"]}
        assert labels == {"vps-01", "vps-02"}


@NODES
def test_the_way_in_is_probed_at_the_public_name_and_at_both_nodes(node: Any) -> None:
    files = render_stack(node)
    config = yaml.safe_load(files["prometheus/prometheus.yml"])
    modules = yaml.safe_load(files["blackbox/blackbox.yml"])["modules"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    targets = {
        (group["labels"]["instance"], target)
        for name in ("probe-public", "probe-node")
        for group in jobs[name]["static_configs"]
        for target in group["targets"]
    }
    assert targets == {
        ("fleet.example.com", "https://fleet.example.com/health"),
        (node.node, "https://127.0.0.1/health"),
        (node.peer, f"https://{node.peer}/health"),
    }
    for name in ("probe-public", "probe-node"):
        [module] = jobs[name]["params"]["module"]
        assert modules[module]["http"]["fail_if_not_ssl"] is True
    # Whoever visits checks the certificate of the edge, so the probe of it must too.
    assert "tls_config" not in modules["public"]["http"]


def test_every_device_is_found_through_the_api_and_scraped_within_limits() -> None:
    config = yaml.safe_load(render_stack(VPS_01)["prometheus/prometheus.yml"])
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for name, port in (("device", 9100), ("device-netdata", 19999)):
        [discovery] = jobs[name]["http_sd_configs"]
        assert discovery["url"] == f"http://127.0.0.1:8000/sd/devices?port={port}"
        for limit in ("sample_limit", "label_limit", "label_value_length_limit", "body_size_limit"):
            assert jobs[name][limit]
    assert jobs["device-netdata"]["params"] == {"format": ["prometheus"]}
    assert config["global"]["scrape_interval"] == "15s"


def test_the_peer_can_be_reached_by_another_name() -> None:
    files = render_stack(context(peer_address="vps-02.tail1234.ts.net"))
    assert b"vps-02.tail1234.ts.net:9093" in files["prometheus/prometheus.yml"]
    assert b"--cluster.peer=vps-02.tail1234.ts.net:9094" in files["compose.yaml"]


def test_client_addresses_are_believed_only_from_the_given_proxies() -> None:
    with_proxy = render_stack(VPS_01)["nginx/nginx.conf"].decode()
    without = render_stack(context(trusted_proxy_cidrs=()))["nginx/nginx.conf"].decode()

    assert re.findall(r"set_real_ip_from (\S+);", with_proxy) == [
        "173.245.48.0/20",
        "2400:cb00::/32",
    ]
    assert "real_ip_header CF-Connecting-IP;" in with_proxy
    assert "real_ip" not in without


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node": "VPS 01"}, "node: 'VPS 01'"),
        ({"peer": "vps-01"}, "is the node itself"),
        ({"public_name": "fleet.example.com; return 200"}, "public_name"),
        ({"domain": "example.com\n"}, "domain"),
        ({"environment": "a b"}, "environment"),
        ({"peer_address": "x y"}, "peer_address"),
        ({"retention_size": "60"}, "retention_size"),
        ({"retention_days": 0}, "retention_days"),
        ({"limits": {}}, "limits: none for postgres"),
        ({"trusted_proxy_cidrs": ("0.0.0.0/0",)}, "forge"),
        ({"trusted_proxy_cidrs": ("any",)}, "'any' is no network"),
    ],
)
def test_a_wrong_context_is_refused_by_the_name_of_its_field(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(StackError, match=re.escape(message)):
        context(**changes)


def test_without_any_registry_the_missing_one_is_named() -> None:
    with pytest.raises(CatalogueError, match="overlord/"):
        render_stack(context(registry=None))
    files = render_stack(context(registry=None, own_registry="ghcr.io/example"))
    assert b"image: docker.io/prom/prometheus:" in files["compose.yaml"]
    assert b"image: ghcr.io/example/overlord/api:" in files["compose.yaml"]


def test_every_configured_service_has_a_folder_and_a_hash() -> None:
    files = render_stack(VPS_01)
    services = compose_of(VPS_01)["services"]
    for service in CONFIGURED_SERVICES:
        assert any(name.startswith(f"{service}/") for name in files)
        assert re.fullmatch(r"[0-9a-f]{16}", services[service]["labels"]["net.overlord.config"])
    assert not any(".j2" in name or "__pycache__" in name for name in files)


SECOND = BackupRepository("https://s3.us-west-004.example.com:8443", "us-west-004", "b-data", 30)


def test_without_a_second_repository_nothing_of_one_is_rendered() -> None:
    for name, content in render_stack(VPS_01).items():
        assert b"second_b2" not in content, name
        assert b"repo2" not in content, name
        assert b"pgbackrest-repository" not in content, name
    assert "postgres/pgbackrest-repository" not in render_stack(VPS_01)


def test_a_second_repository_changes_the_archive_and_the_secrets_and_nothing_else() -> None:
    without, with_second = render_stack(VPS_01), render_stack(context(second_backup=SECOND))
    tool = with_second["postgres/pgbackrest-repository"].decode()
    for part in ("'s3.us-west-004.example.com:8443'", "'us-west-004'", "'b-data'"):
        assert tool.count(part) == 2
    assert b"pgbackrest-repository archive" in with_second["postgres/postgresql.conf"]
    changed = {name for name in with_second if with_second[name] != without.get(name)}
    assert changed == {
        "compose.yaml",
        "postgres/pgbackrest-repository",
        "postgres/postgresql.conf",
        "secrets.json",
    }
    more = set(json.loads(with_second["secrets.json"])["files"]) - set(
        json.loads(without["secrets.json"])["files"]
    )
    assert more == {"second_b2_key", "second_b2_key_id"}
    services = compose_of(context(second_backup=SECOND))["services"]
    users = {name for name, one in services.items() if more <= set(one.get("secrets", ()))}
    assert users == {"postgres", "database-tool"}


def test_a_second_repository_that_cannot_be_written_down_is_refused_by_its_field() -> None:
    with pytest.raises(StackError, match=r"second_backup\.bucket: 'a b'"):
        context(second_backup=replace(SECOND, bucket="a b"))
