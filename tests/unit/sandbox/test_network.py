"""Nothing leaves the servers' network, and it is not laid over one that is in use."""

from __future__ import annotations

import pytest

from sandbox.machines.network import conflicts, create_command, jumps, rules
from sandbox.world import BRIDGE, GATEWAY, SUBNET


@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
def test_servers_are_forwarded_to_servers_and_to_nothing_else(program: str) -> None:
    lines = [line for line in rules(program).splitlines() if "-A OVERLORD-FORWARD" in line]
    assert lines == [
        f"-A OVERLORD-FORWARD -i {BRIDGE} -o {BRIDGE} -j ACCEPT",
        f"-A OVERLORD-FORWARD -i {BRIDGE} -j REJECT",
        f"-A OVERLORD-FORWARD -o {BRIDGE} -j REJECT",
    ]


def test_servers_reach_only_the_sandboxs_services_on_this_machine() -> None:
    lines = [line for line in rules("iptables").splitlines() if "-A OVERLORD-INPUT" in line]
    assert lines[-1] == "-A OVERLORD-INPUT -j REJECT"
    opened = [line for line in lines if "--dport" in line]
    assert f"-d {GATEWAY}/32 -p tcp -m multiport --dports 8804,8805,8806,8807,8808,53" in opened[0]
    assert len(opened) == 3


def test_nothing_but_neighbours_and_answers_passes_over_ipv6() -> None:
    assert "--dport" not in rules("ip6tables")


def test_both_directions_of_the_bridge_pass_our_chain() -> None:
    forward = [rule for chain, rule in jumps() if chain == "FORWARD"]
    assert [rule[0] for rule in forward] == ["-i", "-o"]


def test_docker_translates_no_address_for_the_servers() -> None:
    assert "com.docker.network.bridge.enable_ip_masquerade=false" in create_command()


def test_a_network_that_overlaps_is_named_with_its_owner() -> None:
    taken = [("198.51.100.53", "name server"), ("10.0.0.0/8", "route on eth0")]
    assert conflicts(SUBNET, taken) == ["198.51.100.53 (name server)"]


def test_the_default_route_is_no_conflict() -> None:
    assert conflicts(SUBNET, [("0.0.0.0/0", "route on eth0"), ("fd00::/8", "route")]) == []
