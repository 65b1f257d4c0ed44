"""Carries out what was decided."""

import logging
from dataclasses import dataclass

from overlord.actions.stack import write_compose_env
from overlord.commands.systemd import Systemd
from overlord.decide import Action, MoveStack, RestartService, RestoreGuard
from overlord.host import GUARD_UNIT
from overlord.layout import stack_of
from overlord.paths import Paths
from overlord.runner import Command, Runner

log = logging.getLogger("overlord.agent")


@dataclass(frozen=True)
class Actor:
    """Runs the commands of actions. A failure is logged; the next round decides anew."""

    paths: Paths
    runner: Runner
    node: str

    def act(self, action: Action) -> None:
        """Carry out one action."""
        match action:
            case RestoreGuard():
                self._run(Systemd().restart(GUARD_UNIT), "metadata guard restored")
            case RestartService(service):
                command = stack_of(self.paths, self.node).restart(service)
                self._run(command, f"restarted {service}, which was unhealthy for too long")
            case MoveStack(address):
                write_compose_env(address, self.paths)
                command = stack_of(self.paths, self.node).up()
                self._run(command, f"stack moved to tailnet address {address}")

    def _run(self, command: Command, done: str) -> None:
        result = self.runner.run(command)
        if result.code:
            log.error("`%s` ended with %d: %s", command.line, result.code, result.errors.strip())
        else:
            log.warning("%s", done)
