"""Brings a node to what the release in force wants. Changes nothing the second time."""

from collections.abc import Callable
from pathlib import Path

from overlord.actions import database as database_actions
from overlord.actions import stack as stack_actions
from overlord.actions.secrets import read_shared_secrets, share
from overlord.baseline import baseline_follows
from overlord.commands.systemd import Systemd
from overlord.facts.database import DatabaseError, Postgres
from overlord.firstboot.context import Context, StepFunction
from overlord.firstboot.mesh import ADDRESS_TIMEOUT
from overlord.firstboot.services import healthy
from overlord.firstboot.steps import STEPS
from overlord.host import AGENT_UNIT
from overlord.layout import expected_of, stack_of
from overlord.paths import Paths
from overlord.runner import check
from overlord.tree import tree_digest


def host_steps() -> tuple[tuple[str, StepFunction], ...]:
    """The steps of the first boot that see to the host: all up to the agent but the joining of the
    tailnet, which is done once. What follows starts the stack, and a change does that its way."""
    names = [name for name, _ in STEPS]
    return tuple(step for step in STEPS[: names.index("agent") + 1] if step[0] != "tailnet")


def settle(context: Context, recreate: tuple[str, ...], say: Callable[[str], object]) -> None:
    """Host, agent, stack, health, in this order. Raises OverlordError."""
    paths, name = context.paths, context.node.name
    with baseline_follows(paths, context.runner):
        for _, function in host_steps():
            function(context)
    _refresh_agent(context)
    share(read_shared_secrets(paths.current / "nodes" / name), paths)
    stack_actions.prepare_environment(context.runner, paths, ADDRESS_TIMEOUT, context.sleep)
    compose = stack_of(paths, name)
    _migrate(context)
    stack_actions.start(compose, context.runner, paths.docker_socket)
    if recreate:
        known = {service.name for service in expected_of(paths, name)}
        services = tuple(service for service in recreate if service in known)
        check(context.runner, compose.recreate(services), stack_actions.UP_REMEDY)
    for note in healthy(context):
        say(f"healthy: {note}")


def _migrate(context: Context) -> None:
    """On the primary the schema comes before the API that needs it; a replica gets it from there.

    What cannot be done here, since the server is just starting again, the role manager does.
    """
    postgres = Postgres(context.paths.database_socket)
    try:
        found = postgres.read()
    except DatabaseError:
        return
    finally:
        postgres.close()
    mark = database_actions.wanted_mark(context.paths, context.node.name)
    if found.in_recovery or found.mark == mark:
        return
    compose = stack_of(context.paths, context.node.name)
    command = database_actions.migrate_command(compose, mark)
    check(context.runner, command, "mend the migration and run `pulumi up`")


def _refresh_agent(context: Context) -> None:
    """Restart the agent only when its code changed: without it nobody may write for a moment."""
    if running_code(context.paths) != code_digest():
        check(context.runner, Systemd().restart(AGENT_UNIT), f"see `journalctl -u {AGENT_UNIT}`")


def running_code(paths: Paths) -> str:
    """Digest of the code that the agent runs; "" when it does not run."""
    try:
        return paths.agent_code.read_text()
    except OSError:
        return ""


def code_digest() -> str:
    """Digest of the code that runs this."""
    return tree_digest(Path(__file__).parent)
