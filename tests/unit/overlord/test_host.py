"""What the machine below the containers should look like."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from overlord import host
from overlord.actions import host as host_actions
from overlord.commands.accounts import Accounts
from overlord.commands.compose import Compose
from overlord.commands.tailscale import Tailscale
from overlord.errors import OverlordError
from overlord.node import Node, parse_node, read_boot_settings
from overlord.paths import Paths
from overlord.runner import Result
from overlord.software import Need, docker_repository, missing, needs, parse_os_release
from tests.unit.overlord.fakes import FakeRunner, write_boot


@pytest.fixture
def node(tmp_path: Path) -> Node:
    boot = read_boot_settings(write_boot(tmp_path))
    return parse_node({"node": "vps-01", "role": "primary"}, boot)


SHOWN = """Added user rules (see 'ufw status' for running firewall):
ufw allow 80/tcp comment 'overlord: redirect to https'
ufw allow 443/tcp comment 'overlord: https'
ufw allow 41641/udp comment 'overlord: wireguard'
ufw allow in on tailscale0 comment 'overlord: tailnet'
ufw allow from 203.0.113.0/24 to any port 22 proto tcp comment 'overlord: ssh'
ufw allow 9999/tcp comment 'by hand'
ufw allow 7777/tcp
"""


def test_a_firewall_as_it_should_be_is_left_alone(node: Node) -> None:
    wanted = host.firewall_rules(node)
    assert host.firewall_commands(wanted, host.parse_added_rules(SHOWN), up=True) == ()


def test_a_firewall_that_is_off_is_turned_on(node: Node) -> None:
    commands = host.firewall_commands(
        host.firewall_rules(node), host.parse_added_rules(SHOWN), up=False
    )
    assert [command.line for command in commands] == [
        "ufw default deny incoming",
        "ufw default allow outgoing",
        "ufw --force enable",
    ]


def test_a_new_admin_network_opens_before_the_old_one_closes(node: Node) -> None:
    moved = replace(node, admin_cidrs=("198.51.100.7/32", "2001:db8::1/64"))
    lines = [
        command.line
        for command in host.firewall_commands(
            host.firewall_rules(moved), host.parse_added_rules(SHOWN), up=True
        )
    ]
    opened = "ufw allow from 198.51.100.7 to any port 22 proto tcp comment overlord: ssh"
    closed = "ufw delete allow from 203.0.113.0/24 to any port 22 proto tcp"
    assert lines.index(opened) < lines.index(closed)
    assert any("from 2001:db8::/64 to any" in line for line in lines)


def test_rules_of_an_administrator_are_not_ours_to_remove(node: Node) -> None:
    commands = host.firewall_commands((), host.parse_added_rules(SHOWN), up=True)
    assert not any("9999" in one.line or "7777" in one.line for one in commands)


def test_without_ipv6_there_is_no_rule_for_it(node: Node) -> None:
    both = replace(node, admin_cidrs=("203.0.113.0/24", "2001:db8::/32"))
    rules = host.firewall_rules(both, ipv6=False)
    assert not any("2001:db8::/32" in rule.arguments for rule in rules)


def test_ssh_from_anywhere_is_in_no_rule(node: Node) -> None:
    for rule in host.firewall_rules(node):
        assert rule.arguments not in (("22/tcp",), ("22",))


def test_sshd_takes_keys_of_two_users_and_nothing_else(node: Node, tmp_path: Path) -> None:
    boot = read_boot_settings(write_boot(tmp_path))
    (file,) = host.ssh_area(node, boot).files
    text = file.content.decode()
    assert "AllowUsers fleetadmin overlord-deploy\n" in text
    assert "PermitRootLogin no\n" in text
    assert "PasswordAuthentication no\n" in text
    # sshd takes the first value it reads, and cloud-init writes 50-cloud-init.conf.
    assert file.path < "etc/ssh/sshd_config.d/50-cloud-init.conf"


def test_docker_keeps_what_we_do_not_set() -> None:
    (file,) = host.docker_area({"storage-driver": "overlay2", "live-restore": False}).files
    settings = json.loads(file.content)
    assert settings["storage-driver"] == "overlay2"
    assert settings["live-restore"] is True


def test_dockers_networks_stay_clear_of_the_tailnet() -> None:
    import ipaddress

    (file,) = host.docker_area({}).files
    tailnet = ipaddress.ip_network("100.64.0.0/10")
    for pool in json.loads(file.content)["default-address-pools"]:
        assert not ipaddress.ip_network(pool["base"]).overlaps(tailnet)


def test_time_comes_from_several_servers_of_which_two_must_agree(node: Node) -> None:
    text = host.time_area(node).files[0].content.decode()
    assert text.count("iburst") == 3
    assert "minsources 2" in text


def test_every_line_of_the_sysctl_file_is_a_setting() -> None:
    settings = host.sysctl_settings(host.sysctl_area().files[0].content.decode())
    assert ("net.ipv4.ip_nonlocal_bind", "1") in settings
    assert all(key and value and " " not in key for key, value in settings)


def test_settings_that_the_kernel_refuses_are_named_and_the_rest_is_set(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/vm").mkdir(parents=True)
    paths = write_boot(tmp_path)
    refused = host_actions.set_sysctls("vm.swappiness = 10\nnot.there = 1\n", paths)
    assert refused == ["not.there"]
    assert (tmp_path / "proc/sys/vm/swappiness").read_text() == "10"


def area(content: bytes = b"new", **changes: object) -> host.Area:
    base = host.Area("x", (host.HostFile("etc/x.conf", content),))
    return replace(base, **changes)  # type: ignore[arg-type]


def test_converging_twice_changes_nothing_the_second_time(tmp_path: Path, node: Node) -> None:
    paths, runner = write_boot(tmp_path), FakeRunner()
    changing = host.ssh_area(node, read_boot_settings(paths))
    assert host_actions.converge(changing, paths, runner)
    runner.commands.clear()
    assert not host_actions.converge(changing, paths, runner)
    assert runner.commands == []


def test_settings_that_fail_their_check_are_taken_back(tmp_path: Path, node: Node) -> None:
    paths = write_boot(tmp_path)
    runner = FakeRunner({"sshd -t": Result(255, errors="bad option")})
    with pytest.raises(OverlordError, match="bad option"):
        host_actions.converge(host.ssh_area(node, read_boot_settings(paths)), paths, runner)
    assert not (tmp_path / "etc/ssh/sshd_config.d/10-overlord.conf").exists()
    assert not runner.ran("ssh.service")


def test_a_unit_that_runs_is_not_started_again() -> None:
    runner = FakeRunner()
    host_actions.ensure_running("docker.service", runner, "")
    assert not runner.ran("enable --now")
    runner.answers = {"is-enabled": Result(1)}
    host_actions.ensure_running("docker.service", runner, "")
    assert runner.ran("systemctl enable --now docker.service")


@pytest.mark.parametrize(
    ("distribution", "codename", "package"),
    [("ubuntu", "noble", "docker-compose-v2"), ("debian", "bookworm", "docker-compose-plugin")],
)
def test_compose_version_2_has_a_source_on_both_distributions(
    distribution: str, codename: str, package: str
) -> None:
    wanted = needs(distribution, codename)  # type: ignore[arg-type]
    (compose,) = [need for need in wanted if need.program == "docker-compose"]
    assert package in compose.packages


def test_only_what_is_missing_is_installed() -> None:
    wanted = (Need("docker", ("docker.io",)), Need("chronyd", ("chrony",), None, True))
    assert missing(wanted, lambda _: False, container=False) == wanted
    assert missing(wanted, lambda _: False, container=True) == wanted[:1]
    assert missing(wanted, lambda _: True, container=False) == ()


def test_a_module_of_python_is_looked_for_where_python_looks() -> None:
    assert host_actions.present(Need("json", ("python3",), module=True))
    assert not host_actions.present(Need("no_such_module", ("python3-none",), module=True))


def test_a_repository_with_another_key_is_refused(tmp_path: Path) -> None:
    paths = write_boot(tmp_path)
    runner = FakeRunner({"gpg": Result(0, "fpr:::::::::" + "0" * 40 + ":\n")})
    need = Need("docker", ("docker-ce",), docker_repository("debian", "bookworm"))
    with pytest.raises(OverlordError, match="signing key"):
        host_actions.install((need,), paths, runner, lambda _: b"key")
    assert not runner.ran("apt-get")
    assert not list((tmp_path / "usr/share/keyrings").iterdir())


def test_a_repository_with_its_key_is_added_and_used(tmp_path: Path) -> None:
    paths = write_boot(tmp_path)
    repository = docker_repository("debian", "bookworm")
    runner = FakeRunner({"gpg": Result(0, f"fpr:::::::::{repository.key_fingerprint}:\n")})
    need = Need("docker", ("docker-ce",), repository)
    key = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
    assert host_actions.install((need,), paths, runner, lambda _: key) == ["docker-ce"]
    line = (tmp_path / "etc/apt/sources.list.d/docker.list").read_text()
    assert "signed-by=/usr/share/keyrings/docker-archive-keyring.asc" in line
    assert "bookworm stable" in line
    assert runner.ran("install --no-install-recommends docker-ce")


def test_os_release_is_read_with_and_without_quotes() -> None:
    text = 'ID=ubuntu\nVERSION_CODENAME="noble"\nNAME="Ubuntu"\n'
    assert parse_os_release(text) == ("ubuntu", "noble")


def test_a_password_hash_is_on_no_command_line() -> None:
    command = Accounts().set_password_hash("admin", "$6$salt$hash")
    assert "$6$" not in command.line
    assert "$6$" not in repr(command)
    assert command.stdin == b"admin:$6$salt$hash\n"


def test_the_tailnet_key_is_on_no_command_line(tmp_path: Path) -> None:
    command = Tailscale().up(tmp_path / "key", "vps-01", "https://headscale.example.com")
    assert f"--auth-key=file:{tmp_path}/key" in command.args
    assert "--login-server=https://headscale.example.com" in command.args


def test_compose_commands_name_project_file_and_environment(tmp_path: Path) -> None:
    compose = Compose(tmp_path / "compose.yaml", tmp_path / "compose.env")
    for command in (compose.up(), compose.pull(), compose.validate(), compose.stop()):
        assert command.args[:4] == ("docker", "compose", "--project-name", "overlord")
        assert f"--file {tmp_path}/compose.yaml" in command.line
        assert f"--env-file {tmp_path}/compose.env" in command.line


def test_the_deploy_keys_of_today_are_let_in_and_no_older_one(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.secrets.mkdir(parents=True)
    home = tmp_path / "home/overlord-deploy/.ssh"
    home.mkdir(parents=True)
    file = home / "authorized_keys"
    file.write_text("restrict ssh-ed25519 OLD\n")
    host_actions.authorise("overlord-deploy", paths)
    assert file.read_text() == "restrict ssh-ed25519 OLD\n", "no document, no change"
    (paths.secrets / "deploy_authorized_keys").write_text("ssh-ed25519 TWO\nssh-ed25519 THREE\n")
    host_actions.authorise("overlord-deploy", paths)
    assert file.read_text() == "restrict ssh-ed25519 TWO\nrestrict ssh-ed25519 THREE\n"
    assert file.stat().st_mode & 0o777 == 0o644
