"""Where the edge sends a request: a pure function of the zone and the health of its pools."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.cloud.cloudflare.domain import CloudflareState, DnsRecord, Origin, Pool

Healthy = Callable[[Pool, Origin], bool]
LONGEST_CHAIN = 8


@dataclass(frozen=True)
class Target:
    """An origin to connect to."""

    address: str
    port: int | None = None
    host: str | None = None
    """The Host header to send, where the origin overrides the visitor's."""


@dataclass(frozen=True)
class Unroutable:
    """Why the edge has nowhere to go: the vendor's status and error number."""

    status: int
    code: int
    reason: str


NO_RECORD = Unroutable(530, 1016, "Origin DNS error")
NOT_PROXIED = Unroutable(530, 1016, "Origin DNS error: the record is not proxied")
NO_POOL = Unroutable(530, 1016, "Load balancer has no pool to send to")


def route(state: CloudflareState, healthy: Healthy, host: str) -> Target | Unroutable:
    """Choose the origin for a host name. A load balancer wins over records of its name."""
    for balancer in state.load_balancers.values():
        if balancer.name == host and balancer.enabled and balancer.proxied:
            order = [*balancer.default_pools, balancer.fallback_pool]
            return _from_pools([state.pools[i] for i in order if i in state.pools], healthy)
    return _from_records(state, host, LONGEST_CHAIN)


def records_for(state: CloudflareState, name: str) -> list[DnsRecord]:
    """The records of a name, those of its closest wildcard where it has none of its own."""
    records = [r for r in state.records.values() if r.name == name]
    parent = name
    while not records and "." in parent and parent != state.zone:
        parent = parent.partition(".")[2]
        records = [r for r in state.records.values() if r.name == f"*.{parent}"]
        if any(r.name == parent for r in state.records.values()):
            break
    return records


def _from_pools(pools: list[Pool], healthy: Healthy) -> Target | Unroutable:
    for pool in pools:
        up = [o for o in pool.origins if o.enabled and healthy(pool, o)]
        if pool.enabled and up and len(up) >= pool.minimum_origins:
            return _pick(up)
    # The last resort takes traffic whatever its health.
    origins = [o for o in pools[-1].origins if o.enabled] if pools else []
    return _pick(origins) if origins else NO_POOL


def _pick(origins: list[Origin]) -> Target:
    weights = [max(origin.weight, 1e-6) for origin in origins]
    origin = random.choices(origins, weights)[0]  # noqa: S311 - spreads load, keeps no secret
    hosts = origin.header.get("Host")
    return Target(origin.address, origin.port, hosts[0] if hosts else None)


def _from_records(state: CloudflareState, host: str, hops: int) -> Target | Unroutable:
    records = [r for r in records_for(state, host) if r.proxiable]
    if not records or hops == 0:
        return NO_RECORD
    proxied = [r for r in records if r.proxied]
    if not proxied and hops == LONGEST_CHAIN:
        return NOT_PROXIED
    usable = proxied or records
    # IPv4 first: a machine without IPv6 routes must still reach its servers.
    for kind in ("A", "AAAA"):
        addresses = [r.content for r in usable if r.type == kind]
        if addresses:
            return Target(random.choice(addresses))  # noqa: S311
    return _from_records(state, usable[0].content.rstrip("."), hops - 1)
