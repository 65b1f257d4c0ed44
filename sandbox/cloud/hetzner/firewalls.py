"""Firewalls: rule sets that the driver enforces in front of servers."""

from __future__ import annotations

import ipaddress
import re

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.cloud.hetzner import errors, lists
from sandbox.cloud.hetzner.domain import (
    Firewall,
    JsonObject,
    Labels,
    Name,
    Resource,
    Rule,
    now,
)
from sandbox.cloud.hetzner.project import Project

MOST_NETWORKS = 100
MOST_RULES = 50


class ServerRef(BaseModel):
    """A server by id."""

    id: int


class Selector(BaseModel):
    """Servers by label."""

    selector: str


class Target(BaseModel):
    """What a firewall is applied to."""

    type: str
    server: ServerRef | None = None
    label_selector: Selector | None = None


class CreateFirewall(BaseModel):
    """POST /firewalls."""

    name: Name
    labels: Labels = {}
    rules: list[Rule] = []
    apply_to: list[Target] = []


class UpdateFirewall(BaseModel):
    """PUT /firewalls/ID."""

    name: Name | None = None
    labels: Labels | None = None


class SetRules(BaseModel):
    """POST …/actions/set_rules; replaces all rules."""

    rules: list[Rule]


class ApplyTo(BaseModel):
    """POST …/actions/apply_to_resources."""

    apply_to: list[Target]


class RemoveFrom(BaseModel):
    """POST …/actions/remove_from_resources."""

    remove_from: list[Target]


class Firewalls:
    """The routes under /firewalls."""

    def __init__(self, project: Project) -> None:
        self._project, self._firewalls = project, project.state.firewalls

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        one, actions = "/firewalls/{id:int}", "/firewalls/{id:int}/actions"
        return [
            Route("/firewalls", self.index, methods=["GET"]),
            Route("/firewalls", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{actions}/set_rules", self.set_rules, methods=["POST"]),
            Route(f"{actions}/apply_to_resources", self.apply, methods=["POST"]),
            Route(f"{actions}/remove_from_resources", self.remove, methods=["POST"]),
        ]

    def body(self, firewall: Firewall) -> JsonObject:
        """Render as the API does."""
        applied: list[JsonObject] = [
            {"type": "server", "server": {"id": server}} for server in firewall.servers
        ]
        applied += [
            {
                "type": "label_selector",
                "label_selector": {"selector": selector},
                "applied_to_resources": [
                    {"type": "server", "server": {"id": server.id}}
                    for server in self._project.state.servers.values()
                    if lists.matches(selector, server.labels)
                ],
            }
            for selector in firewall.selectors
        ]
        return {
            "id": firewall.id,
            "name": firewall.name,
            "labels": firewall.labels,
            "rules": [rule.model_dump() for rule in firewall.rules],
            "applied_to": applied,
            "created": firewall.created,
        }

    async def index(self, request: Request) -> Response:
        """List."""
        bodies = (self.body(firewall) for firewall in self._firewalls.values())
        return lists.answer(request, "firewalls", bodies)

    async def create(self, request: Request) -> Response:
        """Create, and apply when asked."""
        wanted = await self._project.body(request, CreateFirewall)
        lists.check_labels(wanted.labels)
        self._check_name(wanted.name, 0)
        self._project.check_quota("firewalls", len(self._firewalls))
        firewall = Firewall(
            id=self._project.state.new_id(),
            name=wanted.name,
            labels=wanted.labels,
            rules=_checked(wanted.rules),
            created=now(),
        )
        for target in wanted.apply_to:
            self._apply(firewall, target)
        self._firewalls[firewall.id] = firewall
        actions = [self._project.done("set_firewall_rules", _resource(firewall))]
        if wanted.apply_to:
            actions.append(self._enforce("apply_firewall", firewall))
        return JSONResponse({"firewall": self.body(firewall), "actions": actions}, 201)

    async def get(self, request: Request) -> Response:
        """Get one."""
        return JSONResponse({"firewall": self.body(self._find(request))})

    async def update(self, request: Request) -> Response:
        """Change name or labels."""
        firewall = self._find(request)
        wanted = await self._project.body(request, UpdateFirewall)
        if wanted.name is not None:
            self._check_name(wanted.name, firewall.id)
            firewall.name = wanted.name
        if wanted.labels is not None:
            lists.check_labels(wanted.labels)
            firewall.labels = wanted.labels
        return JSONResponse({"firewall": self.body(firewall)})

    async def delete(self, request: Request) -> Response:
        """Delete one that applies to nothing."""
        firewall = self._find(request)
        if firewall.servers or firewall.selectors:
            raise errors.HetznerError(
                422, "resource_in_use", f"firewall with ID '{firewall.id}' is still in use"
            )
        del self._firewalls[firewall.id]
        return Response(status_code=204)

    async def set_rules(self, request: Request) -> Response:
        """Replace all rules."""
        firewall = self._find(request)
        wanted = await self._project.body(request, SetRules)
        firewall.rules = _checked(wanted.rules)
        actions = [self._enforce("set_firewall_rules", firewall)]
        return JSONResponse({"actions": actions}, 201)

    async def apply(self, request: Request) -> Response:
        """Apply to servers or label selectors."""
        firewall = self._find(request)
        for target in (await self._project.body(request, ApplyTo)).apply_to:
            self._apply(firewall, target)
        return JSONResponse({"actions": [self._enforce("apply_firewall", firewall)]}, 201)

    async def remove(self, request: Request) -> Response:
        """Take it from servers or label selectors."""
        firewall = self._find(request)
        before = self._servers(firewall)
        for target in (await self._project.body(request, RemoveFrom)).remove_from:
            self._remove(firewall, target)
        action = self._enforce("remove_firewall", firewall, before)
        return JSONResponse({"actions": [action]}, 201)

    def _enforce(
        self, command: str, firewall: Firewall, servers: set[int] | None = None
    ) -> JsonObject:
        affected = sorted(servers or self._servers(firewall))
        resources = [_resource(firewall), *(Resource(id=i, type="server") for i in affected)]
        if not affected:
            return self._project.done(command, *resources)
        return self._project.start(command, lambda: self._project.enforce(affected), *resources)

    def _servers(self, firewall: Firewall) -> set[int]:
        selected = {
            server.id
            for server in self._project.state.servers.values()
            if any(lists.matches(selector, server.labels) for selector in firewall.selectors)
        }
        return selected | set(firewall.servers)

    def _apply(self, firewall: Firewall, target: Target) -> None:
        if target.type == "server" and target.server is not None:
            if target.server.id not in self._project.state.servers:
                raise errors.HetznerError(
                    404, "firewall_resource_not_found", f"server '{target.server.id}' not found"
                )
            if target.server.id in firewall.servers:
                raise errors.HetznerError(
                    422, "firewall_already_applied", "firewall was already applied on resource"
                )
            firewall.servers.append(target.server.id)
        elif target.type == "label_selector" and target.label_selector is not None:
            lists.matches(target.label_selector.selector, {})
            firewall.selectors.append(target.label_selector.selector)
        else:
            raise errors.invalid({"apply_to": "needs a server or a label_selector"})

    def _remove(self, firewall: Firewall, target: Target) -> None:
        if target.server is not None and target.server.id in firewall.servers:
            firewall.servers.remove(target.server.id)
        elif target.label_selector is not None and (
            target.label_selector.selector in firewall.selectors
        ):
            firewall.selectors.remove(target.label_selector.selector)
        else:
            raise errors.HetznerError(
                422, "firewall_already_removed", "firewall was already removed from the resource"
            )

    def _check_name(self, name: str, own: int) -> None:
        names = ((firewall.id, firewall.name) for firewall in self._firewalls.values())
        self._project.check_name("firewall", name, names, own)

    def _find(self, request: Request) -> Firewall:
        identifier = request.path_params["id"]
        if identifier not in self._firewalls:
            raise errors.not_found("firewall", identifier)
        return self._firewalls[identifier]


def _checked(rules: list[Rule]) -> list[Rule]:
    if len(rules) > MOST_RULES:
        raise errors.invalid({"rules": f"at most {MOST_RULES} rules"})
    for index, rule in enumerate(rules):
        _check_rule(f"rules.{index}", rule)
    return rules


def _check_rule(where: str, rule: Rule) -> None:
    used, unused = rule.source_ips, rule.destination_ips
    field, other = "source_ips", "destination_ips"
    if rule.direction == "out":
        used, unused, field, other = unused, used, other, field
    if not used:
        raise errors.invalid({f"{where}.{field}": "Missing data for required field."})
    if unused:
        raise errors.invalid({f"{where}.{other}": f"not allowed with direction {rule.direction}"})
    if len(used) > MOST_NETWORKS:
        raise errors.invalid({f"{where}.{field}": f"at most {MOST_NETWORKS} networks"})
    for network in used:
        if "/" not in network or not _is_network(network):
            message = f"{network} is not an IP network in CIDR notation with no host bits set"
            raise errors.invalid({f"{where}.{field}": message})
    has_ports = rule.protocol in ("tcp", "udp")
    if has_ports != (rule.port is not None):
        message = "is required for tcp and udp" if has_ports else "is for tcp and udp only"
        raise errors.invalid({f"{where}.port": message})
    if rule.port is not None and not _is_port(rule.port):
        raise errors.invalid({f"{where}.port": "must be a port, a range, or 'any'"})


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    if text == "any":
        return True
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    if match is None:
        return False
    first, last = int(match[1]), int(match[2] or match[1])
    return 1 <= first <= last <= 65535


def _resource(firewall: Firewall) -> Resource:
    return Resource(id=firewall.id, type="firewall")
