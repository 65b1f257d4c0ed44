"""What the emulated Hetzner keeps: the objects of one project."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Protocol = Literal["tcp", "udp", "icmp", "esp", "gre"]
Labels = dict[str, str]
Name = Annotated[str, Field(min_length=1, max_length=128)]


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


class Resource(BaseModel):
    """What an action is about."""

    id: int
    type: str


class Action(BaseModel):
    """A task that goes on after the answer that started it. Progress is in percent."""

    id: int
    command: str
    status: Literal["running", "success", "error"] = "running"
    progress: int = 0
    started: str
    finished: str | None = None
    resources: list[Resource]
    error: dict[str, str] | None = None


class SshKey(BaseModel):
    """A public key."""

    id: int
    name: str
    fingerprint: str
    public_key: str
    labels: Labels
    created: str


class PrimaryIp(BaseModel):
    """An address (IPv4) or a /64 network (IPv6) that outlives servers."""

    id: int
    name: str
    type: Literal["ipv4", "ipv6"]
    ip: str
    location: str
    labels: Labels
    auto_delete: bool
    delete_protected: bool = False
    dns_ptr: dict[str, str] = {}
    assignee_id: int | None = None
    created: str


class Rule(BaseModel):
    """A firewall rule as posted."""

    direction: Literal["in", "out"]
    protocol: Protocol
    port: str | None = None
    source_ips: list[str] = []
    destination_ips: list[str] = []
    description: str | None = None


class Firewall(BaseModel):
    """A rule set, and the servers and label selectors it applies to."""

    id: int
    name: str
    labels: Labels
    rules: list[Rule]
    servers: list[int] = []
    selectors: list[str] = []
    created: str


class Server(BaseModel):
    """A server. `status` is the driver's word wherever it has one."""

    id: int
    name: str
    status: str
    server_type: str
    image: int
    location: str
    ipv4: int | None
    ipv6: int | None
    labels: Labels
    user_data: str
    ssh_keys: list[str]
    """Public keys, as they were when the server was created."""
    disk: int
    delete_protected: bool = False
    rebuild_protected: bool = False
    backup_window: str | None = None
    locked: bool = False
    created: str


class HetznerState(BaseModel):
    """The project."""

    next_id: int = 1_000_001
    next_ipv4: int = 10
    next_ipv6: int = 1
    servers: dict[int, Server] = {}
    primary_ips: dict[int, PrimaryIp] = {}
    firewalls: dict[int, Firewall] = {}
    ssh_keys: dict[int, SshKey] = {}
    actions: dict[int, Action] = {}

    def new_id(self) -> int:
        """Hand out an id that no object of the project ever had."""
        self.next_id += 1
        return self.next_id


JsonObject = dict[str, Any]
