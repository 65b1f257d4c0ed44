"""Starts, stops and watches the compose stack."""

import time
from collections.abc import Callable
from pathlib import Path

from overlord.commands.compose import Compose
from overlord.errors import OverlordError
from overlord.facts.services import (
    DockerUnavailableError,
    expected_services,
    read_containers,
    trouble,
)
from overlord.facts.tailnet import Tailnet, read_tailnet
from overlord.files import write
from overlord.layout import expected_of
from overlord.paths import Paths
from overlord.runner import CommandFailedError, Runner

NOT_STARTED = ("has no container", "is created", "is starting")
"""How services look that merely wait for others."""
UNDER_WAY = (*NOT_STARTED, "has not ended yet")
HOPELESS_SECONDS = 90.0
UP_REMEDY = "see `overlordctl status` and `overlordctl logs SERVICE`"


def wait_for_address(
    runner: Runner,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Tailnet:
    """State of the tailnet once it is up, or at the deadline (seconds)."""
    deadline = clock() + timeout
    tailnet = read_tailnet(runner)
    while not tailnet.up and clock() < deadline:
        sleep(1)
        tailnet = read_tailnet(runner)
    return tailnet


def write_compose_env(address: str, paths: Paths) -> None:
    """Tell compose the tailnet address, and remember it for a boot without the tailnet."""
    write(paths.compose_env, f"OVERLORD_TAILNET_IP={address}\n".encode())
    write(paths.tailnet_address, f"{address}\n".encode())


def prepare_environment(
    runner: Runner, paths: Paths, timeout: float, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Wait for the tailnet address and write it down; returns it.

    While the tailnet is away the last known address serves: the kernel lets services bind to it
    (ip_nonlocal_bind), and they are reachable as soon as tailscaled is back. Raises OverlordError
    when there never was one.
    """
    address = wait_for_address(runner, timeout, sleep).address
    if address is None and paths.tailnet_address.exists():
        address = paths.tailnet_address.read_text().strip()
    if address is None:
        raise OverlordError(
            f"no tailnet address after {timeout:.0f} s",
            "see `tailscale status`; the node has to join once, by its first boot",
        )
    write_compose_env(address, paths)
    return address


def start(compose: Compose, runner: Runner, docker_socket: Path) -> None:
    """Bring the services up. Raises OverlordError."""
    result = runner.run(compose.up())
    if result.code == 0:
        return
    # Compose names the service that waits; say which one it waits for.
    try:
        wrong = trouble(expected_services(compose.file), read_containers(docker_socket))
    except DockerUnavailableError:
        wrong = {}
    broken = {name: text for name, text in wrong.items() if text not in NOT_STARTED}
    if broken:
        raise UnhealthyError(broken)
    raise CommandFailedError(compose.up(), result, UP_REMEDY)


def wait_healthy(
    paths: Paths,
    node: str,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Wait until every service is healthy; returns how many.

    Raises UnhealthyError after timeout seconds, or as soon as a service that is not merely
    starting has not recovered for HOPELESS_SECONDS.
    """
    expected = expected_of(paths, node)
    began = clock()
    since: dict[str, float] = {}
    while True:
        try:
            wrong = trouble(expected, read_containers(paths.docker_socket))
        except DockerUnavailableError as error:
            wrong = {"docker": f"does not answer: {error}"}
        if not wrong:
            return len(expected)
        now = clock()
        stuck = [name for name, text in wrong.items() if text not in UNDER_WAY]
        since = {name: since.get(name, now) for name in stuck}
        hopeless = any(now - when >= HOPELESS_SECONDS for when in since.values())
        if hopeless or now - began >= timeout:
            raise UnhealthyError(wrong, now - began)
        sleep(1)


class UnhealthyError(OverlordError):
    """Services did not become healthy in time."""

    def __init__(self, services: dict[str, str], seconds: float | None = None) -> None:
        self.services = services
        late = (
            "the stack does not start" if seconds is None else f"not healthy after {seconds:.0f} s"
        )
        said = ", ".join(f"{name} {text}" for name, text in sorted(services.items()))
        first = min(services)
        super().__init__(
            f"{late}: {said}",
            f"`sudo overlordctl logs {first}` says why; mend the stack and run `pulumi up`",
        )
