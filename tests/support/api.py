"""The fleet API for tests: its own process, as the container starts it, on a real PostgreSQL."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from dashboard.migrate import MigrationSettings, migrate
from tests.support.agent import FakeAgent, running_agent
from tests.support.ports import free_port
from tests.support.postgres import running_postgres

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Api:
    """A running API.

    Args:
        url: its base URL on loopback, without nginx.
        database: folder of PostgreSQL's socket.
        agent: the node agent that it asks for leadership.
        process: the API itself.
        log: what it says.
    """

    url: str
    enrol_token: str
    operator_token: str
    database: str
    agent: FakeAgent
    process: psutil.Process
    log: Path

    def resident_mib(self) -> float:
        """Memory that the API's process has in use, in MiB."""
        return float(self.process.memory_info().rss) / 2**20

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of a query of the superuser."""
        with psycopg.connect(host=self.database, user="postgres", dbname="overlord") as connection:
            cursor = connection.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def rows(self, device: str = "%") -> list[tuple[Any, ...]]:
        """Device, event id, time and skew of what is stored of devices whose id is like that."""
        return self.sql(
            "SELECT device_id, event_id::text, observed_at, clock_skew_seconds"
            " FROM status_history WHERE device_id LIKE %s ORDER BY observed_at",
            device,
        )

    def enrol(self, device_id: str) -> str:
        """The token of a new device."""
        answer = httpx.post(
            f"{self.url}/api/devices",
            json={"device_id": device_id},
            headers={"Authorization": f"Bearer {self.enrol_token}"},
            trust_env=False,
        )
        answer.raise_for_status()
        return str(answer.json()["token"])


@contextmanager
def running_api(port: int | None = None) -> Iterator[Api]:
    """An API with a database of its own, for as long as the block.

    Args:
        port: of loopback; a free one by default.
    """
    port = port or free_port()
    with (
        running_postgres() as postgres,
        running_agent() as agent,
        tempfile.TemporaryDirectory(prefix="api-") as name,
    ):
        folder = Path(name)
        words = {word: secrets.token_urlsafe(24) for word in ("database", "enrol", "operator")}
        for word, value in words.items():
            (folder / word).write_text(value)
        migration = MigrationSettings(
            host=str(postgres.socket),
            superuser_password=secrets.token_hex(16),
            app_password=words["database"],
            replication_password=secrets.token_hex(16),
            monitor_password=secrets.token_hex(16),
            gitea_password=secrets.token_hex(16),
        )
        assert migrate(migration)
        environment = {
            **os.environ,
            "OVERLORD_LISTEN": f"127.0.0.1:{port}",
            "OVERLORD_NODE": "vps-01",
            "OVERLORD_PEER": "vps-02",
            "OVERLORD_AGENT_URL": agent.url,
            "OVERLORD_PEER_AGENT_URL": "http://127.0.0.1:1",
            "OVERLORD_ALERTMANAGER_URL": "http://127.0.0.1:1",
            "OVERLORD_DATABASE_HOST": migration.host,
            "OVERLORD_DATABASE_PASSWORD_FILE": str(folder / "database"),
            "OVERLORD_ENROL_TOKEN_FILE": str(folder / "enrol"),
            "OVERLORD_OPERATOR_TOKEN_FILE": str(folder / "operator"),
        }
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "dashboard.api"],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            api = Api(
                url=f"http://127.0.0.1:{port}",
                enrol_token=words["enrol"],
                operator_token=words["operator"],
                database=migration.host,
                agent=agent,
                process=psutil.Process(process.pid),
                log=log,
            )
            _wait(api, process)
            yield api
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(api: Api, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"{api.url}/api/health", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None, api.log.read_text()
        assert time.monotonic() < deadline, api.log.read_text()
        time.sleep(0.05)
