"""The network of the emulated data centres: one bridge with no way out.

Docker makes the bridge. The rules here see to it that servers reach each other and the sandbox's
own services, and nothing else of this machine or beyond.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path

from sandbox.commands import SandboxError, run, succeeds
from sandbox.machines.daemon import Docker
from sandbox.world import (
    BRIDGE,
    DNS_PORT,
    EDGE_ADDRESS,
    GATEWAY,
    GATEWAY_V6,
    HEADSCALE_PORT,
    INBOX_PORT,
    NETWORK,
    REGISTRY_PORT,
    S3_PORT,
    SUBNET,
    SUBNET_V6,
    WORKERS_PORT,
)

FORWARD_CHAIN = "OVERLORD-FORWARD"
INPUT_CHAIN = "OVERLORD-INPUT"
# Worse than any real route, so that it only counts while the bridge is missing.
BLACKHOLE_METRIC = "9999"
SERVICE_PORTS = ",".join(
    str(port)
    for port in (S3_PORT, REGISTRY_PORT, HEADSCALE_PORT, WORKERS_PORT, INBOX_PORT, DNS_PORT)
)

Command = list[str]


def create_command() -> Command:
    """Build the command that makes the network with its bridge."""
    return [
        *("network", "create", "--driver", "bridge"),
        *("--subnet", SUBNET, "--gateway", GATEWAY),
        *("--aux-address", f"edge={EDGE_ADDRESS}"),
        *("--opt", f"com.docker.network.bridge.name={BRIDGE}"),
        *("--opt", "com.docker.network.bridge.enable_ip_masquerade=false"),
        NETWORK,
    ]


def rules(program: str) -> str:
    """Render the chains for iptables-restore (``iptables``) or ip6tables-restore (``ip6tables``).

    Forwarded: from server to server. To this machine: the sandbox's services on the gateway, the
    edge, and answers to what the edge asked.
    """
    ping = "icmp" if program == "iptables" else "ipv6-icmp"
    lines = [
        "*filter",
        f":{FORWARD_CHAIN} - [0:0]",
        f":{INPUT_CHAIN} - [0:0]",
        # Bridged packets pass here where br_netfilter is loaded.
        f"-A {FORWARD_CHAIN} -i {BRIDGE} -o {BRIDGE} -j ACCEPT",
        f"-A {FORWARD_CHAIN} -i {BRIDGE} -j REJECT",
        f"-A {FORWARD_CHAIN} -o {BRIDGE} -j REJECT",
        f"-A {INPUT_CHAIN} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"-A {INPUT_CHAIN} -p {ping} -j ACCEPT",
    ]
    if program == "iptables":
        to_gateway = f"-A {INPUT_CHAIN} -d {GATEWAY}/32"
        lines += [
            f"{to_gateway} -p tcp -m multiport --dports {SERVICE_PORTS} -j ACCEPT",
            f"{to_gateway} -p udp --dport {DNS_PORT} -j ACCEPT",
            # Where a server finds a proxied name, its own public one included.
            f"-A {INPUT_CHAIN} -d {EDGE_ADDRESS}/32 -p tcp -m multiport --dports 80,443 -j ACCEPT",
        ]
    return "\n".join([*lines, f"-A {INPUT_CHAIN} -j REJECT", "COMMIT", ""])


def jumps() -> list[tuple[str, list[str]]]:
    """Return (built-in chain, rule) of each jump into our chains."""
    return [
        ("FORWARD", ["-i", BRIDGE, "-j", FORWARD_CHAIN]),
        ("FORWARD", ["-o", BRIDGE, "-j", FORWARD_CHAIN]),
        ("INPUT", ["-i", BRIDGE, "-j", INPUT_CHAIN]),
    ]


def conflicts(subnet: str, taken: Iterable[tuple[str, str]]) -> list[str]:
    """Name what uses addresses of the subnet already: pairs of (network or address, by whom)."""
    ours = ipaddress.ip_network(subnet)
    found = []
    for text, owner in taken:
        network = ipaddress.ip_network(text, strict=False)
        if network.prefixlen and network.version == ours.version and network.overlaps(ours):
            found.append(f"{text} ({owner})")
    return found


def taken_networks() -> list[tuple[str, str]]:
    """List the IPv4 networks and resolvers that this machine uses, those of the sandbox aside."""
    taken = []
    for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]"):
        if route.get("dev") == BRIDGE or route.get("type") == "blackhole":
            continue
        if route["dst"] != "default":
            taken.append((route["dst"], f"route on {route.get('dev', '?')}"))
    for line in Path("/etc/resolv.conf").read_text().splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and ":" not in words[1]:
            taken.append((words[1], "name server"))
    return taken


def up(docker: Docker) -> None:
    """Make the network, its rules and the routes that keep its packets on this machine."""
    if clash := conflicts(SUBNET, taken_networks()):
        raise SandboxError(
            f"the sandbox's network {SUBNET} is in use on this machine: {', '.join(clash)}",
            "take that route or resolver away while the sandbox runs, or use another machine",
        )
    # First the routes: from here on no packet to a server can leave the machine.
    for family, subnet in (("-4", SUBNET), ("-6", SUBNET_V6)):
        run(["ip", family, "route", "replace", "blackhole", subnet, "metric", BLACKHOLE_METRIC])
    for program in ("iptables", "ip6tables"):
        run([f"{program}-restore", "--wait", "--noflush"], stdin=rules(program))
        for chain, rule in jumps():
            if not succeeds([program, "--wait", "--check", chain, *rule]):
                run([program, "--wait", "--insert", chain, "1", *rule])
    if not docker.succeeds("network", "inspect", NETWORK):
        docker(*create_command())
    run(["ip", "-4", "address", "replace", f"{EDGE_ADDRESS}/32", "dev", BRIDGE])
    address = f"{GATEWAY_V6}/{SUBNET_V6.partition('/')[2]}"
    run(["ip", "-6", "address", "replace", address, "dev", BRIDGE, "nodad"])


def down() -> None:
    """Take the rules, the routes and a bridge that is left away. Nothing there is no error."""
    for program in ("iptables", "ip6tables"):
        for chain, rule in jumps():
            while succeeds([program, "--wait", "--delete", chain, *rule]):
                pass
        for chain in (FORWARD_CHAIN, INPUT_CHAIN):
            succeeds([program, "--wait", "--flush", chain])
            succeeds([program, "--wait", "--delete-chain", chain])
    succeeds(["ip", "link", "delete", BRIDGE])
    for family, subnet in (("-4", SUBNET), ("-6", SUBNET_V6)):
        succeeds(["ip", family, "route", "delete", "blackhole", subnet])
