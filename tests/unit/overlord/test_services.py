"""Containers as the Docker API shows them."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from overlord.errors import OverlordError
from overlord.facts.services import (
    Container,
    DockerUnavailableError,
    ExpectedService,
    expected_services,
    parse_compose,
    parse_containers,
    read_containers,
    trouble,
)
from tests.unit.overlord.fakes import COMPOSE


def entry(service: str, state: str, status: str) -> dict[str, Any]:
    labels = {"com.docker.compose.service": service}
    return {"Labels": labels, "State": state, "Status": status, "Image": f"example/{service}:1"}


@pytest.mark.parametrize(
    ("state", "status", "health", "code"),
    [
        ("running", "Up 5 minutes (healthy)", "healthy", None),
        ("running", "Up 3 seconds (health: starting)", "starting", None),
        ("running", "Up 2 hours (unhealthy)", "unhealthy", None),
        ("running", "Up 2 hours", "none", None),
        ("exited", "Exited (137) 3 seconds ago", "none", 137),
        ("restarting", "Restarting (1) 9 seconds ago", "none", 1),
        ("created", "Created", "none", None),
    ],
)
def test_dockers_words_are_understood(
    state: str, status: str, health: str, code: int | None
) -> None:
    (container,) = parse_containers([entry("api", state, status)])
    assert (container.state, container.health, container.exit_code) == (state, health, code)


def test_a_service_that_others_wait_for_to_end_is_one_shot() -> None:
    document = yaml.safe_load(
        "services: {seed: {}, app: {depends_on: "
        "{seed: {condition: service_completed_successfully}, db: {condition: service_healthy}}}, "
        "db: {}}"
    )
    services = {one.name: one for one in parse_compose(document)}
    assert services["seed"].one_shot
    assert not services["db"].one_shot


def test_a_tool_that_is_called_by_name_is_no_service() -> None:
    assert "migrate" not in {one.name for one in parse_compose(yaml.safe_load(COMPOSE))}


def test_secrets_are_found_in_both_notations() -> None:
    services = {one.name: one.secrets for one in parse_compose(yaml.safe_load(COMPOSE))}
    assert services == {
        "api": ("api_enrol_token",),
        "postgres": ("postgres_superuser_password",),
    }


@pytest.mark.parametrize(
    ("container", "said"),
    [
        (None, "has no container"),
        (Container("api", "running", "healthy"), None),
        (Container("api", "running"), None),
        (Container("api", "running", "unhealthy"), "is unhealthy"),
        (Container("api", "running", "starting"), "is starting"),
        (Container("api", "restarting", exit_code=1), "is restarting (1)"),
        (Container("api", "exited", exit_code=0), "is exited (0)"),
    ],
)
def test_a_service_should_run_and_be_healthy(container: Container | None, said: str | None) -> None:
    found = trouble((ExpectedService("api"),), (container,) if container else ())
    assert found == ({"api": said} if said else {})


@pytest.mark.parametrize(
    ("container", "said"),
    [
        (Container("migrate", "exited", exit_code=0), None),
        (Container("migrate", "exited", exit_code=3), "ended with 3"),
        (Container("migrate", "running"), "has not ended yet"),
    ],
)
def test_a_one_shot_service_should_end_well(container: Container, said: str | None) -> None:
    found = trouble((ExpectedService("migrate", one_shot=True),), (container,))
    assert found == ({"migrate": said} if said else {})


@pytest.mark.parametrize("text", ["services: [", "just words", "services: 3"])
def test_a_broken_compose_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(text)
    with pytest.raises(OverlordError, match=r"compose\.yaml"):
        expected_services(file)


class Docker(socketserver.UnixStreamServer):
    """Answers /containers/json on a socket."""

    path = ""

    def __init__(self, socket: Path, body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                Docker.path = self.path
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

            def address_string(self) -> str:
                return "socket"

        super().__init__(str(socket), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def test_containers_come_from_the_docker_socket_and_are_only_ours(tmp_path: Path) -> None:
    body = json.dumps([entry("api", "running", "Up (healthy)")]).encode()
    docker = Docker(tmp_path / "docker.sock", body)
    try:
        (container,) = read_containers(tmp_path / "docker.sock")
    finally:
        docker.shutdown()
        docker.server_close()
    assert container.service == "api"
    assert "com.docker.compose.project%3Doverlord" in Docker.path


def test_a_docker_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DockerUnavailableError):
        read_containers(tmp_path / "docker.sock")
