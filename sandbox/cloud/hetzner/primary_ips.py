"""Primary IPs: addresses that outlive the servers they are assigned to."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.cloud.hetzner import errors, lists
from sandbox.cloud.hetzner.catalogue import LOCATIONS, datacenter
from sandbox.cloud.hetzner.domain import (
    JsonObject,
    Labels,
    Name,
    PrimaryIp,
    Resource,
    Server,
    now,
)
from sandbox.cloud.hetzner.project import Project

IpType = Literal["ipv4", "ipv6"]
FIRST_HOST, LAST_HOST = 10, 254


class CreatePrimaryIp(BaseModel):
    """POST /primary_ips."""

    name: Name
    type: IpType
    location: str | None = None
    datacenter: str | None = None
    assignee_id: int | None = None
    assignee_type: Literal["server", "unassigned"] | None = None
    auto_delete: bool = False
    labels: Labels = {}


class UpdatePrimaryIp(BaseModel):
    """PUT /primary_ips/ID."""

    name: Name | None = None
    auto_delete: bool | None = None
    labels: Labels | None = None


class ChangeProtection(BaseModel):
    """POST …/actions/change_protection."""

    delete: bool | None = None


class Assign(BaseModel):
    """POST …/actions/assign."""

    assignee_id: int
    assignee_type: Literal["server"] = "server"


class ChangeDnsPtr(BaseModel):
    """POST …/actions/change_dns_ptr; null resets to the vendor's name."""

    ip: str
    dns_ptr: str | None


class PrimaryIps:
    """The routes under /primary_ips."""

    def __init__(self, project: Project) -> None:
        self._project, self._ips = project, project.state.primary_ips

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        one, actions = "/primary_ips/{id:int}", "/primary_ips/{id:int}/actions"
        return [
            Route("/primary_ips", self.index, methods=["GET"]),
            Route("/primary_ips", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{actions}/change_protection", self.change_protection, methods=["POST"]),
            Route(f"{actions}/assign", self.assign, methods=["POST"]),
            Route(f"{actions}/unassign", self.unassign, methods=["POST"]),
            Route(f"{actions}/change_dns_ptr", self.change_dns_ptr, methods=["POST"]),
        ]

    def body(self, ip: PrimaryIp) -> JsonObject:
        """Render as the API does."""
        return {
            "id": ip.id,
            "name": ip.name,
            "type": ip.type,
            "ip": ip.ip,
            "location": LOCATIONS[ip.location].body(),
            "datacenter": datacenter(ip.location),
            "labels": ip.labels,
            "auto_delete": ip.auto_delete,
            "blocked": False,
            "protection": {"delete": ip.delete_protected},
            "dns_ptr": pointers(ip),
            "assignee_id": ip.assignee_id,
            # Since August 2026 an address without a server says so here too.
            "assignee_type": "unassigned" if ip.assignee_id is None else "server",
            "created": ip.created,
        }

    async def index(self, request: Request) -> Response:
        """List."""
        return lists.answer(request, "primary_ips", (self.body(ip) for ip in self._ips.values()))

    async def create(self, request: Request) -> Response:
        """Create, and assign when asked."""
        wanted = await self._project.body(request, CreatePrimaryIp)
        if wanted.datacenter is not None:
            raise errors.invalid({"datacenter": "was removed on 1 July 2026, use location"})
        server: Server | None = None
        if wanted.assignee_id is not None:
            server = self._server(wanted.assignee_id)
            self._check_assignable(server, wanted.type)
        elif wanted.location is None:
            raise errors.invalid({"location": "Missing data for required field."})
        location = server.location if server else wanted.location
        if location not in LOCATIONS:
            raise errors.refused(f"location '{location}' not found")
        ip = self.make(wanted.name, wanted.type, location, wanted.labels, wanted.auto_delete)
        answer: JsonObject = {}
        if server is not None:
            assign(ip, server)
            answer["action"] = self._project.done("assign_primary_ip", *_resources(ip))
        else:
            answer["action"] = self._project.done("create_primary_ip", *_resources(ip))
        return JSONResponse({"primary_ip": self.body(ip), **answer}, 201)

    def make(
        self, name: str, kind: IpType, location: str, labels: Labels, auto_delete: bool
    ) -> PrimaryIp:
        """Hand out an address. Also used for servers created without addresses of their own."""
        lists.check_labels(labels)
        self._check_name(name, 0)
        self.check_room(1)
        ip = PrimaryIp(
            id=self._project.state.new_id(),
            name=name,
            type=kind,
            ip=self._free_ipv4() if kind == "ipv4" else self._free_ipv6(),
            location=location,
            labels=labels,
            auto_delete=auto_delete,
            created=now(),
        )
        self._ips[ip.id] = ip
        return ip

    def check_room(self, wanted: int) -> None:
        """Refuse more addresses than the quota allows."""
        self._project.check_quota("primary_ips", len(self._ips), wanted)

    async def get(self, request: Request) -> Response:
        """Get one."""
        return JSONResponse({"primary_ip": self.body(self._find(request))})

    async def update(self, request: Request) -> Response:
        """Change name, labels or auto_delete."""
        ip = self._find(request)
        wanted = await self._project.body(request, UpdatePrimaryIp)
        if wanted.name is not None:
            self._check_name(wanted.name, ip.id)
            ip.name = wanted.name
        if wanted.auto_delete is not None:
            ip.auto_delete = wanted.auto_delete
        if wanted.labels is not None:
            lists.check_labels(wanted.labels)
            ip.labels = wanted.labels
        return JSONResponse({"primary_ip": self.body(ip)})

    async def delete(self, request: Request) -> Response:
        """Delete; one of a running server is refused."""
        ip = self._find(request)
        if ip.delete_protected:
            raise errors.protected("primary IP")
        self._release(ip)
        del self._ips[ip.id]
        return Response(status_code=204)

    async def change_protection(self, request: Request) -> Response:
        """Set delete protection."""
        ip = self._find(request)
        wanted = await self._project.body(request, ChangeProtection)
        if wanted.delete is not None:
            ip.delete_protected = wanted.delete
        return self._done("change_protection", ip)

    async def assign(self, request: Request) -> Response:
        """Assign to a server that is off."""
        ip = self._find(request)
        wanted = await self._project.body(request, Assign)
        if ip.assignee_id is not None:
            raise errors.HetznerError(
                422, "primary_ip_already_assigned", "primary IP is already assigned"
            )
        server = self._server(wanted.assignee_id)
        self._check_assignable(server, ip.type)
        if server.location != ip.location:
            raise errors.HetznerError(
                422, "primary_ip_datacenter_mismatch", "primary IP is in another location"
            )
        assign(ip, server)
        return self._done("assign_primary_ip", ip)

    async def unassign(self, request: Request) -> Response:
        """Take it from a server that is off."""
        ip = self._find(request)
        if ip.assignee_id is None:
            raise errors.HetznerError(422, "primary_ip_not_assigned", "primary IP is not assigned")
        self._release(ip)
        return self._done("unassign_primary_ip", ip)

    async def change_dns_ptr(self, request: Request) -> Response:
        """Set or reset reverse DNS."""
        ip = self._find(request)
        wanted = await self._project.body(request, ChangeDnsPtr)
        try:
            address = ipaddress.ip_address(wanted.ip)
        except ValueError:
            raise errors.invalid({"ip": "is not an IP address"}) from None
        if address not in ipaddress.ip_network(ip.ip):
            raise errors.invalid({"ip": "does not belong to this primary IP"})
        if wanted.dns_ptr is None:
            ip.dns_ptr.pop(str(address), None)
        else:
            ip.dns_ptr[str(address)] = wanted.dns_ptr
        return self._done("change_dns_ptr", ip)

    def _done(self, command: str, ip: PrimaryIp) -> Response:
        return JSONResponse({"action": self._project.done(command, *_resources(ip))}, 201)

    def _release(self, ip: PrimaryIp) -> None:
        if ip.assignee_id is None:
            return
        server = self._server(ip.assignee_id)
        _check_off(server)
        unassign(ip, server)

    def _check_assignable(self, server: Server, kind: IpType) -> None:
        _check_off(server)
        if getattr(server, kind) is not None:
            raise errors.HetznerError(
                422, f"server_has_{kind}", f"server already has a primary {kind}"
            )

    def _check_name(self, name: str, own: int) -> None:
        names = ((ip.id, ip.name) for ip in self._ips.values())
        self._project.check_name("primary IP", name, names, own)

    def _server(self, identifier: int) -> Server:
        if identifier not in self._project.state.servers:
            raise errors.invalid({"assignee_id": f"server with ID '{identifier}' not found"})
        return self._project.state.servers[identifier]

    def _find(self, request: Request) -> PrimaryIp:
        identifier = request.path_params["id"]
        if identifier not in self._ips:
            raise errors.not_found("primary IP", identifier)
        return self._ips[identifier]

    def _free_ipv4(self) -> str:
        # Goes round, so that an address just given back is the last to be handed out again.
        taken = {ip.ip for ip in self._ips.values()}
        state = self._project.state
        for _ in range(FIRST_HOST, LAST_HOST + 1):
            address = f"{self._project.network}.{state.next_ipv4}"
            state.next_ipv4 = state.next_ipv4 + 1 if state.next_ipv4 < LAST_HOST else FIRST_HOST
            if address not in taken:
                return address
        raise errors.sold_out()

    def _free_ipv6(self) -> str:
        number = self._project.state.next_ipv6
        self._project.state.next_ipv6 += 1
        return str(ipaddress.ip_network((f"2001:db8:0:{number:x}::", 64)))


def assign(ip: PrimaryIp, server: Server) -> None:
    """Give an address to a server."""
    ip.assignee_id = server.id
    setattr(server, ip.type, ip.id)


def unassign(ip: PrimaryIp, server: Server) -> None:
    """Take an address from its server."""
    ip.assignee_id = None
    setattr(server, ip.type, None)


def pointers(ip: PrimaryIp) -> list[dict[str, str]]:
    """Reverse DNS: an IPv4 address always has an entry, the vendor's own by default."""
    if ip.type == "ipv4" and ip.ip not in ip.dns_ptr:
        name = f"static.{'.'.join(reversed(ip.ip.split('.')))}.clients.your-server.de"
        return [{"ip": ip.ip, "dns_ptr": name}]
    return [{"ip": address, "dns_ptr": name} for address, name in ip.dns_ptr.items()]


def _check_off(server: Server) -> None:
    if server.status != "off":
        raise errors.HetznerError(
            422, "server_not_stopped", f"server '{server.name}' must be powered off"
        )


def _resources(ip: PrimaryIp) -> list[Resource]:
    resources = [Resource(id=ip.id, type="primary_ip")]
    if ip.assignee_id is not None:
        resources.append(Resource(id=ip.assignee_id, type="server"))
    return resources
