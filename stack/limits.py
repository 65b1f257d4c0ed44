"""How a node's memory and CPU are split over the services.

One table for every size of node, so that a bigger fleet means a bigger server and nothing else.
The shares of memory add up to less than one: the rest is for the operating system, the page
cache and the services that join later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceLimits:
    """What one container may use.

    Args:
        memory_mb: memory in MiB; the container is killed and restarted above it.
        cpus: CPU time in cores.
        pids: processes and threads.
    """

    memory_mb: int
    cpus: float
    pids: int = 256


@dataclass(frozen=True)
class _Share:
    memory: float  # fraction of the node's memory
    cpu: float  # fraction of the node's cores
    least_mb: int  # below this the program does not run well, however small the node


_SHARES: Mapping[str, _Share] = {
    "postgres": _Share(memory=0.20, cpu=0.75, least_mb=256),
    "prometheus": _Share(memory=0.25, cpu=0.75, least_mb=512),
    "alertmanager": _Share(memory=0.02, cpu=0.15, least_mb=64),
    "node-exporter": _Share(memory=0.01, cpu=0.15, least_mb=64),
    "postgres-exporter": _Share(memory=0.01, cpu=0.15, least_mb=64),
    "blackbox": _Share(memory=0.01, cpu=0.15, least_mb=64),
    "cadvisor": _Share(memory=0.02, cpu=0.15, least_mb=128),
    "loki": _Share(memory=0.08, cpu=0.50, least_mb=256),
    "log-gate": _Share(memory=0.005, cpu=0.25, least_mb=48),
    "gitea": _Share(memory=0.03, cpu=0.50, least_mb=224),
    "grafana": _Share(memory=0.04, cpu=0.50, least_mb=256),
    "openbao": _Share(memory=0.02, cpu=0.25, least_mb=192),
    # The floor is what 12,000 connections need.
    "nginx": _Share(memory=0.03, cpu=0.50, least_mb=512),
    "api": _Share(memory=0.06, cpu=0.50, least_mb=192),
    "migrate": _Share(memory=0.025, cpu=0.50, least_mb=192),
    "database-tool": _Share(memory=0.05, cpu=0.75, least_mb=192),
}

# What one connection costs nginx at most while its request is on the way: TLS 16 KiB, header 17,
# body 8. `tests/config/test_abuse.py` measures it.
_CONNECTION_KIB = 42
_MOST_CONNECTIONS = 8192

SERVICES: tuple[str, ...] = tuple(_SHARES)


def limits_for(memory_mb: int, cores: float) -> dict[str, ServiceLimits]:
    """Limits of every service on a node of this size.

    Args:
        memory_mb: memory of the node in MiB.
        cores: virtual CPUs of the node.

    Raises:
        ValueError: the node is too small to run the stack at all.
    """
    limits = {
        name: ServiceLimits(
            memory_mb=max(share.least_mb, int(memory_mb * share.memory)),
            cpus=round(max(0.1, cores * share.cpu), 2),
        )
        for name, share in _SHARES.items()
    }
    wanted = sum(limit.memory_mb for limit in limits.values())
    if wanted > memory_mb * 0.9:
        raise ValueError(
            f"a node with {memory_mb} MiB cannot run the stack, whose services need {wanted} MiB; "
            "choose a larger server type"
        )
    return limits


@dataclass(frozen=True)
class Workers:
    """How nginx splits what its container may use.

    Args:
        count: worker processes.
        connections: connections of each, those to what is behind it included.
        open_files: files that each may open: for each connection its socket and one more, for a
            body or a page.
    """

    count: int
    connections: int
    open_files: int


def workers_of(limits: ServiceLimits) -> Workers:
    """nginx' workers, so that connections run out before memory does.

    At the limit of connections nginx ends the idle ones first; at the limit of memory the kernel
    kills it, and every connection with it.
    """
    count = max(2, math.ceil(limits.cpus))
    connections = min(_MOST_CONNECTIONS, limits.memory_mb * 1024 // _CONNECTION_KIB // count)
    return Workers(count, connections, 2 * connections)
