"""Where simulated devices live: one more server of the sandbox, with an address a device.

It is on the network of the pair, where both nodes scrape the devices. Log lines go over the
tailnet, each node's from the network of the other: without a relay, which the sandbox does not
have, a newcomer on the tailnet may take minutes to find a way to a node. Processes run in a
server's network namespace, with this repository's Python.
"""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from device.simulator.fleet import Plan
from tests.e2e.sandbox_world import REPOSITORY, SandboxWorld

NAME = "fleet-01"
NODES = ("vps-01", "vps-02")
END_SECONDS = 20


@dataclass
class FleetHost:
    """The fleet's server, and what runs in its network and in the nodes'.

    Args:
        processes: by server, nodes included, the process id of its init on this machine.
        folder: where the output of what runs goes.
    """

    processes: Mapping[str, int]
    folder: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        """Output of what was started under that name."""
        return self.folder / f"{name}.log"

    def start(self, name: str, server: str, *arguments: str) -> None:
        """Start a command of the simulator in a server's network; it ends with the host."""
        with self.log(name).open("wb") as output:
            self._running[name] = subprocess.Popen(
                [
                    *("nsenter", f"--net=/proc/{self.processes[server]}/ns/net"),
                    *(sys.executable, "-m", "device.simulator", *arguments),
                ],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def finish(self, name: str, seconds: float) -> str:
        """Wait for what was started under that name; its output. Raises AssertionError."""
        code = self._running[name].wait(seconds)
        text = self.log(name).read_text()
        assert code == 0, f"{name} ended with exit code {code}:\n{text[-2000:]}"
        return text

    def end(self) -> None:
        """End what was started."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def fleet_host(world: SandboxWorld, plan: Plan, folder: Path) -> Iterator[tuple[FleetHost, Plan]]:
    """The server for as long as the block, and the plan with an address there for each device."""
    folder.mkdir(parents=True, exist_ok=True)
    # One that a killed run left.
    _delete(world)
    ordered = world.order_server(NAME, labels={"role": "simulated-fleet"})
    try:
        ordered.action.wait_until_finished()
        network = world.servers()[NAME]["public_net"]["ipv6"]["ip"]
        # Clear of the server's own, which is the first.
        first = str(ipaddress.ip_network(network, strict=False)[0x1000])
        placed = replace(plan, first_address=first)
        processes = {server: _process(world, server) for server in (NAME, *NODES)}
        _add_addresses(processes[NAME], list(placed.addresses().values()))
        host = FleetHost(processes, folder)
        try:
            yield host, placed
        finally:
            host.end()
    finally:
        _delete(world)


def _process(world: SandboxWorld, server: str) -> int:
    found = world.docker("ps", "--quiet", "--filter", f"label=overlord.server.name={server}")
    return int(world.docker("inspect", "--format", "{{.State.Pid}}", found.strip()))


def _add_addresses(process: int, wanted: list[str]) -> None:
    lines = "".join(f"address add {address}/128 dev eth0 nodad\n" for address in wanted)
    subprocess.run(
        ["nsenter", f"--net=/proc/{process}/ns/net", "ip", "-6", "-batch", "-"],
        input=lines, text=True, check=True, timeout=60,
    )  # fmt: skip


def _delete(world: SandboxWorld) -> None:
    server = world.hetzner.servers.get_by_name(NAME)
    if server is not None:
        server.delete().wait_until_finished()


def reachable(world: SandboxWorld, node: str, address: str, port: int) -> bool:
    """Whether a node reaches a device's exporter."""
    url = f"http://[{address}]:{port}/metrics"
    return (
        world.on_node(node, "curl", "-sf", "-o", "/dev/null", "-m", "3", url, check=False).code == 0
    )


def mesh_address(world: SandboxWorld, node: str) -> str:
    """Address of a node on the tailnet."""
    return world.on_node(node, "tailscale", "ip", "-4").text.strip()
