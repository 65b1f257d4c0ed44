"""Where the stack of a release is."""

from overlord.commands.compose import Compose
from overlord.facts.services import ExpectedService, expected_services
from overlord.paths import Paths


def stack_of(paths: Paths, node: str, release: str | None = None) -> Compose:
    """The stack in force, or that of another release."""
    home = paths.release(release) if release else paths.current
    return Compose(home / "nodes" / node / "compose.yaml", paths.compose_env)


def expected_of(paths: Paths, node: str) -> tuple[ExpectedService, ...]:
    """Services of the stack in force."""
    return expected_services(stack_of(paths, node).file)
