"""The emulated project: its state, its running actions, and the driver that makes it real."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from sandbox.cloud.faults import Faults
from sandbox.cloud.hetzner import errors, lists
from sandbox.cloud.hetzner.domain import Action, HetznerState, JsonObject, Resource, now
from sandbox.machines.driver import FirewallRule, MachineDriver, MachineError

log = logging.getLogger("sandbox.cloud.hetzner")

KEPT_ACTIONS = 1000
Kind = Literal["server", "primary_ip", "firewall", "ssh_key", "action"]
Model = TypeVar("Model", bound=BaseModel)


class Project:
    """What all parts of the API share."""

    def __init__(
        self,
        state: HetznerState,
        driver: MachineDriver,
        faults: Faults,
        save: Callable[[], None],
        network: str = "203.0.113",
    ) -> None:
        self.state, self.driver, self.faults, self.save = state, driver, faults, save
        self.network = network
        """The first three bytes of the IPv4 network that addresses come from."""
        self.locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One driver call at a time for each server."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def body(self, request: Request, model: type[Model]) -> Model:
        """Read and check the request's JSON."""
        raw = await request.body() or b"{}"
        try:
            return model.model_validate_json(raw)
        except ValidationError as error:
            if error.errors()[0]["type"] == "json_invalid":
                raise errors.HetznerError(
                    400, "json_error", "invalid JSON input in your request"
                ) from None
            raise errors.from_validation(error) from None

    def check_name(self, kind: str, name: str, names: Iterable[tuple[int, str]], own: int) -> None:
        """Refuse a name that another object of the kind has."""
        if any(other == name and identifier != own for identifier, other in names):
            raise errors.not_unique(kind)

    def check_quota(self, resource: str, existing: int, wanted: int = 1) -> None:
        """Refuse more objects than the quota allows."""
        limit = self.faults.quota(resource)
        if limit is not None and existing + wanted > limit:
            raise errors.limit_exceeded(resource.removesuffix("s"), limit)

    # Actions

    def done(self, command: str, *resources: Resource) -> JsonObject:
        """Record an action that was over at once; return its body."""
        action = self._action(command, resources)
        _finish(action)
        return action.model_dump()

    def start(
        self, command: str, work: Callable[[], Awaitable[None]], *resources: Resource
    ) -> JsonObject:
        """Start an action that works on after the answer; return its body."""
        action = self._action(command, resources)
        task = asyncio.create_task(self._run(action, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return action.model_dump()

    async def call(self, machine_id: int, function: Callable[[], None]) -> None:
        """Run a blocking driver call in a thread, one at a time for each server."""
        async with self.locks[machine_id]:
            await asyncio.to_thread(function)

    async def state_of(self, machine_id: int) -> Literal["running", "off", "unknown"]:
        """Ask the driver how a machine is; ``unknown`` when it cannot say."""
        try:
            return await asyncio.to_thread(self.driver.state, machine_id)
        except MachineError as error:
            log.warning("state of server %d: %s", machine_id, error)
            return "unknown"

    async def drain(self) -> None:
        """Wait until every running action has ended."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _action(self, command: str, resources: Iterable[Resource]) -> Action:
        action = Action(
            id=self.state.new_id(), command=command, started=now(), resources=list(resources)
        )
        self.state.actions[action.id] = action
        for old in list(self.state.actions)[:-KEPT_ACTIONS]:
            del self.state.actions[old]
        return action

    async def _run(self, action: Action, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except MachineError as error:
            log.warning("action %d %s failed: %s", action.id, action.command, error)
            _finish(action, {"code": "action_failed", "message": str(error)})
        except Exception as error:
            log.exception("action %d %s failed", action.id, action.command)
            _finish(action, {"code": "server_error", "message": f"{type(error).__name__}: {error}"})
        else:
            _finish(action)
        self.save()

    def recover(self) -> None:
        """Settle what a killed process left half-done."""
        for action in self.state.actions.values():
            if action.status == "running":
                message = "the sandbox's cloud was restarted while the action ran"
                _finish(action, {"code": "action_failed", "message": message})
        for server in self.state.servers.values():
            server.locked = False
            if server.status not in ("running", "off"):
                server.status = "unknown"

    def resume(self) -> None:
        """Put firewalls in force again: a killed process may have started a server without."""
        task = asyncio.create_task(self._resume())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resume(self) -> None:
        for server in list(self.state.servers.values()):
            try:
                await self.enforce([server.id])
            except MachineError as error:
                log.warning("firewall of server %s: %s", server.name, error)

    # Firewalls

    def rules_for(self, server_id: int) -> tuple[FirewallRule, ...] | None:
        """The inbound rules of all firewalls that apply to a server; None without a firewall."""
        server = self.state.servers[server_id]
        applied = [
            firewall
            for firewall in self.state.firewalls.values()
            if server_id in firewall.servers
            or any(lists.matches(selector, server.labels) for selector in firewall.selectors)
        ]
        if not applied:
            return None
        return tuple(
            FirewallRule(rule.protocol, rule.port, tuple(rule.source_ips))
            for firewall in applied
            for rule in firewall.rules
            if rule.direction == "in"
        )

    async def enforce(self, server_ids: Iterable[int]) -> None:
        """Give the driver the current rules of servers that exist as machines."""
        for server_id in server_ids:
            server = self.state.servers.get(server_id)
            if server is None or server.status in ("initializing", "deleting"):
                continue  # creation applies the rules itself; a deleted server needs none
            rules = self.rules_for(server_id)
            await self.call(server_id, lambda i=server_id, r=rules: self.driver.set_firewall(i, r))  # type: ignore[misc]


def _finish(action: Action, error: dict[str, str] | None = None) -> None:
    action.status = "error" if error else "success"
    action.progress, action.finished, action.error = 100, now(), error
