"""A newcomer types `make up`: what they may rely on afterwards."""

from __future__ import annotations

import json
import re
import shutil
import time
import uuid
from datetime import UTC, datetime
from functools import partial

from sandbox.world import BRIDGE, PUBLIC_URL
from tests.e2e.sandbox_world import REPOSITORY, SandboxWorld, command, eventually

NODES = ("vps-01", "vps-02")
# Jobs of each node's Prometheus and their targets, but for the fleet's.
TARGETS = {
    "agent": 2,
    "alertmanager": 2,
    "api": 1,
    "blackbox": 1,
    "cadvisor": 1,
    "gitea": 1,
    "loki": 1,
    "node": 2,
    "postgres": 1,
    "probe-node": 2,
    "probe-public": 1,
    "prometheus": 1,
}
ALERTS = "http://127.0.0.1:9093/api/v2/alerts"
REPORTED = "select count(*) from device_latest where device_id = 'pi-e2e'"
BROWSERS = ("chromium", "google-chrome")


def enrol(pair: SandboxWorld, device: str) -> str:
    """Enrol a device; returns its token."""
    secrets = pair.output("adminSecrets")
    answer = pair.fetch(
        "/api/devices",
        method="POST",
        token=secrets["api_enrol_token"],
        body={"device_id": device, "name": device},
    )
    assert answer.code == 201, answer.text
    return str(json.loads(answer.text)["token"])


def test_both_nodes_are_healthy_and_their_first_boot_names_every_step(pair: SandboxWorld) -> None:
    for node in NODES:
        status = pair.status_of(node)
        assert status["healthy"] is True, status
        assert status["node"] == node
        steps = {step["name"]: step["state"] for step in status["boot"]["steps"]}
        assert len(steps) >= 8
        assert set(steps.values()) <= {"done", "skipped"}, steps
        assert "status: done" in pair.on_node(node, "cloud-init", "status", check=False).text


def test_the_public_url_answers_over_https_through_the_edge(pair: SandboxWorld) -> None:
    answer = pair.fetch("/health")
    assert answer.code == 200, answer.text
    assert json.loads(answer.text)["node"] == "vps-01"
    assert pair.fetch("/leader").code == 200


def test_each_node_reaches_the_arbiter_and_speaks_for_itself_alone(pair: SandboxWorld) -> None:
    url = pair.output("arbiterUrl")
    ask = (
        "printf 'Authorization: Bearer %s' \"$(cat /etc/overlord/secrets/arbiter_token)\" | "
        "curl -sS -H @- -w '\n%{http_code}' "
    )
    for node, other in (NODES, NODES[::-1]):
        state, code = pair.on_node(node, "sh", "-c", f"{ask} {url}/v1/state").text.split("\n")
        assert code == "200", state
        assert {"holder", "epoch", "replication", "steering"} <= set(json.loads(state))
        body = json.dumps({"node": other, "epoch": 1})
        renew = f"{ask} -d '{body}' {url}/v1/lease/renew"
        assert pair.on_node(node, "sh", "-c", renew).text.endswith("\n403")


def test_the_public_name_serves_the_dashboard_under_its_policy(pair: SandboxWorld) -> None:
    page = pair.fetch("/")
    assert page.code == 200, page.text
    assert '<div id="app">' in page.text
    for file in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert pair.fetch(file).code == 200, file


def test_the_dashboard_works_in_a_browser_with_live_data(pair: SandboxWorld) -> None:
    """The page's own tests against a running stack; their pictures stay in its test-artefacts."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert browser, f"none of {', '.join(BROWSERS)} is on PATH; `make browser` installs one"
    # The page says so when it is missing, and it comes with the first evaluation of the rules.
    eventually(
        "the Watchdog alert",
        lambda: "Watchdog" in pair.on_node("vps-01", "curl", "-s", ALERTS).text,
        120,
    )
    web = REPOSITORY / "dashboard" / "web"
    npm = ["npm", "--silent"]
    command([*npm, "ci", "--no-audit", "--no-fund"], cwd=web, timeout=300).must()
    run = command(
        [*npm, "run", "test:live"],
        cwd=web,
        env={
            "CHROMIUM": browser,
            "OVERLORD_URL": PUBLIC_URL,
            "OVERLORD_OPERATOR_TOKEN": pair.output("adminSecrets")["api_operator_token"],
        },
        timeout=300,
    ).must()
    print("\n".join(line for line in run.text.splitlines() if "from a post" in line), flush=True)


def test_only_the_primary_is_leader(pair: SandboxWorld) -> None:
    leader = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:9600/leader")
    assert pair.on_node("vps-01", *leader).text == "200"
    assert pair.on_node("vps-02", *leader).text == "503"


def test_a_status_posted_to_the_public_name_is_in_the_primarys_database(
    pair: SandboxWorld,
) -> None:
    token = enrol(pair, "pi-e2e")
    event = str(uuid.uuid4())
    answer = pair.fetch(
        "/api/status",
        method="POST",
        token=token,
        body={
            "device_id": "pi-e2e",
            "event_id": event,
            "event_time": datetime.now(UTC).isoformat(),
            "status": "ok",
        },
    )
    assert answer.code in (200, 201), answer.text
    assert pair.query("vps-01", f"{REPORTED} and event_id = '{event}'") == "1"


def test_a_devices_log_lines_come_in_over_the_mesh_and_out_of_the_api(
    pair: SandboxWorld,
) -> None:
    address = pair.on_node("vps-01", "tailscale", "ip", "-4").text.strip()
    gate = f"http://{address}:3100"
    code = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}")
    line = f"lamp {uuid.uuid4()} is on"
    stream = {"device": "pi-e2e", "job": "journal"}
    body = {"streams": [{"stream": stream, "values": [[str(time.time_ns()), line]]}]}
    pushed = pair.on_node(
        "vps-02", *code, "-H", "Content-Type: application/json", "--data", json.dumps(body),
        f"{gate}/loki/api/v1/push",
    )  # fmt: skip
    assert pushed.text == "204"
    assert pair.on_node("vps-02", *code, f"{gate}/loki/api/v1/labels").text == "404"

    def lines() -> list[str]:
        token = pair.output("adminSecrets")["api_operator_token"]
        answer = pair.fetch("/api/devices/pi-e2e/logs", token=token)
        assert answer.code == 200, answer.text
        return [item["line"] for item in json.loads(answer.text)["items"]]

    assert eventually("the line in the API", lines, 15) == [line]


def test_the_logs_of_both_nodes_are_in_the_loki_of_each(pair: SandboxWorld) -> None:
    def found(asked: str, node: str, selector: str) -> bool:
        text = pair.on_node(
            asked, "curl", "-sG", "http://127.0.0.1:3100/loki/api/v1/query_range",
            "--data-urlencode", f'query={{node="{node}", {selector}}}', "--data", "since=2h",
        ).text  # fmt: skip
        return bool(json.loads(text)["data"]["result"])

    for asked in NODES:
        for node in NODES:
            for selector in (
                'service="api"',
                'service="postgres"',
                'unit="overlord-agent.service"',
            ):
                what = f"{selector} of {node} in the Loki of {asked}"
                eventually(what, partial(found, asked, node, selector), 120)


def test_the_standby_streams_in_sync_and_has_the_status_too(pair: SandboxWorld) -> None:
    eventually(
        "synchronous replication",
        lambda: pair.query("vps-01", "select sync_state from pg_stat_replication") == "sync",
        60,
    )
    assert pair.query("vps-02", "select pg_is_in_recovery()") == "t"
    assert pair.query("vps-02", REPORTED) == "1"


def test_replication_shows_a_certificate_and_comes_over_the_mesh(pair: SandboxWorld) -> None:
    row = pair.query(
        "vps-01",
        "select ssl, client_addr << '100.64.0.0/10' from pg_stat_ssl "
        "join pg_stat_replication using (pid)",
    )  # fmt: skip
    assert row == "t|t"
    conninfo = pair.query("vps-02", "select current_setting('primary_conninfo')")
    assert "sslmode=verify-full" in conninfo
    assert "password=" not in conninfo


def test_the_nodes_reach_each_other_over_the_mesh(pair: SandboxWorld) -> None:
    answer = pair.on_node("vps-01", "tailscale", "ping", "--c", "3", "--timeout", "10s", "vps-02")
    assert "pong from vps-02" in answer.text


def test_every_job_of_prometheus_is_up_on_both_nodes(pair: SandboxWorld) -> None:
    def table(node: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for labels, value in pair.ask_prometheus(node, 'up{job!~"device.*"}'):
            found.setdefault(labels["job"], []).append(value)
        return found

    def all_up(node: str) -> bool:
        wanted = {job: ["1"] * count for job, count in TARGETS.items()}
        # It runs where the database takes writes, and rests on the other node.
        return table(node) == wanted | {"gitea": ["1" if node == "vps-01" else "0"]}

    for node in NODES:
        try:
            eventually(f"targets of {node}", partial(all_up, node), 90)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{table(node)}") from None


def test_the_way_in_answers_both_nodes_probes_and_its_certificates_have_an_end(
    pair: SandboxWorld,
) -> None:
    for node in NODES:
        for metric, wanted in (("probe_success", 3), ("probe_ssl_earliest_cert_expiry", 3)):
            samples = pair.ask_prometheus(node, metric)
            assert len(samples) == wanted, samples
            for labels, value in samples:
                limit = 0 if metric == "probe_success" else time.time()
                assert float(value) > limit, (node, metric, labels)


def test_every_container_is_seen_with_its_limit(pair: SandboxWorld) -> None:
    for node in NODES:
        listed = pair.on_node(node, "docker", "ps", "--format", "{{.Names}}").text.split()
        used, limits = (
            {
                labels["name"]: float(value)
                for labels, value in pair.ask_prometheus(node, f'container_{metric}{{name!=""}}')
            }
            for metric in ("memory_working_set_bytes", "spec_memory_limit_bytes")
        )
        assert set(listed) <= set(used), (listed, sorted(used))
        for name in listed:
            assert 0 < used[name] < limits[name], (node, name)
            print(f"{node} {name:40} {used[name] / 2**20:7.0f} of {limits[name] / 2**20:5.0f} MiB")


def test_installed_files_are_as_they_were_and_no_process_is_out_of_place(
    pair: SandboxWorld,
) -> None:
    for node in NODES:
        assert "as they were installed" in pair.on_node(node, "overlordctl", "files").text
        timer = pair.on_node(node, "systemctl", "is-active", "overlord-files.timer")
        assert timer.text.strip() == "active"
        status = pair.status_of(node)
        assert status["file_check"]["changed"] == 0
        assert status["processes_out_of_place"] == []


def test_nothing_but_nginx_and_ssh_answers_from_outside(pair: SandboxWorld) -> None:
    for details in pair.output("nodes").values():
        address = details["ipv4"]
        # From the administrator's address: SSH only, since the web is for the edge.
        open_ports = {
            port
            for port in (22, 80, 443, 3000, 3100, 5432, 8000, 9090, 9093, 9100, 9600, 9601)
            if command(
                ["timeout", "2", "bash", "-c", f"</dev/tcp/{address}/{port}"], timeout=10
            ).code
            == 0
        }
        assert open_ports == {22}, open_ports


def test_a_second_up_reports_no_change_and_its_preview_is_quick(pair: SandboxWorld) -> None:
    run = pair.pulumi("preview", "--expect-no-changes").must()
    print(f"\npreview without a change: {run.seconds:.1f} s", flush=True)
    again = pair.up().must()
    assert "unchanged" in again.text
    assert not any(word in again.text for word in (" created", " updated", " replaced", " deleted"))


def test_no_secret_is_readable_in_plain_outputs_or_in_user_data_that_still_works(
    pair: SandboxWorld,
) -> None:
    secrets = [value for value in pair.output("adminSecrets").values() if isinstance(value, str)]
    plain = pair.pulumi("stack", "output", "--json").must().text
    state = pair.pulumi("stack", "export").must().text
    for secret in secrets:
        assert secret not in plain
        assert json.dumps(secret)[1:-1] not in state
    for node in NODES:
        arguments = pair.on_node(node, "ps", "-eo", "args").text
        assert not any(secret in arguments for secret in secrets)


def test_the_servers_hang_on_the_sandboxs_own_bridge(pair: SandboxWorld) -> None:
    assert command(["ip", "link", "show", BRIDGE], timeout=5).code == 0
    for server in pair.servers().values():
        assert server["public_net"]["ipv4"]["ip"].startswith("198.51.100.")
