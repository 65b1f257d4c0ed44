"""Carries out what was decided about the role."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from overlord.actions import database as database_actions
from overlord.errors import OverlordError
from overlord.facts.database import DatabaseError, Postgres
from overlord.facts.services import DockerUnavailableError, restart_container
from overlord.layout import stack_of
from overlord.paths import Paths
from overlord.roles.decide import (
    Copy,
    DropSlots,
    Fence,
    Follow,
    MakeSlot,
    Migrate,
    Promote,
    RoleAction,
    SetSynchronous,
    slot_name,
)
from overlord.runner import Runner, check

log = logging.getLogger("overlord.roles")

FENCE_SECONDS = 1
"""Grace for a server that must not write any more; then it is killed, and replays its log."""
RETRY_SECONDS = {
    "copy": 20.0,
    "fence": 2.0,
    "full disk": 600.0,  # each attempt stops writes
    "give up": 10.0,
    "handover": 1.0,
    "migrate": 10.0,
}


@dataclass
class Hands:
    """Work that takes long, each kind at most once at a time, apart from the loop."""

    clock: Callable[[], float]
    _threads: dict[str, threading.Thread] = field(default_factory=dict)
    _ended: dict[str, float] = field(default_factory=dict)

    def busy(self, kind: str) -> bool:
        """Whether work of this kind is under way."""
        thread = self._threads.get(kind)
        return thread is not None and thread.is_alive()

    def ready(self, kind: str) -> bool:
        """Whether work of this kind may begin: it is not under way and was not only just tried."""
        rested = self.clock() - self._ended.get(kind, float("-inf")) >= RETRY_SECONDS[kind]
        return rested and not self.busy(kind)

    def start(self, kind: str, work: Callable[[], object]) -> None:
        """Begin if it may."""
        if not self.ready(kind):
            return

        def run() -> None:
            try:
                work()
            except (OverlordError, DockerUnavailableError) as error:
                log.error("%s: %s", kind, error)
            except Exception:
                log.exception("%s", kind)
            finally:
                self._ended[kind] = self.clock()

        thread = threading.Thread(target=run, name=kind, daemon=True)
        self._threads[kind] = thread
        thread.start()


@dataclass(frozen=True)
class RoleActor:
    """Runs the commands and statements of role actions."""

    paths: Paths
    runner: Runner
    node: str
    hands: Hands

    def fence(self, reason: str) -> None:
        """Cut every connection and end writes: the server comes back as a standby."""

        def work() -> None:
            log.error("fencing PostgreSQL: %s", reason)
            restart_container(self.paths.docker_socket, database_actions.SERVICE, FENCE_SECONDS)

        self.hands.start("fence", work)

    def act(self, action: RoleAction, postgres: Postgres, mark: str) -> None:
        """Carry out one action. Raises DatabaseError."""
        match action:
            case Fence(reason):
                self.fence(reason)
            case Promote(synchronous):
                # Set before it takes writes: the first one counts as well.
                postgres.set("synchronous_standby_names", _quoted(synchronous))
                postgres.set("primary_conninfo", "")
                postgres.set("primary_slot_name", "")
                postgres.reload()
                postgres.ask("SELECT pg_promote(false)")
                log.warning("PostgreSQL promoted")
            case Follow(host):
                postgres.set("primary_conninfo", database_actions.conninfo(host, self.node))
                postgres.set("primary_slot_name", slot_name(self.node))
                postgres.reload()
                log.warning("PostgreSQL follows %s", host)
            case SetSynchronous(name):
                postgres.set("synchronous_standby_names", _quoted(name))
                postgres.reload()
                log.warning("writes wait for %s", name or "nobody")
            case MakeSlot(peer):
                postgres.ask(
                    "SELECT pg_create_physical_replication_slot(%s, true)", (slot_name(peer),)
                )
            case DropSlots(names):
                for name in names:
                    postgres.ask("SELECT pg_drop_replication_slot(%s)", (name,))
            case Migrate():
                self.hands.start("migrate", lambda: self._migrate(mark))
            case Copy(host, reason, _):
                self.hands.start("copy", lambda: self._copy(host, reason))
            case _:
                raise DatabaseError(f"nothing here carries out {action}")

    def _migrate(self, mark: str) -> None:
        compose = stack_of(self.paths, self.node)
        command = database_actions.migrate_command(compose, mark)
        check(self.runner, command, "see `overlordctl logs postgres`")
        log.warning("schema brought up to %s", mark)

    def _copy(self, host: str, reason: str) -> None:
        log.warning("copying the database of %s: %s", host, reason)
        database_actions.copy_from_peer(stack_of(self.paths, self.node), self.runner, host)


def _quoted(name: str) -> str:
    # As synchronous_standby_names reads it: a name with a dash needs its quotes.
    return f'"{name}"' if name else ""
