"""What a server's container is given, and what its firewall lets in."""

from __future__ import annotations

from pathlib import Path

import yaml

from sandbox.machines.docker import (
    CAPABILITIES,
    NEEDED,
    capabilities,
    create_command,
    firewall,
    limits,
    meta_data,
)
from sandbox.machines.driver import FirewallRule, MachineSpec

GIB = 2**30
ALL = 2 ** len(CAPABILITIES) - 1


def spec(ipv4: str | None = "198.51.100.10", ipv6: str | None = "2001:db8:0:1::/64") -> MachineSpec:
    return MachineSpec(
        id=7,
        name="vps-01",
        server_type="cx33",
        cores=4,
        memory_gb=8,
        disk_gb=80,
        image="debian-12",
        location="fsn1",
        ipv4=ipv4,
        ipv6=ipv6,
        user_data="#cloud-config\n",
        ssh_keys=("ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"),
        labels={},
    )


def command(server: MachineSpec) -> list[str]:
    return create_command(server, Path("/seed"), ["SYS_ADMIN"], cpu_count=2, memory_bytes=20 * GIB)


def test_a_server_gets_its_fixed_address_and_limits() -> None:
    words = command(spec())
    assert "--ip=198.51.100.10" in words
    assert "--cpu-quota=-1" in words, "all processors, where the server has more of them"
    assert f"--memory={8 * GIB}" in words
    assert f"--memory-swap={8 * GIB}" in words, "no swap"
    assert words[-1] == "overlord-sandbox/server:debian-12"


def test_a_server_is_never_privileged_and_cannot_reach_this_machines_control_groups() -> None:
    words = command(spec())
    assert not any(word.startswith("--privileged") for word in words)
    assert "--cgroupns=private" in words
    assert not any("/sys/fs/cgroup" in word for word in words)


def test_a_server_without_an_ipv4_address_has_no_network() -> None:
    words = command(spec(ipv4=None))
    assert "--network=none" in words
    assert not any(word.startswith("--ip=") for word in words)
    assert "--label=overlord.server.ipv6=" in words


def test_a_server_smaller_than_this_machine_is_held_to_its_cores() -> None:
    assert "--cpu-quota=200000" in limits(2, 4, cpu_count=8, memory_bytes=64 * GIB)


def test_memory_is_capped_to_a_share_of_this_machine() -> None:
    assert f"--memory={8 * GIB}" in limits(1, 32, cpu_count=8, memory_bytes=10 * GIB)


def test_a_server_cannot_set_the_clock_or_load_modules() -> None:
    granted = set(capabilities(ALL))
    assert not granted & {"SYS_TIME", "SYS_MODULE", "MAC_ADMIN"}
    assert granted >= NEEDED


def test_a_capability_that_this_machine_lacks_is_not_asked_for() -> None:
    bit = CAPABILITIES.index("SYS_RESOURCE")
    assert "SYS_RESOURCE" in capabilities(ALL)
    assert "SYS_RESOURCE" not in capabilities(ALL & ~(1 << bit))


def test_meta_data_names_the_server_and_its_keys() -> None:
    document = yaml.safe_load(meta_data(spec()))
    assert document["instance-id"] == "7"
    assert document["local-hostname"] == "vps-01"
    assert document["public-keys"] == ["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"]


def test_a_firewall_without_rules_drops_everything_but_answers() -> None:
    lines = firewall((), 4).splitlines()
    assert [line for line in lines if "ACCEPT" in line] == [
        "-A SANDBOX-FIREWALL -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    ]
    assert lines[-2] == "-A SANDBOX-FIREWALL -j DROP"


def test_no_firewall_means_open() -> None:
    text = firewall(None, 4)
    assert ":SANDBOX-FIREWALL" in text, "an earlier firewall is emptied"
    assert "DROP" not in text


def test_each_rule_becomes_a_line_for_each_source_of_its_family() -> None:
    rules = (
        FirewallRule("tcp", "443", ("0.0.0.0/0", "::/0")),
        FirewallRule("udp", "41641-41650", ("198.51.100.0/24",)),
        FirewallRule("tcp", "any", ("192.0.2.1/32",)),
        FirewallRule("icmp", None, ("0.0.0.0/0", "::/0")),
    )
    four = firewall(rules, 4)
    assert "-s 0.0.0.0/0 -p tcp --dport 443 -j ACCEPT" in four
    assert "-s 198.51.100.0/24 -p udp --dport 41641:41650 -j ACCEPT" in four
    assert "-s 192.0.2.1/32 -p tcp -j ACCEPT" in four
    assert "-p icmp -j ACCEPT" in four
    assert "::/0" not in four
    six = firewall(rules, 6)
    assert "-s ::/0 -p tcp --dport 443 -j ACCEPT" in six
    assert "-s ::/0 -p ipv6-icmp -j ACCEPT" in six
    assert "0.0.0.0/0" not in six


def test_neighbour_discovery_always_passes() -> None:
    assert "--icmpv6-type 135 -j ACCEPT" in firewall((), 6)
