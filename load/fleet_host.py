"""Where simulated devices live: one more server of the sandbox, with an address a device.

It is on the network of the pair and on the tailnet, so metrics are scraped and logs handed in as
with real devices. Its processes run in that server's network namespace, with this repository's
Python.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests

from device.simulator.fleet import Plan
from sandbox import world as fixed
from sandbox.machines.daemon import Docker
from tests.e2e.sandbox_world import REPOSITORY, SandboxWorld, eventually

NAME = "fleet-01"
BOOT_SECONDS = 180
END_SECONDS = 20
_TAILNET = f"{fixed.TAILSCALE_URL}/api/v2/tailnet/sandbox"


@dataclass
class FleetHost:
    """The server, and what runs in its network.

    Args:
        process: process id of its init on this machine.
        folder: where the processes' output goes.
    """

    process: int
    folder: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        """Output of what was started under that name."""
        return self.folder / f"{name}.log"

    def start(self, name: str, *arguments: str) -> None:
        """Start a command of the simulator in the server's network; it ends with the host."""
        with self.log(name).open("wb") as output:
            self._running[name] = subprocess.Popen(
                [
                    *("nsenter", f"--net=/proc/{self.process}/ns/net"),
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
    world.order_server(NAME, labels={"role": "simulated-fleet"})
    try:
        eventually("the fleet's server", lambda: _has_tailscale(world), BOOT_SECONDS)
        network = world.servers()[NAME]["public_net"]["ipv6"]["ip"]
        # Clear of the server's own, which is the first.
        first = str(ipaddress.ip_network(network, strict=False)[0x1000])
        process = int(world.docker("inspect", "--format", "{{.State.Pid}}", _container(world)))
        placed = replace(plan, first_address=first)
        _add_addresses(process, list(placed.addresses().values()))
        _join(world)
        host = FleetHost(process, folder)
        try:
            yield host, placed
        finally:
            host.end()
    finally:
        _delete(world)


def _container(world: SandboxWorld) -> str:
    return world.docker("ps", "--quiet", "--filter", f"label=overlord.server.name={NAME}").strip()


def _has_tailscale(world: SandboxWorld) -> bool:
    if not _container(world):
        return False
    # Nothing of ours runs there, so nobody else starts it.
    world.on_node(NAME, "systemctl", "start", "tailscaled.service", check=False)
    run = world.on_node(NAME, "tailscale", "status", "--json", check=False)
    return run.code == 0 and '"NeedsLogin"' in run.text


def _add_addresses(process: int, wanted: list[str]) -> None:
    lines = "".join(f"address add {address}/128 dev eth0 nodad\n" for address in wanted)
    subprocess.run(
        ["nsenter", f"--net=/proc/{process}/ns/net", "ip", "-6", "-batch", "-"],
        input=lines, text=True, check=True, timeout=60,
    )  # fmt: skip


def _join(world: SandboxWorld) -> None:
    """Join the tailnet as a device does."""
    env = world.env
    create = {"reusable": False, "ephemeral": True, "preauthorized": True, "tags": ["tag:device"]}
    answer = requests.post(
        f"{_TAILNET}/keys",
        json={"capabilities": {"devices": {"create": create}}, "expirySeconds": 600},
        headers={"Authorization": f"Bearer {env['TAILSCALE_API_KEY']}"},
        timeout=20,
    )
    answer.raise_for_status()
    script = (
        "umask 077; cat > /run/tailscale.key && "
        f"tailscale up --login-server={fixed.HEADSCALE_URL} --auth-key=file:/run/tailscale.key "
        "--accept-dns=false; code=$?; rm -f /run/tailscale.key; exit $code"
    )
    subprocess.run(
        ["docker", "exec", "--interactive", _container(world), "sh", "-c", script],
        input=answer.json()["key"], text=True, check=True, timeout=120,
        env={**os.environ, **Docker(world.world).env},
    )  # fmt: skip


def _delete(world: SandboxWorld) -> None:
    server = world.hetzner.servers.get_by_name(NAME)
    if server is not None:
        with suppress(AssertionError):  # it may never have booted
            world.on_node(NAME, "tailscale", "logout", check=False)
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
