"""A program in a container ends when its time is over, and not only the client that started it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from overlord.commands import compose as compose_module
from overlord.commands.compose import Compose
from overlord.runner import Command, Result, SystemRunner
from sandbox.machines.daemon import Daemon, Docker
from sandbox.world import World
from tests.config.conftest import RenderedNode
from tests.support.backup_site import IMAGE, wait_for
from tests.support.programs import docker_daemon, native

SECONDS = 2.0
pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Stack:
    """The services in whose containers programs are run, of an image that is here."""

    compose: Compose
    docker: Docker
    environment: tuple[tuple[str, str], ...]

    def run(self, command: Command) -> Result:
        """Run by docker's own client, as on a node."""
        return SystemRunner().run(replace(command, env=self.environment))

    def processes(self, words: str) -> list[str]:
        """In all containers, the command lines that hold some words."""
        found = []
        label = f"label=com.docker.compose.project={compose_module.PROJECT}"
        for container in self.docker.lines("ps", "--quiet", "--filter", label):
            lines = self.docker.lines("top", container, "-eo", "pid,args")[1:]
            found += [line for line in lines if words in line]
        return found


@pytest.fixture
def stack(
    rendered: RenderedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    monkeypatch.setattr(compose_module, "PROJECT", f"limits-{secrets.token_hex(4)}")
    services = yaml.safe_load((rendered.folder / "compose.yaml").read_text())["services"]
    kept = {
        name: {"image": IMAGE, "network_mode": "host", "init": services[name].get("init", False)}
        for name in ("postgres", "database-tool", "migrate")
    }
    kept["postgres"]["command"] = ["sleep", "600"]
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump({"services": kept}))
    (tmp_path / "compose.env").write_text("")
    plugin = tmp_path / "docker/cli-plugins/docker-compose"
    plugin.parent.mkdir(parents=True)
    plugin.symlink_to(native("docker-compose") or "missing")
    compose = Compose(tmp_path / "compose.yaml", tmp_path / "compose.env")
    world = World.here()
    environment = {
        "DOCKER_HOST": f"unix://{world.docker_socket}",
        "DOCKER_CONFIG": str(tmp_path / "docker"),
    }
    with docker_daemon():
        assert Daemon(world).answers()
        here = Stack(compose, Docker(world), tuple(environment.items()))
        try:
            started = here.run(compose.start("postgres"))
            assert started.code == 0, started.errors
            yield here
        finally:
            label = f"label=com.docker.compose.project={compose_module.PROJECT}"
            for container in here.docker.lines("ps", "--all", "--quiet", "--filter", label):
                here.docker("rm", "--force", container)


def test_a_program_beside_the_database_ends_with_all_that_it_started(stack: Stack) -> None:
    program = ("sh", "-c", "sleep 431 & sleep 432")
    result = stack.run(stack.compose.execute("postgres", *program, timeout=SECONDS))
    assert result.code == 124, result
    assert "sending signal TERM" in result.errors
    wait_for(lambda: not stack.processes("sleep 43"), "it goes on in the container", 5)
    assert stack.processes("sleep 600")


@pytest.mark.parametrize("service", ["database-tool", "migrate"])
def test_a_program_in_a_container_of_its_own_ends_and_the_container_with_it(
    stack: Stack, service: str
) -> None:
    program = ("sh", "-c", "setsid sleep 433 & sleep 434")
    result = stack.run(stack.compose.run(service, *program, timeout=SECONDS))
    assert result.code == 124, result
    assert "sending signal TERM" in result.errors
    wait_for(lambda: not stack.processes("sleep 43"), "it goes on in the container", 5)


def test_a_program_that_will_not_end_is_killed_before_the_client_is(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose_module, "_KILL_SECONDS", 1)
    program = ("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    began = time.monotonic()
    result = stack.run(stack.compose.execute("postgres", *program, timeout=SECONDS))
    assert result.code == 137, result
    assert time.monotonic() - began < SECONDS + 20
    wait_for(lambda: not stack.processes("trap"), "it goes on in the container", 5)


def test_a_program_that_ends_in_time_ends_as_ever(stack: Stack) -> None:
    program = ("sh", "-c", "echo done; exit 3")
    for command in (
        stack.compose.execute("postgres", *program),
        stack.compose.run("database-tool", *program),
    ):
        result = stack.run(command)
        assert (result.code, result.output) == (3, "done\n"), result
