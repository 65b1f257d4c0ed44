"""Load balancers, their pools and monitors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.cloud.cloudflare import answers
from sandbox.cloud.cloudflare.domain import (
    CloudflareState,
    JsonObject,
    LoadBalancer,
    Monitor,
    Pool,
    Stored,
    new_id,
    now,
)
from sandbox.cloud.cloudflare.errors import CloudflareError

MONITOR_TYPES = ("http", "https", "tcp", "udp_icmp", "icmp_ping", "smtp")
STEERING = (
    "",
    "off",
    "geo",
    "random",
    "dynamic_latency",
    "proximity",
    "least_outstanding_requests",
)
SHORTEST_INTERVAL = 5

Object = TypeVar("Object", bound=Stored)
Health = Callable[[str], JsonObject]
"""Pool id to what its monitor finds."""


class Collection(Generic[Object]):
    """Create, read, list, replace, edit and delete objects of one kind."""

    def __init__(
        self,
        path: str,
        noun: str,
        model: type[Object],
        objects: dict[str, Object],
        check: Callable[[Object], None],
        users: Callable[[str], Iterable[str]],
    ) -> None:
        self._path, self._noun, self._model = path, noun, model
        self._objects = objects
        self._check, self._users = check, users

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        one = f"{self._path}/{{id}}"
        return [
            Route(self._path, self.index, methods=["GET"]),
            Route(self._path, self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.replace, methods=["PUT"]),
            Route(one, self.edit, methods=["PATCH"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def index(self, request: Request) -> Response:
        """List."""
        return answers.many(request, [o.model_dump() for o in self._objects.values()])

    async def create(self, request: Request) -> Response:
        """Create."""
        time = now()
        fixed = {"id": new_id(), "created_on": time, "modified_on": time}
        return self._store({**await answers.posted(request), **fixed})

    async def get(self, request: Request) -> Response:
        """Get one."""
        return answers.one(self._find(request).model_dump())

    async def replace(self, request: Request) -> Response:
        """Replace: what is not given falls back to its default."""
        old = self._find(request)
        fixed = {"id": old.id, "created_on": old.created_on, "modified_on": now()}
        return self._store({**await answers.posted(request), **fixed})

    async def edit(self, request: Request) -> Response:
        """Change the fields given."""
        old = self._find(request)
        fixed = {"id": old.id, "created_on": old.created_on, "modified_on": now()}
        return self._store({**old.model_dump(), **await answers.posted(request), **fixed})

    async def delete(self, request: Request) -> Response:
        """Delete what nothing refers to."""
        found = self._find(request)
        if users := list(self._users(found.id)):
            message = f"{self._noun} is referenced by {', '.join(users)}: cannot be deleted"
            raise CloudflareError(412, 1005, message)
        del self._objects[found.id]
        return answers.one({"id": found.id})

    def _store(self, fields: JsonObject) -> Response:
        made = answers.checked(self._model, fields)
        self._check(made)
        self._objects[made.id] = made
        return answers.one(made.model_dump())

    def _find(self, request: Request) -> Object:
        found = self._objects.get(request.path_params["id"])
        if found is None:
            raise CloudflareError(404, 1001, f"{self._noun} not found")
        return found


class Balancing:
    """The routes of monitors, pools and load balancers."""

    def __init__(self, state: CloudflareState, health: Health) -> None:
        self._state, self._health = state, health

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        account, state = "/accounts/{account}/load_balancers", self._state
        monitors = Collection(
            f"{account}/monitors",
            "monitor",
            Monitor,
            state.monitors,
            _check_monitor,
            lambda i: (f"pool {p.name}" for p in state.pools.values() if p.monitor == i),
        )
        pools = Collection(
            f"{account}/pools", "pool", Pool, state.pools, self._check_pool, self._pool_users
        )
        balancers = Collection(
            "/zones/{zone}/load_balancers",
            "load balancer",
            LoadBalancer,
            state.load_balancers,
            self._check_balancer,
            lambda _: (),
        )
        health = Route(f"{account}/pools/{{id}}/health", self.pool_health, methods=["GET"])
        return [health, *monitors.routes(), *pools.routes(), *balancers.routes()]

    async def pool_health(self, request: Request) -> Response:
        """Tell what the monitors find of a pool."""
        identifier = request.path_params["id"]
        if identifier not in self._state.pools:
            raise CloudflareError(404, 1001, "pool not found")
        return answers.one({"pool_id": identifier, "pop_health": self._health(identifier)})

    def _pool_users(self, identifier: str) -> Iterable[str]:
        for balancer in self._state.load_balancers.values():
            if identifier in (*balancer.default_pools, balancer.fallback_pool):
                yield f"load balancer {balancer.name}"

    def _check_pool(self, pool: Pool) -> None:
        if any(p.name == pool.name and p.id != pool.id for p in self._state.pools.values()):
            raise _invalid(f"name: pool {pool.name} already exists")
        if not pool.origins:
            raise _invalid("origins: at least one is required")
        if len({origin.name for origin in pool.origins}) != len(pool.origins):
            raise _invalid("origins: names must be unique")
        if pool.monitor and pool.monitor not in self._state.monitors:
            raise _invalid(f"monitor: {pool.monitor} does not exist")

    def _check_balancer(self, balancer: LoadBalancer) -> None:
        others = self._state.load_balancers.values()
        if any(other.name == balancer.name and other.id != balancer.id for other in others):
            raise _invalid(f"name: load balancer {balancer.name} already exists")
        if balancer.name != self._state.zone and not balancer.name.endswith(f".{self._state.zone}"):
            raise _invalid(f"name: must be in the zone {self._state.zone}")
        if not balancer.default_pools:
            raise _invalid("default_pools: at least one is required")
        for identifier in (*balancer.default_pools, balancer.fallback_pool):
            if identifier not in self._state.pools:
                raise _invalid(f"pool {identifier} does not exist")
        if balancer.steering_policy not in STEERING:
            raise _invalid(f"steering_policy: must be one of {', '.join(STEERING[1:])}")


def _check_monitor(monitor: Monitor) -> None:
    if monitor.type not in MONITOR_TYPES:
        raise _invalid(f"type: must be one of {', '.join(MONITOR_TYPES)}")
    if not 1 <= monitor.timeout <= 10 or not 0 <= monitor.retries <= 5:
        raise _invalid("timeout must be 1 to 10 seconds and retries 0 to 5")
    if not SHORTEST_INTERVAL <= monitor.interval <= 3600:
        raise _invalid(f"interval: must be {SHORTEST_INTERVAL} to 3600 seconds")
    if monitor.interval <= monitor.timeout * (monitor.retries + 1):
        raise _invalid("interval: must be larger than timeout times (retries + 1)")
    if monitor.type in ("http", "https"):
        if not monitor.path.startswith("/"):
            raise _invalid("path: must start with /")
        if not monitor.expected_codes:
            raise _invalid("expected_codes: is required for http and https")


def _invalid(message: str) -> CloudflareError:
    return CloudflareError(400, 1002, f"{message}: validation failed")
