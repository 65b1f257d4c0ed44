"""All Workers of the account under workerd, their cron, and the way to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from yarl import URL

from sandbox.cloud.cloudflare.domain import CloudflareState, Worker
from sandbox.cloud.workers import config
from sandbox.cloud.workers.process import ScriptError, WorkerProcess
from sandbox.cloud.workers.schedule import is_due

log = logging.getLogger("sandbox.cloud.workers")

ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class WorkerAnswer:
    """What a Worker answers."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class WorkerRuntime:
    """Runs every uploaded script. Without the program, scripts are stored and not run."""

    def __init__(
        self, state: CloudflareState, program: Path | None, folder: Path, logs: Path
    ) -> None:
        self._state, self._program = state, program
        self._folder, self._logs = folder, logs
        self._processes: dict[str, WorkerProcess] = {}
        self._session: aiohttp.ClientSession | None = None
        self._outbound = ""

    async def start(self, outbound: str) -> None:
        """Run what was uploaded before; `outbound` is where Workers' requests go, HOST:PORT."""
        self._outbound = outbound
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=timeout)
        for worker in self._state.workers.values():
            try:
                await self.deploy(worker)
            except ScriptError as error:
                log.error("worker %s does not start: %s", worker.name, error)

    async def stop(self) -> None:
        """End all Workers."""
        await asyncio.gather(*(process.close() for process in self._processes.values()))
        self._processes.clear()
        if self._session is not None:
            await self._session.close()

    async def deploy(self, worker: Worker) -> None:
        """Run a script instead of the one of its name. Raises ScriptError."""
        if self._program is None:
            return
        process = self._processes.get(worker.name)
        if process is None:
            process = WorkerProcess(
                self._program,
                self._folder / worker.name,
                self._logs / f"worker-{worker.name}.log",
                self._outbound,
            )
            self._processes[worker.name] = process
        await process.start(worker)
        log.info("worker %s runs at %s", worker.name, process.url())

    async def remove(self, name: str) -> None:
        """End a script and forget what its objects stored."""
        process = self._processes.pop(name, None)
        if process is not None:
            await process.close()
        shutil.rmtree(self._folder / name, ignore_errors=True)

    async def wipe(self, name: str) -> None:
        """Lose what a script's objects have stored. Raises KeyError where it does not run."""
        await self._processes[name].wipe()

    def is_running(self, name: str) -> bool:
        """Whether a script runs."""
        process = self._processes.get(name)
        return process is not None and process.running

    def at(self, host: str) -> str | None:
        """The script that answers on a host name."""
        for domain in self._state.worker_domains.values():
            if domain.hostname == host:
                return domain.service
        return None

    async def ask(
        self, name: str, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> WorkerAnswer:
        """Pass a request to a script; `path` is as it came, with its query.

        Raises aiohttp.ClientError or TimeoutError where the script does not answer.
        """
        process = self._processes.get(name)
        if process is None or self._session is None:
            raise aiohttp.ClientConnectionError(f"worker {name} does not run")
        async with self._session.request(
            method,
            URL(process.url() + path, encoded=True),
            headers=headers,
            data=body or None,
            allow_redirects=False,
        ) as answer:
            return WorkerAnswer(answer.status, tuple(answer.headers.items()), await answer.read())

    async def fire(self, name: str, cron: str) -> str:
        """Run a script's cron handler now; returns its outcome, such as ok or exception."""
        process = self._processes[name]
        assert self._session is not None
        url = URL(process.url(config.CRON_SOCKET)).with_query(cron=cron)
        async with self._session.post(url) as answer:
            outcome: str = (await answer.json()).get("outcome", "unknown")
            return outcome

    async def keep_time(self) -> None:
        """Run each script's cron when it is due, until cancelled."""
        while True:
            await asyncio.sleep(60 - datetime.now(UTC).timestamp() % 60)
            moment = datetime.now(UTC)
            due = [
                (worker.name, schedule["cron"])
                for worker in self._state.workers.values()
                for schedule in worker.schedules
                if self.is_running(worker.name) and is_due(schedule["cron"], moment)
            ]
            for name, cron in due:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, KeyError):
                    log.info("cron of worker %s: %s", name, await self.fire(name, cron))
