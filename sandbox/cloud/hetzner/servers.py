"""Servers: what is posted here boots."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.cloud.hetzner import errors, lists
from sandbox.cloud.hetzner.catalogue import (
    IMAGES,
    LOCATIONS,
    SERVER_TYPES,
    Image,
    ServerType,
    datacenter,
)
from sandbox.cloud.hetzner.domain import JsonObject, Labels, PrimaryIp, Resource, Server, now
from sandbox.cloud.hetzner.offers import Offers
from sandbox.cloud.hetzner.primary_ips import IpType, PrimaryIps, assign, pointers, unassign
from sandbox.cloud.hetzner.project import Project
from sandbox.machines.driver import MachineError, MachineSpec

MOST_USER_DATA = 32 * 1024
"""Bytes: https://docs.hetzner.cloud/reference/cloud#servers-create-a-server."""
DEFAULT_LOCATION = "fsn1"
BACKUP_WINDOWS = ("22-02", "02-06", "06-10", "10-14", "14-18", "18-22")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")


class PublicNet(BaseModel):
    """Which addresses a new server gets."""

    enable_ipv4: bool = True
    enable_ipv6: bool = True
    ipv4: int | None = None
    ipv6: int | None = None


class FirewallRef(BaseModel):
    """A firewall by id."""

    firewall: int


class CreateServer(BaseModel):
    """POST /servers."""

    name: str
    server_type: str | int
    image: str | int
    location: str | None = None
    datacenter: str | None = None
    ssh_keys: list[str | int] = []
    user_data: str = ""
    labels: Labels = {}
    firewalls: list[FirewallRef] = []
    public_net: PublicNet = PublicNet()
    start_after_create: bool = True
    networks: list[int] = []
    volumes: list[int] = []
    placement_group: int | None = None


class UpdateServer(BaseModel):
    """PUT /servers/ID."""

    name: str | None = None
    labels: Labels | None = None


class ChangeType(BaseModel):
    """POST …/actions/change_type."""

    server_type: str | int
    upgrade_disk: bool


class ChangeProtection(BaseModel):
    """POST …/actions/change_protection."""

    delete: bool | None = None
    rebuild: bool | None = None


class EnableBackup(BaseModel):
    """POST …/actions/enable_backup."""

    backup_window: str | None = None


class Rebuild(BaseModel):
    """POST …/actions/rebuild."""

    image: str | int


class Servers:
    """The routes under /servers."""

    def __init__(self, project: Project, ips: PrimaryIps, offers: Offers) -> None:
        self._project, self._ips, self._offers = project, ips, offers
        self._servers = project.state.servers

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        one = "/servers/{id:int}"
        actions = {
            "poweron": self.poweron,
            "poweroff": self.poweroff,
            "shutdown": self.shutdown,
            "reboot": self.reboot,
            "reset": self.reset,
            "change_type": self.change_type,
            "change_protection": self.change_protection,
            "enable_backup": self.enable_backup,
            "disable_backup": self.disable_backup,
            "rebuild": self.rebuild,
        }
        return [
            Route("/servers", self.index, methods=["GET"]),
            Route("/servers", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            *(Route(f"{one}/actions/{n}", f, methods=["POST"]) for n, f in actions.items()),
        ]

    def body(self, server: Server) -> JsonObject:
        """Render as the API does."""
        return {
            "id": server.id,
            "name": server.name,
            "status": server.status,
            "created": server.created,
            "public_net": self._public_net(server),
            "private_net": [],
            "server_type": self._offers.server_type_body(SERVER_TYPES[server.server_type]),
            "location": LOCATIONS[server.location].body(),
            "datacenter": datacenter(server.location),
            "image": IMAGES[server.image].body(),
            "iso": None,
            "rescue_enabled": False,
            "locked": server.locked,
            "backup_window": server.backup_window,
            "outgoing_traffic": 0,
            "ingoing_traffic": 0,
            "included_traffic": 20 * 1024**4,
            "protection": {
                "delete": server.delete_protected,
                "rebuild": server.rebuild_protected,
            },
            "labels": server.labels,
            "volumes": [],
            "load_balancers": [],
            "primary_disk_size": server.disk,
            "placement_group": None,
        }

    async def index(self, request: Request) -> Response:
        """List."""
        for server in list(self._servers.values()):
            await self._refresh(server)
        return lists.answer(request, "servers", (self.body(s) for s in self._servers.values()))

    async def get(self, request: Request) -> Response:
        """Get one."""
        server = self._find(request)
        await self._refresh(server)
        return JSONResponse({"server": self.body(server)})

    async def create(self, request: Request) -> Response:
        """Create; the action succeeds once the machine is started."""
        wanted = await self._project.body(request, CreateServer)
        server_type, location, image = self._order(wanted)
        keys = [self._ssh_key(reference) for reference in wanted.ssh_keys]
        self._project.check_quota("servers", len(self._servers))
        firewalls = [self._firewall(reference.firewall) for reference in wanted.firewalls]
        addresses = self._addresses(wanted, location)  # last, since it may make new ones
        server = Server(
            id=self._project.state.new_id(),
            name=wanted.name,
            status="initializing",
            server_type=server_type.name,
            image=image.id,
            location=location,
            ipv4=None,
            ipv6=None,
            labels=wanted.labels,
            user_data=wanted.user_data,
            ssh_keys=keys,
            disk=server_type.disk,
            locked=True,
            created=now(),
        )
        self._servers[server.id] = server
        for ip in addresses:
            assign(ip, server)
        for firewall in firewalls:
            firewall.servers.append(server.id)
        resource = Resource(id=server.id, type="server")
        # One action does both; the vendor's second one is there for clients that wait for it.
        action = self._start("create_server", server, lambda: self._boot(server))
        following = []
        if wanted.start_after_create:
            following = [self._project.start("start_server", lambda: self._ready(server), resource)]
        body = {
            "server": self.body(server),
            "action": action,
            "next_actions": following,
            # Shown once, and only to those who brought no key.
            "root_password": None if keys else secrets.token_urlsafe(12),
        }
        return JSONResponse(body, 201)

    async def update(self, request: Request) -> Response:
        """Change name or labels."""
        server = self._find(request)
        wanted = await self._project.body(request, UpdateServer)
        if wanted.name is not None:
            self._check_name(wanted.name, server.id)
            server.name = wanted.name
        if wanted.labels is not None:
            lists.check_labels(wanted.labels)
            server.labels = wanted.labels
            await self._project.enforce([server.id])  # label selectors may match otherwise now
        return JSONResponse({"server": self.body(server)})

    async def delete(self, request: Request) -> Response:
        """Delete; addresses with auto_delete go with it, the others become free."""
        server = self._unlocked(request)
        if server.delete_protected:
            raise errors.protected("server")
        before, server.status = server.status, "deleting"

        async def work() -> None:
            try:
                await self._project.call(server.id, lambda: self._project.driver.delete(server.id))
            except MachineError:
                server.status = before
                raise
            self._forget(server)

        action = self._start("delete_server", server, work)
        return JSONResponse({"action": action})

    async def poweron(self, request: Request) -> Response:
        """Start."""
        return self._drive(request, "start_server", self._project.driver.power_on, "running")

    async def poweroff(self, request: Request) -> Response:
        """Pull the plug."""
        return self._drive(request, "stop_server", self._project.driver.power_off, "off")

    async def shutdown(self, request: Request) -> Response:
        """Press the power button; the server is off when it has shut down."""
        return self._drive(request, "shutdown_server", self._project.driver.shutdown, None)

    async def reboot(self, request: Request) -> Response:
        """Reboot softly."""
        return self._drive(request, "reboot_server", self._project.driver.reboot, "running")

    async def reset(self, request: Request) -> Response:
        """Reboot hard."""
        return self._drive(request, "reset_server", self._project.driver.reset, "running")

    async def change_type(self, request: Request) -> Response:
        """Change the size of a server that is off."""
        server = self._unlocked(request)
        wanted = await self._project.body(request, ChangeType)
        server_type = _server_type(wanted.server_type)
        await self._refresh(server)
        if server.status != "off":
            raise errors.HetznerError(
                422, "server_not_stopped", f"server '{server.name}' must be powered off"
            )
        current = SERVER_TYPES[server.server_type]
        if server_type.architecture != current.architecture or server_type.disk < server.disk:
            raise errors.HetznerError(
                422, "invalid_server_type", "the server type does not fit the server's disk or CPU"
            )
        self._check_stock(server_type, server.location)

        async def work() -> None:
            driver = self._project.driver
            await self._project.call(
                server.id, lambda: driver.resize(server.id, server_type.cores, server_type.memory)
            )
            server.server_type = server_type.name
            if wanted.upgrade_disk:
                server.disk = server_type.disk

        return JSONResponse({"action": self._start("change_server_type", server, work)}, 201)

    async def change_protection(self, request: Request) -> Response:
        """Set delete and rebuild protection, which must be equal."""
        server = self._find(request)
        wanted = await self._project.body(request, ChangeProtection)
        delete = server.delete_protected if wanted.delete is None else wanted.delete
        rebuild = server.rebuild_protected if wanted.rebuild is None else wanted.rebuild
        if delete != rebuild:
            raise errors.invalid({"rebuild": "must have the same value as delete"})
        server.delete_protected, server.rebuild_protected = delete, rebuild
        return self._done("change_protection", server)

    async def enable_backup(self, request: Request) -> Response:
        """Book daily backups."""
        server = self._unlocked(request)
        wanted = await self._project.body(request, EnableBackup)
        if wanted.backup_window is not None and wanted.backup_window not in BACKUP_WINDOWS:
            raise errors.invalid({"backup_window": f"must be one of {', '.join(BACKUP_WINDOWS)}"})
        server.backup_window = wanted.backup_window or BACKUP_WINDOWS[0]
        return self._done("enable_backup", server)

    async def disable_backup(self, request: Request) -> Response:
        """End daily backups."""
        server = self._unlocked(request)
        server.backup_window = None
        return self._done("disable_backup", server)

    async def rebuild(self, request: Request) -> Response:
        """Make the disk anew from an image; the server boots its user_data again."""
        server = self._unlocked(request)
        wanted = await self._project.body(request, Rebuild)
        if server.rebuild_protected:
            raise errors.protected("server", "rebuild")
        architecture = SERVER_TYPES[server.server_type].architecture
        image = _image(wanted.image, architecture)
        server.status = "rebuilding"

        async def work() -> None:
            await self._project.call(server.id, lambda: self._project.driver.delete(server.id))
            server.image = image.id
            await self._boot(server)

        action = self._start("rebuild_server", server, work)
        password = None if server.ssh_keys else secrets.token_urlsafe(12)
        return JSONResponse({"action": action, "root_password": password}, 201)

    # What a request may order

    def _order(self, wanted: CreateServer) -> tuple[ServerType, str, Image]:
        if not _HOST_NAME.match(wanted.name):
            raise errors.invalid({"name": "must be a valid hostname"})
        if wanted.datacenter is not None:
            raise errors.invalid({"datacenter": "was removed on 1 July 2026, use location"})
        for field in ("networks", "volumes", "placement_group"):
            if getattr(wanted, field):
                raise errors.invalid({field: "is not emulated"})
        if len(wanted.user_data.encode()) > MOST_USER_DATA:
            raise errors.invalid({"user_data": f"Length must be at most {MOST_USER_DATA} bytes."})
        lists.check_labels(wanted.labels)
        server_type = _server_type(wanted.server_type)
        location = _location(wanted.location or DEFAULT_LOCATION)
        if not server_type.orderable(location):
            raise errors.refused("unsupported location for server type")
        image = _image(wanted.image, server_type.architecture)
        self._check_name(wanted.name, 0)
        self._check_stock(server_type, location)
        return server_type, location, image

    def _check_stock(self, server_type: ServerType, location: str) -> None:
        if self._project.faults.sold_out(server_type.name, location):
            raise errors.sold_out()

    def _check_name(self, name: str, own: int) -> None:
        if not _HOST_NAME.match(name):
            raise errors.invalid({"name": "must be a valid hostname"})
        names = ((server.id, server.name) for server in self._servers.values())
        self._project.check_name("server", name, names, own)

    def _ssh_key(self, reference: str | int) -> str:
        for key in self._project.state.ssh_keys.values():
            if reference in (key.id, key.name):
                return key.public_key
        raise errors.refused(f"SSH key '{reference}' not found")

    def _firewall(self, identifier: int) -> Any:
        if identifier not in self._project.state.firewalls:
            raise errors.refused(f"firewall with ID '{identifier}' not found")
        return self._project.state.firewalls[identifier]

    def _addresses(self, wanted: CreateServer, location: str) -> list[PrimaryIp]:
        net = wanted.public_net
        if not net.enable_ipv4 and not net.enable_ipv6:
            raise errors.invalid({"public_net": "a server needs at least one network"})
        given: list[tuple[IpType, bool, int | None]] = [
            ("ipv4", net.enable_ipv4, net.ipv4),
            ("ipv6", net.enable_ipv6, net.ipv6),
        ]
        # All given ones are checked before the first new one is made.
        owned = {
            kind: self._own_address(kind, identifier, location)
            for kind, enabled, identifier in given
            if enabled and identifier is not None
        }
        missing = [kind for kind, enabled, _ in given if enabled and kind not in owned]
        self._ips.check_room(len(missing))
        names = {kind: f"primary_{kind}-{self._project.state.next_id}" for kind in missing}
        made = [self._ips.make(names[kind], kind, location, {}, True) for kind in missing]
        return [*owned.values(), *made]

    def _own_address(self, kind: IpType, identifier: int, location: str) -> PrimaryIp:
        ip = self._project.state.primary_ips.get(identifier)
        if ip is None:
            raise errors.refused(f"primary IP with ID '{identifier}' not found")
        if ip.type != kind:
            raise errors.HetznerError(
                422, "primary_ip_version_mismatch", f"primary IP is not of type {kind}"
            )
        if ip.assignee_id is not None:
            raise errors.HetznerError(
                422, "primary_ip_assigned", "primary ip already assigned to another server"
            )
        if ip.location != location:
            raise errors.HetznerError(
                422, "primary_ip_datacenter_mismatch", "primary IP is in another location"
            )
        return ip

    # What the driver does

    async def _boot(self, server: Server) -> None:
        spec = self._spec(server)
        await self._project.call(server.id, lambda: self._project.driver.create(spec))
        server.status = "running"
        rules = self._project.rules_for(server.id)
        if rules is not None:
            await self._project.call(
                server.id, lambda: self._project.driver.set_firewall(server.id, rules)
            )

    async def _ready(self, server: Server) -> None:
        async with self._project.locks[server.id]:
            if server.status != "running":
                raise MachineError(f"server '{server.name}' did not start")

    def _spec(self, server: Server) -> MachineSpec:
        server_type, ips = SERVER_TYPES[server.server_type], self._project.state.primary_ips
        return MachineSpec(
            id=server.id,
            name=server.name,
            server_type=server.server_type,
            cores=server_type.cores,
            memory_gb=server_type.memory,
            disk_gb=server.disk,
            image=IMAGES[server.image].name,
            location=server.location,
            ipv4=None if server.ipv4 is None else ips[server.ipv4].ip,
            ipv6=None if server.ipv6 is None else ips[server.ipv6].ip,
            user_data=server.user_data,
            ssh_keys=tuple(server.ssh_keys),
            labels=dict(server.labels),
        )

    def _drive(
        self, request: Request, command: str, function: Callable[[int], None], then: str | None
    ) -> Response:
        server = self._unlocked(request)

        async def work() -> None:
            await self._project.call(server.id, lambda: function(server.id))
            if then is not None:
                server.status = then

        return JSONResponse({"action": self._start(command, server, work)}, 201)

    def _start(
        self, command: str, server: Server, work: Callable[[], Awaitable[None]]
    ) -> JsonObject:
        server.locked = True

        async def locked() -> None:
            try:
                await work()
            finally:
                server.locked = False

        return self._project.start(command, locked, Resource(id=server.id, type="server"))

    def _done(self, command: str, server: Server) -> Response:
        action = self._project.done(command, Resource(id=server.id, type="server"))
        return JSONResponse({"action": action}, 201)

    async def _refresh(self, server: Server) -> None:
        # A machine may have powered itself off, so the driver is asked unless an action runs.
        if server.locked:
            return
        state = await self._project.state_of(server.id)
        if not server.locked:
            server.status = state

    def _forget(self, server: Server) -> None:
        state = self._project.state
        for identifier in (server.ipv4, server.ipv6):
            if identifier is None:
                continue
            ip = state.primary_ips[identifier]
            unassign(ip, server)
            if ip.auto_delete:
                del state.primary_ips[ip.id]
        for firewall in state.firewalls.values():
            if server.id in firewall.servers:
                firewall.servers.remove(server.id)
        self._servers.pop(server.id, None)

    def _public_net(self, server: Server) -> JsonObject:
        ips, state = self._project.state.primary_ips, self._project.state
        ipv4 = None if server.ipv4 is None else ips[server.ipv4]
        ipv6 = None if server.ipv6 is None else ips[server.ipv6]
        return {
            "ipv4": ipv4
            and {
                "id": ipv4.id,
                "ip": ipv4.ip,
                "blocked": False,
                "dns_ptr": pointers(ipv4)[0]["dns_ptr"],
            },
            "ipv6": ipv6
            and {"id": ipv6.id, "ip": ipv6.ip, "blocked": False, "dns_ptr": pointers(ipv6)},
            "floating_ips": [],
            "firewalls": [
                {"id": firewall.id, "status": "applied"}
                for firewall in state.firewalls.values()
                if server.id in firewall.servers
                or any(lists.matches(s, server.labels) for s in firewall.selectors)
            ],
        }

    def _find(self, request: Request) -> Server:
        identifier = request.path_params["id"]
        if identifier not in self._servers:
            raise errors.not_found("server", identifier)
        return self._servers[identifier]

    def _unlocked(self, request: Request) -> Server:
        server = self._find(request)
        if server.locked:
            raise errors.locked("server")
        return server


def _server_type(reference: str | int) -> ServerType:
    for server_type in SERVER_TYPES.values():
        if str(reference) in (server_type.name, str(server_type.id)):
            return server_type
    raise errors.refused(f"server type '{reference}' not found")


def _location(reference: str) -> str:
    for place in LOCATIONS.values():
        if reference in (place.name, str(place.id)):
            return place.name
    raise errors.refused(f"location '{reference}' not found")


def _image(reference: str | int, architecture: str) -> Image:
    for image in IMAGES.values():
        if str(reference) == str(image.id):
            if image.architecture != architecture:
                raise errors.refused("image architecture does not match the server type")
            return image
        if reference == image.name and image.architecture == architecture:
            return image
    raise errors.refused(f"image '{reference}' not found")
