"""What the containers of a node used in a window of time, as its own Prometheus saw it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.e2e.sandbox_world import SandboxWorld

PREFIX, SUFFIX = "overlord-", "-1"
VOLUMES = "/var/lib/docker/volumes"


@dataclass(frozen=True)
class Use:
    """One container in the window.

    Args:
        node: where it runs.
        service: its name in the stack.
        memory: the most bytes of its working set, and `memory_limit` what it may use.
        cpu: cores on average, `cpu_peak` in the busiest minute, and `cpu_limit` what it may use.
        restarted: whether it was started in the window.
        killed: whether the kernel ended it for its memory.
    """

    node: str
    service: str
    memory: float
    memory_limit: float
    cpu: float
    cpu_peak: float
    cpu_limit: float
    restarted: bool
    killed: bool

    @property
    def within(self) -> bool:
        """Whether it stayed below its limits and was not restarted."""
        below = self.memory < self.memory_limit and self.cpu < self.cpu_limit
        return below and not self.restarted and not self.killed


@dataclass(frozen=True)
class Disk:
    """One service's data.

    Args:
        used: bytes after the run, and `grew` those that came in it.
        limit: bytes that a node for such a fleet gives it.
    """

    node: str
    service: str
    used: int
    grew: int
    limit: int

    @property
    def within(self) -> bool:
        """Whether it fits."""
        return self.used < self.limit


def number(world: SandboxWorld, node: str, expression: str) -> float:
    """The only value that an expression has; 0 where it has none."""
    found = world.ask_prometheus(node, expression)
    return float(found[0][1]) if found else 0.0


def containers(world: SandboxWorld, node: str, seconds: int) -> list[Use]:
    """Every running container of the stack over the last seconds."""

    def by_service(expression: str) -> dict[str, float]:
        return {
            labels["name"].removeprefix(PREFIX).removesuffix(SUFFIX): float(value)
            for labels, value in world.ask_prometheus(node, expression)
        }

    mine = f'{{name=~"{PREFIX}.+"}}'
    rate = f"rate(container_cpu_usage_seconds_total{mine}[1m])"
    memory = by_service(f"max_over_time(container_memory_working_set_bytes{mine}[{seconds}s])")
    cpu = by_service(f"sum by (name) (avg_over_time({rate}[{seconds}s:15s]))")
    peak = by_service(f"max by (name) (max_over_time({rate}[{seconds}s:15s]))")
    return [
        Use(
            node=node,
            service=service,
            memory=memory.get(service, 0.0),
            memory_limit=limit["memory"],
            cpu=cpu.get(service, 0.0),
            cpu_peak=peak.get(service, 0.0),
            cpu_limit=limit["cpus"],
            restarted=limit["seconds"] < seconds,
            killed=bool(limit["killed"]),
        )
        for service, limit in sorted(_limits(world, node).items())
    ]


def _limits(world: SandboxWorld, node: str) -> dict[str, Mapping[str, float]]:
    """What Docker itself holds each running container to, and for how many seconds it runs."""
    now = datetime.now(UTC)
    names = world.on_node(node, "docker", "ps", "--format", "{{.Names}}").text.split()
    mine = [name for name in names if name.startswith(PREFIX)]
    described = json.loads(world.on_node(node, "docker", "inspect", *mine).text)
    return {
        one["Name"].lstrip("/").removeprefix(PREFIX).removesuffix(SUFFIX): {
            "memory": one["HostConfig"]["Memory"],
            "cpus": one["HostConfig"]["CpuQuota"] / one["HostConfig"]["CpuPeriod"],
            "seconds": (now - datetime.fromisoformat(one["State"]["StartedAt"])).total_seconds(),
            "killed": one["State"]["OOMKilled"],
        }
        for one in described
    }


def disk_bytes(world: SandboxWorld, node: str, services: Iterable[str]) -> dict[str, int]:
    """Bytes on the disk of each service's data."""
    found = {}
    for service in services:
        path = f"{VOLUMES}/overlord_{service}-data"
        run = world.on_node(node, "du", "--summarize", "--bytes", path).text
        found[service] = int(run.split()[0])
    return found
