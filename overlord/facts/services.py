"""Containers of the stack, from the Docker API, and what the compose file expects."""

import http.client
import json
import re
import socket
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from overlord.commands.compose import PROJECT
from overlord.errors import OverlordError

Health = Literal["healthy", "unhealthy", "starting", "none"]

_SERVICE_LABEL = "com.docker.compose.service"
_HASH_LABEL = "com.docker.compose.config-hash"


@dataclass(frozen=True)
class ExpectedService:
    """A service that the compose file names."""

    name: str
    one_shot: bool = False
    """Runs to its end; others wait for its exit code 0."""
    secrets: tuple[str, ...] = ()
    """Names of the secrets it mounts."""


@dataclass(frozen=True)
class Container:
    """A container of the stack."""

    service: str
    state: str
    """Docker's word: created, running, restarting, exited, paused, dead."""
    health: Health = "none"
    exit_code: int | None = None
    image: str = ""
    config_hash: str = ""
    """Compose's digest of what it was made from."""
    since: str = ""
    """Docker's words, such as "Up 5 minutes (healthy)"."""


def expected_services(compose_file: Path) -> tuple[ExpectedService, ...]:
    """Services of a compose file. Raises OverlordError when it cannot be read."""
    remedy = "the release is broken: mend the stack in the repository and run `pulumi up`"
    try:
        document = yaml.safe_load(compose_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise OverlordError(f"{compose_file}: {error.strerror}", remedy) from error
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise OverlordError(f"{compose_file} is not YAML: {said}", remedy) from error
    if not isinstance(document, dict) or not isinstance(document.get("services"), dict):
        raise OverlordError(f"{compose_file} names no services", remedy)
    return parse_compose(document)


def parse_compose(document: dict[str, Any]) -> tuple[ExpectedService, ...]:
    """Services of a compose document, by name."""
    # What has a profile is a tool that is called, and no service.
    services: dict[str, Any] = {
        name: service
        for name, service in (document.get("services") or {}).items()
        if not service.get("profiles")
    }
    one_shots = {
        name
        for service in services.values()
        for name, condition in _conditions(service)
        if condition == "service_completed_successfully"
    }
    return tuple(
        ExpectedService(
            name=name,
            one_shot=name in one_shots,
            secrets=tuple(
                secret if isinstance(secret, str) else secret["source"]
                for secret in service.get("secrets", ())
            ),
        )
        for name, service in sorted(services.items())
    )


def _conditions(service: dict[str, Any]) -> list[tuple[str, str]]:
    depends_on = service.get("depends_on") or {}
    if isinstance(depends_on, list):
        return [(name, "service_started") for name in depends_on]
    return [(name, entry.get("condition", "")) for name, entry in depends_on.items()]


def parse_containers(body: list[dict[str, Any]]) -> tuple[Container, ...]:
    """Containers from the answer of GET /containers/json, by service."""
    return tuple(sorted((_container(entry) for entry in body), key=lambda one: one.service))


def _container(entry: dict[str, Any]) -> Container:
    status = str(entry.get("Status", ""))
    found = re.search(r"\((healthy|unhealthy|health: starting)\)", status)
    words: dict[str, Health] = {
        "healthy": "healthy",
        "unhealthy": "unhealthy",
        "health: starting": "starting",
    }
    exited = re.match(r"(?:Exited|Restarting) \((\d+)\)", status)
    labels = entry.get("Labels", {})
    return Container(
        service=labels.get(_SERVICE_LABEL, ""),
        config_hash=labels.get(_HASH_LABEL, ""),
        state=str(entry.get("State", "")),
        health=words[found[1]] if found else "none",
        exit_code=int(exited[1]) if exited else None,
        image=str(entry.get("Image", "")),
        since=status,
    )


class DockerUnavailableError(Exception):
    """dockerd does not answer on its socket."""


def read_containers(docker_socket: Path) -> tuple[Container, ...]:
    """All containers of the stack. Raises DockerUnavailableError."""
    filters = json.dumps({"label": [f"com.docker.compose.project={PROJECT}"]})
    query = urllib.parse.urlencode({"all": "true", "filters": filters})
    try:
        return parse_containers(
            json.loads(_docker(docker_socket, "GET", f"/containers/json?{query}"))
        )
    except ValueError as error:
        raise DockerUnavailableError(f"{docker_socket}: {error}") from error


def restart_container(docker_socket: Path, service: str, grace: int) -> None:
    """Restart a service's container without compose, which takes longer to start than we may take.

    Args:
        grace: seconds until what does not end is killed.

    Raises:
        DockerUnavailableError: dockerd does not answer, or the container is not there.
    """
    path = f"/containers/{PROJECT}-{service}-1/restart?t={grace}"
    _docker(docker_socket, "POST", path, timeout=grace + 20)


def _docker(docker_socket: Path, method: str, path: str, timeout: float = 10) -> bytes:
    connection = _UnixConnection(docker_socket, timeout)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise DockerUnavailableError(f"{docker_socket}: {error}") from error
    finally:
        connection.close()
    if answer.status not in (200, 204):
        raise DockerUnavailableError(f"dockerd answered HTTP {answer.status} to {path}")
    return body


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def trouble(
    expected: tuple[ExpectedService, ...], containers: tuple[Container, ...]
) -> dict[str, str]:
    """What is wrong, by service; a service still starting counts as not yet right."""
    found = {container.service: container for container in containers}
    said = {one.name: _trouble(one, found.get(one.name)) for one in expected}
    return {name: text for name, text in said.items() if text}


def _trouble(service: ExpectedService, container: Container | None) -> str:
    if container is None:
        return "has no container"
    if service.one_shot and container.state == "exited":
        return "" if container.exit_code == 0 else f"ended with {container.exit_code}"
    if container.state != "running":
        code = f" ({container.exit_code})" if container.exit_code is not None else ""
        return f"is {container.state}{code}"
    if service.one_shot:
        return "has not ended yet"
    return {"healthy": "", "none": "", "unhealthy": "is unhealthy", "starting": "is starting"}[
        container.health
    ]
