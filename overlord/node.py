"""What a node knows about itself: node.json of the release and boot.json of user_data."""

from dataclasses import dataclass
from typing import Any, Literal

from overlord.errors import OverlordError
from overlord.files import read_json
from overlord.paths import Paths

Role = Literal["primary", "standby"]


@dataclass(frozen=True)
class BootSettings:
    """The part of user_data that stays; secrets are None once used."""

    node: str
    admin_user: str
    deploy_user: str
    admin_cidrs: tuple[str, ...]
    ntp_servers: tuple[str, ...]
    tailscale_login_server: str | None
    tailscale_auth_key: str | None


@dataclass(frozen=True)
class BundleStore:
    """Where bundles are: an S3 bucket."""

    endpoint: str
    region: str
    bucket: str


@dataclass(frozen=True)
class Acme:
    """A public authority that issues certificates, and the zone that proves our names to it."""

    directory: str
    email: str
    dns_api: str
    zone_id: str
    propagation_seconds: float


@dataclass(frozen=True)
class Node:
    """This node, as its release describes it."""

    name: str
    peer: str
    role: Role
    environment: str
    public_name: str
    domain: str
    admin_cidrs: tuple[str, ...]
    admin_user: str
    ntp_servers: tuple[str, ...]
    ssh_port: int
    bundles: BundleStore
    acme: Acme | None = None
    """None where the certificate of Cloudflare's Origin CA is enough."""
    arbiter: str | None = None
    """Address of the arbiter; None where promotion is by hand."""


@dataclass(frozen=True)
class BackupTerms:
    """Where backups are, and for how many days they are kept."""

    bucket: str
    database_days: int
    lock_days: int
    second: BundleStore | None = None
    """The bucket of the second repository; None where there is none."""
    logs: str = ""
    """The bucket of the logs."""

    @property
    def repositories(self) -> tuple[int, ...]:
        """Numbers of the repositories, the first one first."""
        return (1, 2) if self.second else (1,)


def read_backup_terms(paths: Paths, boot: BootSettings) -> BackupTerms:
    """From node.json of the release in force; 0 where it does not say."""
    data = read_json(paths.current / "nodes" / boot.node / "node.json").get("backup", {})
    name, second = data.get("buckets", {}).get("second", ""), data.get("second") or {}
    return BackupTerms(
        bucket=data.get("buckets", {}).get("data", ""),
        database_days=int(data.get("database_retention_days", 0)),
        lock_days=int(data.get("object_lock_days", 0)),
        second=BundleStore(second.get("endpoint", ""), second.get("region", ""), name)
        if name
        else None,
        logs=data.get("buckets", {}).get("logs", ""),
    )


def read_boot_settings(paths: Paths) -> BootSettings:
    """Raises OverlordError when user_data left nothing usable."""
    data = read_json(paths.boot_settings)
    if not data.get("node"):
        raise OverlordError(
            f"{paths.boot_settings} is missing or broken",
            "cloud-init writes it from user_data: see `cloud-init status --long`",
        )
    return BootSettings(
        node=data["node"],
        admin_user=data["admin_user"],
        deploy_user=data["deploy_user"],
        admin_cidrs=tuple(data.get("admin_cidrs", ())),
        ntp_servers=tuple(data.get("ntp_servers", ())),
        tailscale_login_server=data.get("tailscale_login_server"),
        tailscale_auth_key=data.get("tailscale_auth_key"),
    )


def read_node(paths: Paths, boot: BootSettings, release: str | None = None) -> Node:
    """This node in a release, by default the one in force. Raises OverlordError."""
    home = paths.release(release) if release else paths.current
    file = home / "nodes" / boot.node / "node.json"
    data = read_json(file)
    if not data:
        raise OverlordError(
            f"{file} is missing or broken: the bundle knows nothing of node {boot.node}",
            "run `pulumi up` to build and apply a new bundle",
        )
    return parse_node(data, boot)


def parse_node(data: dict[str, Any], boot: BootSettings) -> Node:
    """Node from node.json; what it leaves out comes from user_data."""
    backup, acme = data.get("backup", {}), data.get("acme")
    arbiter = data.get("arbiter") or {}
    return Node(
        name=data["node"],
        peer=data.get("peer", ""),
        role="primary" if data.get("role") == "primary" else "standby",
        environment=data.get("environment", ""),
        public_name=data.get("public_name", ""),
        domain=data.get("domain", ""),
        admin_cidrs=tuple(data.get("admin_cidrs") or boot.admin_cidrs),
        admin_user=data.get("admin_user") or boot.admin_user,
        ntp_servers=tuple(data.get("ntp_servers") or boot.ntp_servers),
        ssh_port=int(data.get("ssh_port", 22)),
        bundles=BundleStore(
            endpoint=backup.get("endpoint", ""),
            region=backup.get("region", ""),
            bucket=backup.get("buckets", {}).get("bundles", ""),
        ),
        acme=Acme(
            directory=acme["directory"],
            email=acme.get("email", ""),
            dns_api=acme["dns_api"].rstrip("/"),
            zone_id=acme["zone_id"],
            propagation_seconds=float(acme["propagation_seconds"]),
        )
        if acme
        else None,
        arbiter=arbiter.get("url"),
    )
