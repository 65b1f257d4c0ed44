"""Health of pool origins, from monitors that really probe.

An origin is unknown until its first probe has ended, and unknown counts as healthy, as at the
vendor. It becomes unhealthy after `consecutive_down` failed probes and healthy again after
`consecutive_up` good ones; a probe fails after its retries have failed too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sandbox.cloud.cloudflare.domain import (
    CloudflareState,
    JsonObject,
    Monitor,
    Origin,
    Pool,
    now,
)

log = logging.getLogger("sandbox.cloud.edge")

RECONCILE_SECONDS = 0.2
Probe = Callable[[Origin, Monitor], Awaitable[str | None]]
"""Probes once; returns the reason of a failure, None when all is well."""


@dataclass
class OriginHealth:
    """What the monitor knows of one origin."""

    healthy: bool | None = None
    reason: str | None = None
    changed: str = field(default_factory=now)
    good: int = 0
    bad: int = 0

    def note(self, failure: str | None, monitor: Monitor) -> bool:
        """Count one probe; return whether the verdict changed."""
        self.good, self.bad = (0, self.bad + 1) if failure else (self.good + 1, 0)
        verdict = self.healthy
        if self.healthy is None:
            verdict = failure is None
        elif failure and self.bad >= max(1, monitor.consecutive_down):
            verdict = False
        elif not failure and self.good >= max(1, monitor.consecutive_up):
            verdict = True
        self.reason = failure
        if verdict == self.healthy:
            return False
        self.healthy, self.changed = verdict, now()
        return True


@dataclass(frozen=True)
class _Target:
    pool: str
    origin: str
    address: str
    port: int | None
    monitor: str
    modified: str


class HealthChecks:
    """Keeps one probing task for each origin of each monitored pool."""

    def __init__(self, state: CloudflareState, probe: Probe) -> None:
        self._state, self._probe = state, probe
        self._health: dict[_Target, OriginHealth] = {}
        self._tasks: dict[_Target, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow the account's configuration until cancelled."""
        try:
            while True:
                self._reconcile()
                await asyncio.sleep(RECONCILE_SECONDS)
        finally:
            for task in self._tasks.values():
                task.cancel()

    def healthy(self, pool: Pool, origin: Origin) -> bool:
        """Tell whether an origin may get traffic."""
        health = self._of(pool, origin)
        return health is None or health.healthy is not False

    def report(self, pool_id: str) -> JsonObject:
        """Describe a pool as the vendor's health call does."""
        pool = self._state.pools[pool_id]
        origins = []
        for origin in pool.origins:
            health = self._of(pool, origin) or OriginHealth()
            origins.append(
                {
                    origin.address: {
                        "name": origin.name,
                        "healthy": health.healthy is not False,
                        "failure_reason": health.reason or "No failures",
                        "changed_on": health.changed,
                    }
                }
            )
        up = sum(self.healthy(pool, o) and o.enabled for o in pool.origins)
        return {"Sandbox": {"healthy": up >= pool.minimum_origins, "origins": origins}}

    def _of(self, pool: Pool, origin: Origin) -> OriginHealth | None:
        monitor = self._state.monitors.get(pool.monitor or "")
        return self._health.get(_target(pool, origin, monitor)) if monitor else None

    def _reconcile(self) -> None:
        wanted = {}
        for pool in self._state.pools.values():
            monitor = self._state.monitors.get(pool.monitor or "")
            if monitor is not None and pool.enabled:
                for origin in pool.origins:
                    wanted[_target(pool, origin, monitor)] = (origin, monitor)
        for target in self._tasks.keys() - wanted.keys():
            self._tasks.pop(target).cancel()
            del self._health[target]
        for target in wanted.keys() - self._tasks.keys():
            origin, monitor = wanted[target]
            self._health[target] = OriginHealth()
            self._tasks[target] = asyncio.create_task(self._watch(target, origin, monitor))

    async def _watch(self, target: _Target, origin: Origin, monitor: Monitor) -> None:
        health = self._health[target]
        while True:
            failure = None
            for _ in range(monitor.retries + 1):
                failure = await self._probe(origin, monitor)
                if failure is None:
                    break
            if health.note(failure, monitor):
                word = "healthy" if health.healthy else f"unhealthy: {failure}"
                log.info("origin %s (%s) is %s", origin.name, origin.address, word)
            await asyncio.sleep(monitor.interval)


def _target(pool: Pool, origin: Origin, monitor: Monitor) -> _Target:
    return _Target(
        pool.id, origin.name, origin.address, origin.port, monitor.id, monitor.modified_on
    )
