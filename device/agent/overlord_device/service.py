"""The running agent: three loops that do not wait for each other.

The sampler writes a status a minute, whatever the network does. The sender empties the queue. The
puller follows the fleet's configuration. A loop that fails logs it and goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import threading
from pathlib import Path
from typing import IO, Callable

from .clock import Clock, ServerTime
from .enrol import read_token
from .facts import read_facts
from .fleet_config import FleetConfig, Verifier
from .notify import notify
from .queue import Queue
from .report import make_event
from .sender import Sender
from .settings import Settings
from .transport import HttpClient

log = logging.getLogger(__name__)

STUCK_S = 900.0
"""A loop that shows no life for so long has the agent restarted by systemd's watchdog."""
EXPIRE_EVERY = 60
"""Old statuses are dropped once in so many samples."""
_AFTER_ERROR_S = 30.0


class Agent:
    """The agent of one device."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Open the queue and read the token.

        Raises:
            EnrolError: the device is not enrolled.
            TransportError: the CA file cannot be read.
            AlreadyRunningError: there is an agent already.
        """
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        self._wake_sender = threading.Event()
        self._alive: dict[str, float] = {}
        server_time = ServerTime(clock)
        client = HttpClient(settings.ca_file)
        token = read_token(settings)
        self._held = _hold(settings.state_dir)
        self._server_time = server_time
        self._queue = open_queue(settings, clock, server_time)
        self._sender = Sender(self._queue, client, settings.server, token, clock, server_time)
        self._config = fleet_config(settings)
        self._boot_count = _count_boot(self._queue, clock)
        self._samples = 0
        self._config_problems: tuple[str, ...] = ()

    def run(self) -> None:
        """Run until `stop`, then save what is in memory."""
        threads = [self._thread("sender", self._send)]
        if self._config is not None:
            self._config.check_stored()
            threads.append(self._thread("config", self._pull))
        for thread in threads:
            thread.start()
        log.info(
            "device %s reports to %s every %.0f s; %d waiting",
            self._settings.device_id,
            self._settings.server,
            self._settings.period_s,
            self._queue.counts().waiting,
        )
        notify("READY=1")
        try:
            self._loop("sampler", self._sample)
        finally:
            self._stop.set()
            self._wake_sender.set()
            notify("STOPPING=1")
            for thread in threads:
                # They are daemons: a reply that never comes must not hold up a shutdown.
                thread.join(5.0)
            self._queue.close()
            self._held.close()

    def stop(self) -> None:
        """Ask the loops to end. Safe in a signal handler."""
        self._stop.set()
        self._wake_sender.set()

    # -- loops -------------------------------------------------------------------------------

    def _thread(self, name: str, work: Callable[[], float]) -> threading.Thread:
        self._alive[name] = self._clock.boottime()
        return threading.Thread(target=self._loop, args=(name, work), name=name, daemon=True)

    def _loop(self, name: str, work: Callable[[], float]) -> None:
        while not self._stop.is_set():
            self._alive[name] = self._clock.boottime()
            try:
                wait = work()
            except Exception:
                # Whatever it is, a device must keep reporting; the log has the whole story.
                log.exception("error in the %s, going on", name)
                wait = _AFTER_ERROR_S
            self._sleep(name, wait, self._stop)

    def _sleep(self, name: str, wait_s: float, wake: threading.Event) -> None:
        """Wait, showing life meanwhile: a wait can be longer than the watchdog's patience."""
        until = self._clock.boottime() + wait_s
        left = wait_s
        while left > 0 and not self._stop.is_set() and not wake.wait(min(left, 30.0)):
            self._alive[name] = self._clock.boottime()
            if name == "sampler":
                self._feed_watchdog()
            left = until - self._clock.boottime()

    def _sample(self) -> float:
        if self._samples % EXPIRE_EVERY == 0:
            self._queue.expire()
        self._samples += 1
        config = self._config.current() if self._config is not None else None
        event = make_event(
            self._settings.device_id,
            read_facts(self._settings.disk_path),
            self._queue.counts(),
            config.version if config else None,
            self._boot_count,
            self._clock,
            self._server_time,
        )
        self._queue.put(event)
        self._wake_sender.set()
        self._feed_watchdog()
        return next_slot(self._clock.boottime(), self._settings.period_s, self._settings.device_id)

    def _send(self) -> float:
        # Cleared before the look, so that a status made meanwhile ends the idle wait at once.
        self._wake_sender.clear()
        wait = self._sender.step()
        if wait is not None:
            # Waited out in full: a new status must not cut a backoff short.
            return wait
        self._sleep("sender", self._settings.period_s, self._wake_sender)
        return 0.0

    def _pull(self) -> float:
        assert self._config is not None
        pull = self._config.pull()
        if pull.problems != self._config_problems:
            for problem in pull.problems:
                log.warning("configuration not taken from %s", problem)
            if self._config_problems and not pull.problems:
                log.info("every source of configuration answers well again")
            self._config_problems = pull.problems
        if pull.changed and pull.manifest is not None:
            log.info("configuration %s in force, from %s", pull.manifest.version, pull.source)
        return next_slot(
            self._clock.boottime(), self._settings.config_poll_s, self._settings.device_id + "/c"
        )

    def _feed_watchdog(self) -> None:
        now = self._clock.boottime()
        stuck = [name for name, seen in self._alive.items() if now - seen > STUCK_S]
        if stuck:
            log.error("no life in: %s; leaving it to systemd to restart", ", ".join(stuck))
        else:
            notify("WATCHDOG=1")


def next_slot(now_s: float, period_s: float, name: str) -> float:
    """Seconds until the next slot of this device.

    Each device has its own phase in the period, from its name, so that a fleet that was switched
    on at one moment does not report at one moment. A missed slot is not made up for.
    """
    digest = hashlib.sha256(name.encode()).digest()
    phase = int.from_bytes(digest[:8], "big") / 2**64 * period_s
    wait = (phase - now_s) % period_s
    # Just after a slot the next one is a period away, not a rounding error away.
    return wait if wait > 0.05 * period_s else wait + period_s


def open_queue(
    settings: Settings, clock: Clock, server_time: ServerTime, *, owner: bool = True
) -> Queue:
    """The queue as the settings want it; only the running agent is its owner."""
    return Queue(
        settings.queue_file,
        clock,
        server_time,
        retention_s=settings.retention_s,
        keep_acknowledged_s=settings.keep_acknowledged_s,
        max_waiting=settings.max_waiting,
        max_bytes=settings.max_queue_bytes,
        owner=owner,
    )


def fleet_config(settings: Settings) -> FleetConfig | None:
    """The configuration puller; None when no source is set."""
    if not settings.config_sources:
        return None
    return FleetConfig(
        settings.config_dir,
        settings.device_id,
        settings.config_sources,
        Verifier(settings.allowed_signers, settings.config_identity),
        # The Git host has a public certificate, the mirror has Overlord's.
        HttpClient(settings.ca_file, system_too=True),
    )


class AlreadyRunningError(Exception):
    """Another agent uses the same state folder."""


def _hold(state_dir: Path) -> IO[bytes]:
    """Keep other agents out of the folder for as long as the returned file is open.

    Raises:
        AlreadyRunningError: one is in it.
    """
    file = (state_dir / "agent.lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise AlreadyRunningError(
            f"an agent is running on {state_dir} already: see systemctl status overlord-device"
        ) from error
    return file


def _count_boot(queue: Queue, clock: Clock) -> int:
    """How often this device has booted, as far as the agent has seen."""
    known, _, number = queue.notes().get("boot", "").partition(" ")
    count = int(number) if number.isdigit() else 0
    if known != clock.boot_id():
        count += 1
        queue.note("boot", f"{clock.boot_id()} {count}")
    return count
