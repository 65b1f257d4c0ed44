"""The bundle: everything that runs on the nodes, in one archive named by its checksum."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi

from components.bundle_object import BundleObject, keep_content
from components.settings import NODES, PRIMARY, Settings
from components.sizing import Size
from stack.limits import limits_for
from stack.mirrors import GitMirror
from stack.render import BackupRepository, StackContext, render_stack

_REPOSITORY = Path(__file__).resolve().parent.parent
_AGENT_DIR = "overlord"
_SKIPPED = {"__pycache__", ".mypy_cache", ".ruff_cache"}
_STORED_BLOCK = 65535


@dataclass(frozen=True)
class BundleFacts:
    """What is known about the world when the bundle is packed.

    Args:
        addresses: public addresses by node, {ipv4, ipv6}.
        web_proxies: networks whose word on a client's address is believed.
        buckets: names of the buckets, {data, bundles, logs}, and second where there is one.
    """

    addresses: Mapping[str, Mapping[str, str]]
    web_proxies: Sequence[str]
    buckets: Mapping[str, str]


def bundle_files(settings: Settings, size: Size, facts: BundleFacts) -> dict[str, bytes]:
    """Every file of the bundle by its path."""
    files = _agent_files()
    for node in NODES:
        rendered = render_stack(_stack_context(node, settings, size, facts))
        files[f"nodes/{node}/node.json"] = _json(_node_document(node, settings, facts))
        files |= {f"nodes/{node}/{path}": content for path, content in rendered.items()}
    checksums = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    document = {"version": 1, "nodes": list(NODES), "files": checksums}
    return {"bundle.json": _json(document), **files}


def pack(files: Mapping[str, bytes]) -> bytes:
    """A gzipped tar archive that depends on nothing but the files.

    Sorted, owned by root, without times. Stored and not deflated: different builds of zlib deflate
    the same input to different bytes, and then one colleague's preview would show a new bundle.
    """
    buffer = io.BytesIO()
    folders = {str(parent) for path in files for parent in Path(path).parents} - {"."}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted({*files, *folders}):
            entry = tarfile.TarInfo(path)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = 0
            if path in files:
                content = files[path]
                entry.size = len(content)
                entry.mode = 0o755 if content.startswith(b"#!") else 0o644
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.type = tarfile.DIRTYPE
                entry.mode = 0o755
                archive.addfile(entry)
    return _stored_gzip(buffer.getvalue())


@dataclass(frozen=True)
class BundleArgs:
    """What the bundle is made from.

    Args:
        settings: the stack's settings.
        size: what the fleet needs.
        facts: addresses, networks and bucket names, once they are known.
        bucket: the bundles bucket.
    """

    settings: Settings
    size: Size
    facts: pulumi.Input[BundleFacts]
    bucket: pulumi.Input[str]


class Bundle(pulumi.ComponentResource):
    """Packed for both nodes, put into the bundles bucket under its checksum."""

    sha256: pulumi.Output[str]

    def __init__(
        self, name: str, args: BundleArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:Bundle", name, None, opts)
        sha256 = pulumi.Output.from_input(args.facts).apply(
            lambda facts: keep_content(pack(bundle_files(args.settings, args.size, facts)))
        )
        stored = BundleObject(
            f"{name}-object",
            endpoint=args.settings.backup.endpoint,
            region=args.settings.backup.region,
            bucket=args.bucket,
            sha256=sha256,
            opts=pulumi.ResourceOptions(parent=self),
        )
        # From the resource, not from the archive: whoever uses it must find the object there.
        self.sha256 = stored.sha256
        self.register_outputs({"sha256": self.sha256})


def _agent_files() -> dict[str, bytes]:
    root = _REPOSITORY / _AGENT_DIR
    return {
        path.relative_to(_REPOSITORY).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not _SKIPPED & set(path.parts) and path.suffix != ".pyc"
    }


def _stack_context(node: str, settings: Settings, size: Size, facts: BundleFacts) -> StackContext:
    return StackContext(
        node=node,
        peer=_peer(node),
        role="primary" if node == PRIMARY else "standby",
        public_name=settings.public_name,
        domain=settings.domain,
        fleet_size=settings.fleet_size,
        registry=settings.registry,
        own_registry=settings.own_registry,
        limits=limits_for(size.memory_mb, size.cores),
        retention_days=size.retention_days,
        retention_size=size.retention_size,
        environment=settings.environment,
        backup=BackupRepository(
            endpoint=settings.backup.endpoint,
            region=settings.backup.region,
            bucket=facts.buckets["data"],
            retention_days=settings.backup.database_retention_days,
        ),
        second_backup=_second_repository(settings, facts),
        trusted_proxy_cidrs=tuple(sorted(facts.web_proxies)),
        alerts=settings.alerts.channels,
        grafana=settings.grafana,
        openbao=settings.openbao,
        git_mirrors=tuple(GitMirror(mirror.name, mirror.url) for mirror in settings.git_mirrors),
    )


def _second_repository(settings: Settings, facts: BundleFacts) -> BackupRepository | None:
    second = settings.backup.second
    if second is None:
        return None
    return BackupRepository(
        endpoint=second.endpoint,
        region=second.region,
        bucket=facts.buckets["second"],
        retention_days=settings.backup.database_retention_days,
    )


def _node_document(node: str, settings: Settings, facts: BundleFacts) -> dict[str, Any]:
    backup = settings.backup
    return {
        "version": 1,
        "node": node,
        "peer": _peer(node),
        "role": "primary" if node == PRIMARY else "standby",
        "environment": settings.environment,
        "public_name": settings.public_name,
        "domain": settings.domain,
        "fleet_size": settings.fleet_size,
        "ssh_port": 22,
        "admin_user": settings.admin_user,
        "admin_cidrs": list(settings.admin_cidrs),
        "ntp_servers": list(settings.ntp_servers),
        "acme": settings.acme and {**settings.acme.model_dump(), "zone_id": settings.zone_id},
        "tailnet": {"login_server": settings.tailnet.login_server, "tags": ["tag:overlord"]},
        "backup": {
            "endpoint": backup.endpoint,
            "region": backup.region,
            "buckets": dict(facts.buckets),
            "database_retention_days": backup.database_retention_days,
            "object_lock_days": backup.object_lock_days,
            "metrics_retention_days": backup.metrics_retention_days,
            "second": backup.second
            and {"endpoint": backup.second.endpoint, "region": backup.second.region},
        },
        "arbiter": {"url": settings.arbiter_url, "lease_seconds": settings.arbiter.lease_seconds}
        if settings.arbiter_enabled
        else None,
        "peers": {name: dict(facts.addresses[name]) for name in NODES},
    }


def _peer(node: str) -> str:
    return next(other for other in NODES if other != node)


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def _stored_gzip(data: bytes) -> bytes:
    """Gzip of stored blocks (RFC 1951, 3.2.4; RFC 1952), without a time or a name."""
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    body = bytearray()
    for start in range(0, len(data) or 1, _STORED_BLOCK):
        block = data[start : start + _STORED_BLOCK]
        last = start + _STORED_BLOCK >= len(data)
        body += struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block
    return header + bytes(body) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
