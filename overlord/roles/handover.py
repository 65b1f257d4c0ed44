"""Planned switchover: nothing is lost, and writes stop for seconds.

    no new writes → server stops cleanly, so that the standby has all of it → give the role away

Until the last step everything can be taken back: the server is promoted again under the same right.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from overlord.actions.database import SERVICE
from overlord.errors import OverlordError
from overlord.facts.database import DatabaseError, Postgres
from overlord.facts.peer import Peer
from overlord.facts.services import DockerUnavailableError, restart_container
from overlord.paths import Paths

API_CACHE_SECONDS = 1.2
"""The API believes an answer of /leader for a second."""
STOP_SECONDS = 30
CONFIRM_SECONDS = 15.0

log = logging.getLogger("overlord.roles")


@dataclass(frozen=True)
class Handover:
    """One switchover, to be run apart from the loop."""

    paths: Paths
    ask_peer: Callable[[], Peer | None]
    give: Callable[[], str]
    """Gives the role away; "" when done, else what went wrong."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def run(self) -> None:
        """Raises OverlordError; then this node is still the one with the right."""
        self.sleep(API_CACHE_SECONDS)
        try:
            restart_container(self.paths.docker_socket, SERVICE, STOP_SECONDS)
        except DockerUnavailableError as error:
            raise OverlordError(
                f"PostgreSQL could not be stopped: {error}", "see `journalctl -u docker`"
            ) from None
        own = self._end_of_log()
        self._wait_for_peer(own)
        failed = self.give()
        if failed:
            raise OverlordError(f"the role was not given away: {failed}", "see `overlordctl role`")

    def _end_of_log(self) -> int:
        postgres = Postgres(self.paths.database_socket)
        deadline = self.clock() + CONFIRM_SECONDS
        try:
            while True:
                try:
                    found = postgres.read()
                except DatabaseError as error:
                    if self.clock() >= deadline:
                        raise OverlordError(
                            f"PostgreSQL did not come back as a standby: {error}",
                            f"see `overlordctl logs {SERVICE}`",
                        ) from None
                else:
                    if found.in_recovery:
                        return found.lsn
                self.sleep(0.2)
        finally:
            postgres.close()

    def _wait_for_peer(self, lsn: int) -> None:
        deadline = self.clock() + CONFIRM_SECONDS
        while True:
            peer = self.ask_peer()
            if peer and peer.lsn >= lsn:
                return
            if self.clock() >= deadline:
                raise OverlordError(
                    "the peer does not have the end of the log: nothing was given away",
                    "see `overlordctl role` on both nodes",
                )
            self.sleep(0.2)
