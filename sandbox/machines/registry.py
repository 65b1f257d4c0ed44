"""The image registry that servers pull from, on the gateway over TLS."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sandbox.cloud.certificates import issue
from sandbox.machines.processes import Processes
from sandbox.world import GATEWAY, LOOPBACK, REGISTRY_PORT, World

PROCESS = "registry"
BUILD_PROCESS = "registry-build"
START_SECONDS = 20


def configuration(world: World, address: str, tls: tuple[Path, Path] | None) -> str:
    """Render the registry's configuration; with TLS, from (certificate, key)."""
    http: dict[str, Any] = {"addr": address, "secret": secrets.token_hex(16)}
    if tls:
        http["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
    return yaml.safe_dump(
        {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(world.registry)}},
            "http": http,
        }
    )


def start(world: World) -> None:
    """Start the registry for the servers. The network must be up."""
    folder = world.state / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "registry.pem", folder / "registry.key"
    if not certificate.exists():
        certificate_pem, key_pem = issue(world.ca, (), (GATEWAY,))
        key.touch(mode=0o600)
        key.write_bytes(key_pem)
        certificate.write_bytes(certificate_pem)
    file = folder / "config.yml"
    file.write_text(configuration(world, f"{GATEWAY}:{REGISTRY_PORT}", (certificate, key)))
    _serve(world, PROCESS, file, GATEWAY, REGISTRY_PORT)


@contextmanager
def for_pushing(world: World) -> Iterator[str]:
    """Serve the same storage on loopback without TLS, and yield its address as host:port.

    Docker takes plain HTTP from loopback, and the network of the servers need not exist yet.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    file = world.state / "registry-build.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(configuration(world, f"{LOOPBACK}:{port}", None))
    try:
        _serve(world, BUILD_PROCESS, file, LOOPBACK, port)
        yield f"{LOOPBACK}:{port}"
    finally:
        Processes(world).stop(BUILD_PROCESS)
        file.unlink(missing_ok=True)


def accepts(host: str, port: int) -> bool:
    """Tell whether something takes connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _serve(world: World, name: str, file: Path, host: str, port: int) -> None:
    processes = Processes(world)
    world.registry.mkdir(parents=True, exist_ok=True)
    # Its tracing would try to reach a collector.
    processes.start(name, ["docker-registry", "serve", file], env={"OTEL_TRACES_EXPORTER": "none"})
    processes.wait(name, lambda: accepts(host, port), START_SECONDS)
