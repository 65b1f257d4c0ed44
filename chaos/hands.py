"""Carries out the steps of a fault in the sandbox."""

from __future__ import annotations

import time

import requests

from chaos.steps import FairWeather, Freeze, OnNode, Pause, Power, Step, Vendor, WipeArbiter
from sandbox import world as fixed
from tests.e2e.sandbox_world import STACK, SandboxWorld


class Hands:
    """What touches the world."""

    def __init__(self, world: SandboxWorld) -> None:
        self._world = world

    def do(self, step: Step) -> None:
        """Carry out one step. Raises AssertionError with the output when it fails."""
        match step:
            case OnNode(node, argv):
                self._world.on_node(node, *argv)
            case Power(node, verb):
                self._power(node, verb)
            case Freeze(node, frozen):
                self._world.docker("pause" if frozen else "unpause", self.container(node))
            case Vendor(fault):
                self._world.fault(**dict(fault))
            case FairWeather():
                self._world.fair_weather()
            case WipeArbiter():
                worker = f"overlord-{STACK}-witness"
                url = f"{fixed.CONTROL_URL}/workers/{worker}/storage"
                requests.delete(url, timeout=30).raise_for_status()
            case Pause(seconds):
                time.sleep(seconds)

    def container(self, node: str) -> str:
        """The container that is the node."""
        label = f"label=overlord.server.name={node}"
        found = self._world.docker("ps", "--all", "--quiet", "--filter", label).strip()
        assert found, f"no server is named {node}"
        return found

    def process(self, node: str) -> int:
        """Process id of the node's init on this machine; 0 while it is off."""
        return int(self._world.docker("inspect", "-f", "{{.State.Pid}}", self.container(node)))

    def _power(self, node: str, verb: str) -> None:
        server = self._world.hetzner.servers.get_by_name(node)
        assert server is not None, f"no server is named {node}"
        actions = {
            "poweroff": server.power_off,
            "poweron": server.power_on,
            "reboot": server.reboot,
            "reset": server.reset,
        }
        actions[verb]().wait_until_finished()
