"""Settings of the API, from the environment; secrets come from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names the variable and the remedy."""


@dataclass(frozen=True)
class DatabaseSettings:
    """How to reach PostgreSQL.

    Args:
        host: host name, or the folder of the socket.
        password: password of the user; None where the server does not ask for one.
        statement_timeout_ms: longest time a statement may run, in milliseconds.
    """

    host: str
    port: int = 5432
    name: str = "overlord"
    user: str = "overlord_app"
    password: str | None = field(default=None, repr=False)
    pool_size: int = 16
    statement_timeout_ms: int = 5000

    def connection_arguments(self) -> dict[str, str | int]:
        """Arguments for psycopg.connect."""
        arguments: dict[str, str | int] = {
            "host": self.host,
            "port": self.port,
            "dbname": self.name,
            "user": self.user,
            "connect_timeout": 5,
            "application_name": "overlord-api",
            "options": f"-c statement_timeout={self.statement_timeout_ms} -c timezone=UTC",
        }
        if self.password is not None:
            arguments["password"] = self.password
        return arguments


@dataclass(frozen=True)
class Settings:
    """Everything the API depends on.

    Args:
        node: name of the node the API runs on.
        peer: name of the other node.
        agent_url: base URL of the node agent, asked for leadership.
        peer_listen: host and port on the tailnet, for writes that the peer passes on; None to take
            none.
        peer_api: HOST:PORT of the same on the peer; None to pass nothing on.
        peer_agent_url: base URL of the peer's agent, over the tailnet.
        alertmanager_url: base URL of this node's Alertmanager.
        loki_url: base URL of this node's Loki; None where it has none.
        enrol_token: whoever has it may enrol devices.
        operator_token: whoever has it may read and change the fleet.
        max_body_bytes: largest request body as it is sent, after which the answer is 413.
        max_unpacked_bytes: largest request body once unpacked.
        history_days: how long reported status is kept, in days.
    """

    node: str
    peer: str
    listen_host: str
    listen_port: int
    agent_url: str
    peer_agent_url: str
    alertmanager_url: str
    loki_url: str | None
    database: DatabaseSettings
    enrol_token: str = field(repr=False)
    operator_token: str = field(repr=False)
    max_body_bytes: int = 256 * 1024
    max_unpacked_bytes: int = 2 * 1024 * 1024
    history_days: int = 90
    peer_listen: tuple[str, int] | None = None
    peer_api: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises:
            SettingsError: a variable is missing or wrong, or a secret's file cannot be read.
        """
        host, port = address(environment, "OVERLORD_LISTEN")
        passed_on = "OVERLORD_PEER_LISTEN" in environment
        return cls(
            node=required(environment, "OVERLORD_NODE"),
            peer=required(environment, "OVERLORD_PEER"),
            listen_host=host,
            listen_port=port,
            agent_url=required(environment, "OVERLORD_AGENT_URL").rstrip("/"),
            peer_agent_url=required(environment, "OVERLORD_PEER_AGENT_URL").rstrip("/"),
            peer_listen=address(environment, "OVERLORD_PEER_LISTEN") if passed_on else None,
            peer_api=environment.get("OVERLORD_PEER_API") or None,
            alertmanager_url=required(environment, "OVERLORD_ALERTMANAGER_URL").rstrip("/"),
            loki_url=environment.get("OVERLORD_LOKI_URL", "").rstrip("/") or None,
            database=DatabaseSettings(
                host=required(environment, "OVERLORD_DATABASE_HOST"),
                password=secret(environment, "OVERLORD_DATABASE_PASSWORD_FILE"),
            ),
            enrol_token=secret(environment, "OVERLORD_ENROL_TOKEN_FILE"),
            operator_token=secret(environment, "OVERLORD_OPERATOR_TOKEN_FILE"),
        )


def address(environment: Mapping[str, str], name: str) -> tuple[str, int]:
    """Host and port of a variable that must be set.

    Raises:
        SettingsError: it is not set, or is no HOST:PORT.
    """
    host, _, port = required(environment, name).rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"{name} must be HOST:PORT, such as 127.0.0.1:8000")
    return host, int(port)


def required(environment: Mapping[str, str], name: str) -> str:
    """The value of a variable that must be set.

    Raises:
        SettingsError: it is not set.
    """
    value = environment.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is not set; see stack/compose.yaml.j2 for its value")
    return value


def secret(environment: Mapping[str, str], name: str) -> str:
    """The content of the file that a variable names.

    Raises:
        SettingsError: the variable is not set, or the file is missing, unreadable or empty.
    """
    path = Path(required(environment, name))
    try:
        value = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{name}: {path} cannot be read ({error.strerror})") from None
    if not value:
        raise SettingsError(f"{name}: {path} is empty")
    return value
