"""Stand-ins for what the emulated cloud rests on: machines and the tailnet."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

from sandbox.cloud.tailnet import TailnetError, TailnetNode
from sandbox.machines.driver import FirewallRule, MachineError, MachineSpec


class FakeDriver:
    """Remembers what it was asked. Set `fail` to refuse, clear `may_create` to hold creations."""

    def __init__(self) -> None:
        self.machines: dict[int, MachineSpec] = {}
        self.running: set[int] = set()
        self.firewalls: dict[int, tuple[FirewallRule, ...] | None] = {}
        self.calls: list[tuple[str, int]] = []
        self.fail: str | None = None
        self.may_create = threading.Event()
        self.may_create.set()

    def _note(self, call: str, machine_id: int) -> None:
        self.calls.append((call, machine_id))
        if self.fail is not None:
            raise MachineError(self.fail)

    def create(self, spec: MachineSpec) -> None:
        self.may_create.wait(30)
        self._note("create", spec.id)
        self.machines[spec.id] = spec
        self.running.add(spec.id)

    def delete(self, machine_id: int) -> None:
        self._note("delete", machine_id)
        self.machines.pop(machine_id, None)
        self.running.discard(machine_id)

    def power_on(self, machine_id: int) -> None:
        self._note("power_on", machine_id)
        self.running.add(machine_id)

    def power_off(self, machine_id: int) -> None:
        self._note("power_off", machine_id)
        self.running.discard(machine_id)

    def shutdown(self, machine_id: int) -> None:
        self._note("shutdown", machine_id)
        self.running.discard(machine_id)

    def reboot(self, machine_id: int) -> None:
        self._note("reboot", machine_id)

    def reset(self, machine_id: int) -> None:
        self._note("reset", machine_id)

    def state(self, machine_id: int) -> Literal["running", "off"]:
        return "running" if machine_id in self.running else "off"

    def set_firewall(self, machine_id: int, rules: tuple[FirewallRule, ...] | None) -> None:
        self._note("set_firewall", machine_id)
        self.firewalls[machine_id] = rules

    def resize(self, machine_id: int, cores: int, memory_gb: float) -> None:
        self._note("resize", machine_id)


class FakeTailnet:
    """A coordination server in memory."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.expired: list[str] = []
        self.policy = "{}"
        self.joined: list[TailnetNode] = []
        self.refuse_policy: str | None = None

    def create_preauth_key(
        self, tags: Sequence[str], reusable: bool, ephemeral: bool, expiry_seconds: int
    ) -> tuple[str, str]:
        identifier = str(len(self.keys) + 1)
        self.keys[identifier] = f"preauth-{identifier}-{'-'.join(tags)}"
        return identifier, self.keys[identifier]

    def expire_key(self, key_id: str) -> None:
        self.expired.append(key_id)

    def set_policy(self, hujson: str) -> None:
        if self.refuse_policy is not None:
            raise TailnetError(self.refuse_policy)
        self.policy = hujson

    def get_policy(self) -> str:
        return self.policy

    def nodes(self) -> list[TailnetNode]:
        return list(self.joined)

    def delete_node(self, node_id: str) -> None:
        self.joined = [node for node in self.joined if node.id != node_id]
