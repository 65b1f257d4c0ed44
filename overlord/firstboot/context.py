"""What a step of the first boot works with, and what several of them do."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from overlord.actions import host as host_actions
from overlord.arbiter import Arbiter, ArbiterState, https
from overlord.commands.systemd import Systemd
from overlord.facts.peer import Peer, read_peer
from overlord.files import read_json, write_json
from overlord.host import Area
from overlord.node import BootSettings, Node
from overlord.paths import Paths
from overlord.runner import CommandFailedError, Runner

AGAIN = "then run `sudo overlord-launch run`"


@dataclass(frozen=True)
class Context:
    """What a step works with."""

    paths: Paths
    runner: Runner
    boot: BootSettings
    node: Node
    download: Callable[[str], bytes]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    ask_peer: Callable[[str], Peer | None] = read_peer
    ask_arbiter: "Callable[[Context], ArbiterState]" = lambda context: _ask_arbiter(context)


Notes = Sequence[str]
StepFunction = Callable[[Context], Notes]


def _ask_arbiter(context: Context) -> ArbiterState:
    secret = context.paths.secrets / "arbiter_token"
    send = https(context.node.arbiter or "", lambda: secret.read_text().strip())
    return Arbiter(context.node.name, send).state()


def converge(context: Context, area: Area) -> Notes:
    """Make an area of the host what it should be."""
    changed = host_actions.converge(area, context.paths, context.runner)
    return [] if changed else ["as it should be"]


@contextmanager
def unit_log(context: Context, unit: str) -> Iterator[None]:
    """Put what a failing unit said last into the step's log."""
    try:
        yield
    except CommandFailedError:
        context.runner.run(Systemd().journal(unit))
        raise


def forget_boot_secrets(paths: Paths, *names: str) -> None:
    """Remove used-up secrets from boot.json."""
    data = read_json(paths.boot_settings)
    left = {key: value for key, value in data.items() if key not in names}
    if left != data:
        write_json(paths.boot_settings, left, 0o600)
