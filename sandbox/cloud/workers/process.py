"""One script under workerd: a process that starts again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
from pathlib import Path

import aiohttp
import psutil

from sandbox.cloud.cloudflare.domain import Worker
from sandbox.cloud.workers import config

log = logging.getLogger("sandbox.cloud.workers")

START_SECONDS = 30.0
STOP_SECONDS = 5.0
PAUSE_SECONDS = 1.0
"""Between the end of a process and its next start."""


class ScriptError(Exception):
    """The runtime does not take the script; the message is its own."""


class WorkerProcess:
    """Keeps its two sockets for life, so that requests wait while the script is replaced."""

    def __init__(self, program: Path, folder: Path, log_file: Path, outbound: str) -> None:
        self._program, self._folder, self._log = program, folder, log_file
        self._outbound = outbound
        self._sockets = {name: _listener() for name in (config.WORKER_SOCKET, config.CRON_SOCKET)}
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._worker: Worker | None = None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    def url(self, name: str = config.WORKER_SOCKET) -> str:
        """Where a socket is."""
        return f"http://127.0.0.1:{self._sockets[name].getsockname()[1]}"

    async def start(self, worker: Worker) -> None:
        """Run a script instead of the one before. Raises ScriptError; the old one then runs on."""
        old = self._worker
        await self.halt()
        try:
            await self._run(worker)
        except ScriptError:
            if old is not None:
                await self._run(old)
            raise

    async def _run(self, worker: Worker) -> None:
        self._write(worker)
        self._worker = worker
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch())

    async def halt(self) -> None:
        """End the process; the sockets stay."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        await self._end()

    async def _end(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._process = None

    async def wipe(self) -> None:
        """Lose everything that the script's objects have stored, and run it again."""
        worker = self._worker
        await self.halt()
        shutil.rmtree(self._storage, ignore_errors=True)
        if worker is not None:
            await self.start(worker)

    async def close(self) -> None:
        """End the process and its sockets."""
        await self.halt()
        for listener in self._sockets.values():
            listener.close()

    @property
    def _storage(self) -> Path:
        return self._folder / "storage"

    @property
    def _config(self) -> Path:
        return self._folder / "config.capnp"

    def _write(self, worker: Worker) -> None:
        self._storage.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("module-*"):
            old.unlink()
        for name, text in worker.modules.items():
            (self._folder / config.module_file(name)).write_text(text)
        shutil.copy(config.CRON_SOURCE, self._folder)
        self._config.write_text(config.configuration(worker, self._storage, self._outbound))

    async def _spawn(self) -> None:
        assert self._worker is not None
        _end_leftover(self._config)
        numbers = {name: listener.fileno() for name, listener in self._sockets.items()}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            began = output.tell()
            self._process = await asyncio.create_subprocess_exec(
                self._program,
                "serve",
                self._config,
                "config",
                "--experimental",
                *(f"--socket-fd={name}={number}" for name, number in numbers.items()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=list(numbers.values()),
                env={**os.environ, **config.environment(self._worker)},
            )
        ready = asyncio.create_task(self._answers())
        ended = asyncio.create_task(self._process.wait())
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done() or not await ready:
            ready.cancel()
            await self._end()
            with self._log.open("rb") as output:
                output.seek(began)
                raise ScriptError(output.read().decode(errors="replace").strip() or "no answer")
        ended.cancel()

    async def _answers(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=START_SECONDS)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self.url(config.CRON_SOCKET)) as answer,
            ):
                return answer.status == 405  # the cron door's answer to anything but POST
        return False

    async def _watch(self) -> None:
        """Start again what ends by itself, for as long as it takes."""
        name = self._worker.name if self._worker else ""
        while True:
            if self._process is not None:
                code = await self._process.wait()
                log.warning("worker %s ended with exit code %s; starting it again", name, code)
            await asyncio.sleep(PAUSE_SECONDS)
            try:
                await self._spawn()
            except ScriptError as error:
                log.error("worker %s does not start: %s", name, error)


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def _end_leftover(config_file: Path) -> None:
    """End the process of a cloud that was killed: two must not share the storage."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(config_file) in process.cmdline():
                process.kill()
                process.wait(STOP_SECONDS)
