"""Renders what runs on a node: the compose file and one folder a service.

Pure and deterministic: equal contexts give equal bytes, so a change of the bundle's hash always
means a change of what runs.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stack.alerting import NO_CHANNELS, AlertChannels
from stack.catalogue import Catalogue, load_catalogue
from stack.dashboards import render_dashboards
from stack.limits import SERVICES, ServiceLimits, workers_of
from stack.mirrors import GitMirror
from stack.yaml_text import read_yaml

STACK_DIR = Path(__file__).parent

# Services that bring files of their own; each has a folder of the same name.
CONFIGURED_SERVICES = (
    "alertmanager",
    "blackbox",
    "gitea",
    "grafana",
    "log-gate",
    "loki",
    "nginx",
    "openbao",
    "postgres",
    "prometheus",
)
# Those that write to the database, and so run where it takes writes, by a script that they share.
_LEADER_SERVICES = ("gitea", "openbao")
_LEADER_SCRIPT = "while-leader.sh"
# Only there where there is a second repository for the database's backups.
_SECOND_TOOL = "pgbackrest-repository"

# Containers are not root, so the secrets they mount are readable by this group on the node.
SECRETS_GID = 64000
SECRETS_MODE = "0440"

_NODE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9-]{1,63}$"
)
_SIZE = re.compile(r"[1-9][0-9]*(?:MB|GB|TB)")


class StackError(ValueError):
    """The context cannot be rendered; the message names the field and the remedy."""


@dataclass(frozen=True)
class BackupRepository:
    """Where the database's backups are.

    Args:
        endpoint: https address of an S3 interface.
        region: its region.
        bucket: the bucket's name.
        retention_days: how far back the database can be brought, in days.
    """

    endpoint: str
    region: str
    bucket: str
    retention_days: int

    path = "/database"
    """In the bucket."""

    @property
    def host(self) -> str:
        """Host of the endpoint, with the port if it names one."""
        return urlsplit(self.endpoint).netloc


@dataclass(frozen=True)
class StackContext:
    """Everything that the stack of one node depends on.

    Args:
        node: name of this node, such as vps-01.
        peer: name of the other node.
        role: role of the node when no arbiter says otherwise.
        public_name: the name that devices and people use.
        domain: the zone; nodes are reachable as <node>.<domain>.
        fleet_size: devices that the pair is sized for.
        registry: registry that mirrors every image, or None for each image's own.
        limits: limits of each service in `stack.limits.SERVICES`.
        retention_days: how long Prometheus keeps samples, in days.
        retention_size: how much disk Prometheus may fill, such as 60GB.
        environment: name of the deployment, such as prod; a label on every metric and alert.
        backup: where the database's backups are.
        second_backup: where they are once more, or None.
        own_registry: registry of the images built from this repository; needed without a mirror.
        trusted_proxy_cidrs: networks whose CF-Connecting-IP header is believed; empty for none.
        peer_address: host name or address of the peer on the tailnet; None for its node name.
        alerts: where alerts go; nowhere by default.
        git_mirrors: repositories that the node mirrors.
        grafana: whether Grafana runs; its image cannot be had everywhere.
        openbao: whether OpenBao runs, which keeps secrets for people and devices.
    """

    node: str
    peer: str
    role: Literal["primary", "standby"]
    public_name: str
    domain: str
    fleet_size: int
    registry: str | None
    limits: Mapping[str, ServiceLimits]
    retention_days: int
    retention_size: str
    environment: str
    backup: BackupRepository
    second_backup: BackupRepository | None = None
    own_registry: str | None = None
    trusted_proxy_cidrs: tuple[str, ...] = ()
    peer_address: str | None = None
    alerts: AlertChannels = NO_CHANNELS
    git_mirrors: tuple[GitMirror, ...] = ()
    grafana: bool = True
    openbao: bool = False

    def __post_init__(self) -> None:
        for field, name in (("node", self.node), ("peer", self.peer)):
            if not _NODE_NAME.fullmatch(name):
                raise StackError(
                    f"{field}: {name!r} is no host name; use letters, digits and dashes"
                )
        if self.node == self.peer:
            raise StackError(f"peer: {self.peer!r} is the node itself; name the other node")
        if not _NODE_NAME.fullmatch(self.environment):
            raise StackError(f"environment: {self.environment!r} is no plain name, such as prod")
        for field, name in (
            ("public_name", self.public_name),
            ("domain", self.domain),
            ("peer_address", self.peer_address or self.peer),
        ):
            if not _HOST_NAME.fullmatch(name):
                raise StackError(f"{field}: {name!r} is no host name, such as fleet.example.com")
        if not _SIZE.fullmatch(self.retention_size):
            raise StackError(
                f"retention_size: {self.retention_size!r} is no size; write a number and a unit, "
                "such as 60GB"
            )
        for field, number in (
            ("retention_days", self.retention_days),
            ("fleet_size", self.fleet_size),
            ("backup.retention_days", self.backup.retention_days),
        ):
            if number < 1:
                raise StackError(f"{field}: {number} is not a positive number")
        for name, backup in (("backup", self.backup), ("second_backup", self.second_backup)):
            if backup:
                _check_repository(name, backup)
        missing = [name for name in SERVICES if name not in self.limits]
        if missing:
            raise StackError(f"limits: none for {', '.join(missing)}; see stack.limits.limits_for")
        for cidr in self.trusted_proxy_cidrs:
            try:
                network = ipaddress.ip_network(cidr)
            except ValueError as error:
                raise StackError(f"trusted_proxy_cidrs: {cidr!r} is no network: {error}") from None
            if network.prefixlen == 0:
                raise StackError(
                    f"trusted_proxy_cidrs: {cidr} would let anyone forge a client address; "
                    "give the networks of the proxy"
                )


def _check_repository(name: str, repository: BackupRepository) -> None:
    for field, value in (
        ("endpoint", repository.host),
        ("region", repository.region),
        ("bucket", repository.bucket),
    ):
        # They stand unquoted in a file of lines.
        if not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", value):
            raise StackError(
                f"{name}.{field}: {value!r} cannot be written down; see overlord:backup"
            )


def render_stack(context: StackContext) -> dict[str, bytes]:
    """Render every file of a node's stack.

    Returns:
        File contents by path, relative to the folder of the node in the bundle, sorted by path.

    Raises:
        StackError: the context is not usable.
        stack.catalogue.CatalogueError: an image has no registry.
    """
    return _render(context, load_catalogue())


def _render(context: StackContext, catalogue: Catalogue) -> dict[str, bytes]:
    environment = Environment(
        loader=FileSystemLoader(STACK_DIR),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # The templates are configuration files, not HTML; values are checked or quoted in place.
        autoescape=False,  # noqa: S701
    )
    variables: dict[str, object] = {
        "node": context.node,
        "peer": context.peer,
        "peer_address": context.peer_address or context.peer,
        "role": context.role,
        "public_name": context.public_name,
        "node_name": f"{context.node}.{context.domain}",
        "environment": context.environment,
        "backup": context.backup,
        "second_backup": context.second_backup,
        "fleet_size": context.fleet_size,
        "retention_days": context.retention_days,
        "retention_size": context.retention_size,
        "trusted_proxy_cidrs": sorted(context.trusted_proxy_cidrs),
        "secrets_gid": SECRETS_GID,
        "alerts": context.alerts,
        "git_mirrors": context.git_mirrors,
        "grafana": context.grafana,
        "openbao": context.openbao,
        "limits": {name: context.limits[name] for name in SERVICES},
        "nginx_workers": workers_of(context.limits["nginx"]),
    }

    files: dict[str, bytes] = {}
    config_hashes: dict[str, str] = {}
    optional = {"grafana": context.grafana, "openbao": context.openbao}
    for service in CONFIGURED_SERVICES:
        if not optional.get(service, True):
            continue
        rendered = _render_folder(environment, service, variables)
        if service == "grafana":
            rendered |= render_dashboards()
        if service == "postgres" and context.second_backup:
            rendered |= _second_repository(environment, variables)
        if service in _LEADER_SERVICES:
            script = STACK_DIR / "leader" / _LEADER_SCRIPT
            rendered[f"{service}/{_LEADER_SCRIPT}"] = script.read_bytes()
        config_hashes[service] = _hash(rendered)
        files.update(rendered)

    variables["config_hash"] = config_hashes
    variables["images"] = {
        name: catalogue.reference(
            name, registry=context.registry, own_registry=context.own_registry
        )
        for name in catalogue.images
    }
    compose = environment.get_template("compose.yaml.j2").render(variables)
    files["compose.yaml"] = compose.encode()
    files["secrets.json"] = _secrets_of(compose)
    return dict(sorted(files.items()))


def _second_repository(
    environment: Environment, variables: Mapping[str, object]
) -> dict[str, bytes]:
    """What PostgreSQL's folder holds besides where there is a second repository."""
    text = environment.get_template(f"second/{_SECOND_TOOL}.j2").render(variables)
    return {f"postgres/{_SECOND_TOOL}": text.encode()}


def _render_folder(
    environment: Environment, service: str, variables: Mapping[str, object]
) -> dict[str, bytes]:
    """All files of one service: templates rendered, everything else as it is."""
    rendered = {}
    for path in sorted((STACK_DIR / service).rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(STACK_DIR).as_posix()
        if path.suffix == ".j2":
            text = environment.get_template(name).render(variables)
            rendered[name.removesuffix(".j2")] = text.encode()
        else:
            rendered[name] = path.read_bytes()
    return rendered


def _hash(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _secrets_of(compose: str) -> bytes:
    """Tells the node which secret files containers mount, so that it can set their group."""
    names = sorted(read_yaml(compose)["secrets"])
    document = {"gid": SECRETS_GID, "mode": SECRETS_MODE, "files": names}
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
