"""What the machine below the containers should look like: files, and what to do when they change.

Pure: areas are computed here, and carried out in actions/.
"""

import ipaddress
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from overlord.commands.accounts import Accounts
from overlord.commands.systemd import Systemd
from overlord.commands.ufw import Ufw
from overlord.node import BootSettings, Node
from overlord.runner import Command

_ETC = Path(__file__).parent / "etc"
_UNITS = Path(__file__).parent / "systemd"

AGENT_UNIT = "overlord-agent.service"
STACK_UNIT = "overlord-stack.service"
GUARD_UNIT = "overlord-metadata-guard.service"
CERTIFICATE_UNIT = "overlord-certificate.service"
CERTIFICATE_TIMER = "overlord-certificate.timer"
LOGS_UNIT = "overlord-logs.service"
FILES_UNIT = "overlord-files.service"
FILES_TIMER = "overlord-files.timer"
BACKUP_TIMERS = ("overlord-backup.timer", "overlord-restore-test.timer")
BACKUP_UNITS = (*BACKUP_TIMERS, "overlord-backup.service", "overlord-restore-test.service")

SYSCTL_FILE = "etc/sysctl.d/60-overlord.conf"
DOCKER_FILE = "etc/docker/daemon.json"

COMMENT = "overlord: "
"""Marks our ufw rules, so that those of an administrator are left alone."""


@dataclass(frozen=True)
class HostFile:
    """A file of the machine."""

    path: str
    """Relative to the root."""
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Area:
    """Files that belong together."""

    name: str
    files: tuple[HostFile, ...]
    before_use: tuple[Command, ...] = ()
    """Checks of the new files; if one fails, the old files come back."""
    after_change: tuple[Command, ...] = ()
    running: tuple[str, ...] = ()
    """Units that run now and from each boot on."""
    remedy: str = "read the step's log, then run `sudo overlord-launch run`"


def text(name: str, **values: object) -> bytes:
    """A file of overlord/etc with its $names filled in."""
    template = Template((_ETC / name).read_text(encoding="utf-8"))
    return template.substitute({key: str(value) for key, value in values.items()}).encode()


def sysctl_settings(content: str) -> tuple[tuple[str, str], ...]:
    """Key and value of each line of a sysctl file."""
    lines = (line.partition("#")[0].strip() for line in content.splitlines())
    pairs = (line.partition("=") for line in lines if line)
    return tuple((key.strip(), value.strip()) for key, _, value in pairs)


def sysctl_area() -> Area:
    """Kernel settings; the values themselves are set one by one, see actions."""
    return Area("sysctl", (HostFile(SYSCTL_FILE, text("sysctl.conf")),))


def ssh_area(node: Node, boot: BootSettings) -> Area:
    """Keys only, no root, two users."""
    content = text(
        "sshd.conf",
        ssh_port=node.ssh_port,
        admin_user=node.admin_user,
        deploy_user=boot.deploy_user,
    )
    return Area(
        "ssh",
        (HostFile("etc/ssh/sshd_config.d/10-overlord.conf", content),),
        before_use=(Accounts().test_sshd(),),
        after_change=(Systemd().reload("ssh.service"),),
        remedy="the old sshd settings are back; check overlord:adminUser in the Pulumi config",
    )


def time_area(node: Node) -> Area:
    """chrony with several servers."""
    servers = "\n".join(f"server {server} iburst" for server in node.ntp_servers)
    minimum = 2 if len(node.ntp_servers) > 2 else 1
    return Area(
        "time",
        (
            HostFile(
                "etc/chrony/chrony.conf", text("chrony.conf", servers=servers, minimum=minimum)
            ),
        ),
        after_change=(Systemd().restart("chrony.service"),),
        running=("chrony.service",),
    )


def fail2ban_area(node: Node) -> Area:
    """Bans addresses that fail to log in."""
    content = text("fail2ban.conf", ssh_port=node.ssh_port)
    return Area(
        "fail2ban",
        (HostFile("etc/fail2ban/jail.d/overlord.local", content),),
        after_change=(Systemd().restart("fail2ban.service"),),
        running=("fail2ban.service",),
    )


def updates_area() -> Area:
    """Security updates by themselves, reboots never."""
    content = text("unattended-upgrades.conf")
    return Area("updates", (HostFile("etc/apt/apt.conf.d/52overlord", content),))


def journal_area() -> Area:
    """The journal: on disk, within a size, and open to what containers say."""
    return Area(
        "journal",
        (HostFile("etc/systemd/journald.conf.d/overlord.conf", text("journald.conf")),),
        after_change=(Systemd().restart("systemd-journald.service"),),
    )


def docker_area(existing: dict[str, Any]) -> Area:
    """dockerd's settings over what is there already."""
    ours = {
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "5"},
        # Containers outlive a restart of dockerd, so its upgrade is no outage.
        "live-restore": True,
        # Apart from the tailnet (100.64.0.0/10) and from Hetzner's private networks (10.0.0.0/8).
        "default-address-pools": [{"base": "172.30.0.0/16", "size": 24}],
        # A port published without an address stays on loopback.
        "ip": "127.0.0.1",
    }
    content = json.dumps({**existing, **ours}, indent=1, sort_keys=True).encode() + b"\n"
    return Area(
        "docker",
        (HostFile(DOCKER_FILE, content),),
        after_change=(Systemd().restart("docker.service"),),
        running=("docker.service",),
        remedy="see `journalctl -u docker`, then run `sudo overlord-launch run`",
    )


def tool_area() -> Area:
    """The command line tool."""
    return Area("tool", (HostFile("usr/local/bin/overlordctl", text("overlordctl"), 0o755),))


def unit_area(*units: str) -> Area:
    """Our systemd units."""
    files = tuple(
        HostFile(f"etc/systemd/system/{unit}", (_UNITS / unit).read_bytes()) for unit in units
    )
    return Area("units", files, after_change=(Systemd().daemon_reload(),))


@dataclass(frozen=True)
class FirewallRule:
    """An allowed way in, as ufw's arguments."""

    arguments: tuple[str, ...]
    comment: str


def firewall_rules(node: Node, ipv6: bool = True) -> tuple[FirewallRule, ...]:
    """All that may come in. Hetzner's firewall before this one narrows 80 and 443 further."""
    ssh = tuple(
        FirewallRule(
            ("from", _plain(cidr), "to", "any", "port", str(node.ssh_port), "proto", "tcp"), "ssh"
        )
        for cidr in node.admin_cidrs
        if ipv6 or ipaddress.ip_network(cidr, strict=False).version == 4
    )
    return (
        FirewallRule(("80/tcp",), "redirect to https"),
        FirewallRule(("443/tcp",), "https"),
        FirewallRule(("41641/udp",), "wireguard"),
        # The tailnet's policy says who may reach what.
        FirewallRule(("in", "on", "tailscale0"), "tailnet"),
        *ssh,
    )


def _plain(cidr: str) -> str:
    # ufw drops the length of a single address and host bits, so we compare like with like.
    network = ipaddress.ip_network(cidr, strict=False)
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def parse_added_rules(output: str) -> tuple[FirewallRule, ...]:
    """Our own rules from `ufw show added`."""
    found = []
    for line in output.splitlines():
        words = shlex.split(line) if line.startswith("ufw allow ") else []
        if "comment" not in words:
            continue
        cut = words.index("comment")
        comment = " ".join(words[cut + 1 :])
        if comment.startswith(COMMENT):
            found.append(FirewallRule(tuple(words[2:cut]), comment.removeprefix(COMMENT)))
    return tuple(found)


def firewall_commands(
    wanted: tuple[FirewallRule, ...], added: tuple[FirewallRule, ...], up: bool
) -> tuple[Command, ...]:
    """From the rules that are to those that should be; nothing when they are and ufw is up.

    New ways in open before old ones close.
    """
    ufw = Ufw()
    have = {rule.arguments for rule in added}
    want = {rule.arguments for rule in wanted}
    if up and have == want:
        return ()
    return (
        ufw.default("deny", "incoming"),
        ufw.default("allow", "outgoing"),
        *(
            ufw.allow(rule.arguments, f"{COMMENT}{rule.comment}")
            for rule in wanted
            if rule.arguments not in have
        ),
        *(ufw.delete(rule.arguments) for rule in added if rule.arguments not in want),
        ufw.enable(),
    )
