"""The API on a PostgreSQL that is there already, as a process that may be measured."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.server import Server, process
from dashboard.migrate import MigrationSettings, migrate
from tests.support.ports import free_port


@dataclass(frozen=True)
class Api:
    """An API that runs.

    Args:
        enrol_token: lets devices in.
        operator_token: reads all of them.
    """

    server: Server
    port: int
    enrol_token: str
    operator_token: str

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def api_on(database: str, agent: str, folder: Path, **environment: str) -> Iterator[Api]:
    """The API for as long as the block, on a database that is brought up to its schema.

    Args:
        database: folder of PostgreSQL's socket.
        agent: URL of what plays the agents of both nodes.
        folder: for its secrets and its log.
        environment: more of its variables.
    """
    password = secrets.token_hex(16)
    migrate(MigrationSettings(database, password, password, password, password, password))
    enrol_token, operator_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    files = {
        "OVERLORD_DATABASE_PASSWORD_FILE": password,
        "OVERLORD_ENROL_TOKEN_FILE": enrol_token,
        "OVERLORD_OPERATOR_TOKEN_FILE": operator_token,
    }
    for variable, value in files.items():
        (folder / variable).write_text(value)
    port = free_port()
    env = {
        **{variable: str(folder / variable) for variable in files},
        "OVERLORD_NODE": "vps-01",
        "OVERLORD_PEER": "vps-02",
        "OVERLORD_LISTEN": f"127.0.0.1:{port}",
        "OVERLORD_AGENT_URL": agent,
        "OVERLORD_PEER_AGENT_URL": agent,
        "OVERLORD_DATABASE_HOST": database,
        **environment,
    }
    with process("dashboard.api", port, env, folder / "api.log") as server:
        yield Api(server, port, enrol_token, operator_token)
