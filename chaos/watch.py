"""Asks all the time who may take writes: both agents, and the public name.

An agent is asked through the loopback of its node, so that no cut and no frozen peer blinds the
watcher, and without a process a question: a thread joins the node's network namespace.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaos.score import Claim
from tests.e2e.sandbox_world import public_connection

AGENT = ("127.0.0.1", 9600)
EVERY_SECONDS = 0.2
PUBLIC_THREADS = 10
STATUS_SECONDS = 1.0
_CLONE_NEWNET = 0x40000000


def _join_network(pid: int) -> None:
    """Move this thread into the network namespace of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    file = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(file, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(file)


class Watcher:
    """One node's agent, asked until stopped.

    Args:
        node: its name.
        process: finds the process id of its init, 0 while it is off.
    """

    def __init__(self, node: str, process: Callable[[], int]) -> None:
        self.node = node
        self._process = process
        self._claims: list[Claim] = []
        self._last: tuple[float, dict[str, Any]] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{node}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(timeout=10)

    def claims(self) -> list[Claim]:
        """All claims so far."""
        return list(self._claims)

    def status(self, since: float) -> dict[str, Any] | None:
        """The newest /status of the agent; None where it was not asked after this moment."""
        last = self._last
        return None if last is None or last[0] < since else last[1]

    def _run(self) -> None:
        joined = asked_status = 0.0
        while not self._stop.wait(EVERY_SECONDS):
            try:
                if not joined:
                    pid = self._process()
                    if not pid:
                        self._last = None
                        continue
                    _join_network(pid)
                    joined = time.time()
                asked = time.time()
                code, _ = _get("/leader")
                if code == 200:
                    self._claims.append(Claim(self.node, asked, time.time()))
                if asked - asked_status > STATUS_SECONDS:
                    code, body = _get("/status")
                    self._last = (asked, json.loads(body)) if code == 200 else None
                    asked_status = asked
            except (OSError, http.client.HTTPException, ValueError):
                # Off, frozen or dead; another boot is another network.
                self._last, joined = None, 0.0


def _get(path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*AGENT, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class PublicName:
    """What the public name leads to, asked from outside until stopped.

    Args:
        ca: certificate that signs the name's.
    """

    def __init__(self, ca: Path) -> None:
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._led: list[float] = []
        self._stop = threading.Event()
        # A question to a dead node takes its time; meanwhile others are asked.
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(PUBLIC_THREADS)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def led(self) -> list[float]:
        """When it led to a node that takes writes."""
        return list(self._led)

    def _run(self, number: int) -> None:
        every = PUBLIC_THREADS * EVERY_SECONDS
        wait = number * EVERY_SECONDS
        while not self._stop.wait(wait):
            asked = time.monotonic()
            with (
                suppress(OSError, http.client.HTTPException),
                public_connection(self._tls, every) as connection,
            ):
                connection.request("GET", "/leader")
                if connection.getresponse().status == 200:
                    self._led.append(time.time())
            wait = max(0.0, asked + every - time.monotonic())


def whole(first: dict[str, Any] | None, second: dict[str, Any] | None) -> bool:
    """Whether one node takes writes and the other follows it in sync."""
    if first is None or second is None:
        return False
    leads = [status for status in (first, second) if status["leader"]]
    if len(leads) != 1:
        return False
    roles = leads[0]["roles"]
    follower = second if leads[0] is first else first
    in_sync = roles.get("replication") == roles.get("recorded") == "sync"
    return in_sync and bool(follower["roles"]["state"] == "standby")
