"""Brings the database to what the API needs: `python -m dashboard.migrate`.

Run by the node once its database takes writes, as the superuser through the server's socket. Roles
and their passwords are set every time, so a changed password takes effect. A replica is refused:
everything arrives there from the primary. At the end a mark says what the database was brought up
to, so that whoever calls this knows when it is due again.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import URL, create_engine

from dashboard.api.log import configure_logging
from dashboard.api.settings import SettingsError, required, secret

_log = logging.getLogger("overlord.migrate")

OWNER_ROLE = "overlord_owner"
APP_ROLE = "overlord_app"
REPLICATION_ROLE = "overlord_replication"
MONITOR_ROLE = "overlord_monitor"
GITEA_ROLE = "gitea"
OPENBAO_ROLE = "openbao"
DATABASE = "overlord"
GITEA_DATABASE = "gitea"
OPENBAO_DATABASE = "openbao"

_OPENBAO = "OVERLORD_OPENBAO_PASSWORD_FILE"

# Two migrations at once must not meet; any fixed number does.
_LOCK = 6_204_113


@dataclass(frozen=True)
class MigrationSettings:
    """Where the server is and which passwords its roles shall have."""

    host: str
    superuser_password: str = field(repr=False)
    app_password: str = field(repr=False)
    replication_password: str = field(repr=False)
    monitor_password: str = field(repr=False)
    gitea_password: str = field(repr=False)
    openbao_password: str | None = field(default=None, repr=False)
    """None where OpenBao does not run."""
    port: int = 5432
    superuser: str = "postgres"
    mark: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> MigrationSettings:
        """Read the settings.

        Raises:
            SettingsError: a variable is missing or wrong.
        """
        return cls(
            host=required(environment, "OVERLORD_DATABASE_HOST"),
            superuser_password=secret(environment, "OVERLORD_SUPERUSER_PASSWORD_FILE"),
            app_password=secret(environment, "OVERLORD_DATABASE_PASSWORD_FILE"),
            replication_password=secret(environment, "OVERLORD_REPLICATION_PASSWORD_FILE"),
            monitor_password=secret(environment, "OVERLORD_MONITOR_PASSWORD_FILE"),
            gitea_password=secret(environment, "OVERLORD_GITEA_PASSWORD_FILE"),
            openbao_password=secret(environment, _OPENBAO) if _OPENBAO in environment else None,
            mark=environment.get("OVERLORD_MIGRATION_MARK", ""),
        )


def migrate(settings: MigrationSettings) -> bool:
    """Make roles, database and schema what they should be.

    Returns:
        False on a replica, where nothing was done.
    """
    with _connect(settings, "postgres") as server:
        row = server.execute("SELECT pg_is_in_recovery()").fetchone()
        if row is not None and row[0]:
            _log.info("the server is a replica; nothing to do")
            return False
        server.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        _ensure_roles(server, settings)
        _ensure_database(server, DATABASE, OWNER_ROLE, [APP_ROLE, MONITOR_ROLE])
        _ensure_database(server, GITEA_DATABASE, GITEA_ROLE, [GITEA_ROLE])
        if settings.openbao_password is not None:
            _ensure_database(server, OPENBAO_DATABASE, OPENBAO_ROLE, [OPENBAO_ROLE])
        upgrade(settings)
        with _connect(settings, DATABASE) as database:
            # Reports may arrive before the API has looked after its partitions.
            today = datetime.now(UTC).date()
            database.execute("SELECT ensure_status_partitions(%s - 8, %s + 2)", [today, today])
        # Last of all: there is a mark only where everything else is.
        server.execute(
            sql.SQL("COMMENT ON ROLE {owner} IS {mark}").format(
                owner=sql.Identifier(OWNER_ROLE), mark=sql.Literal(settings.mark or "by hand")
            )
        )
    return True


def upgrade(settings: MigrationSettings, revision: str = "head") -> None:
    """Upgrade the schema to a revision."""
    _alembic(settings, command.upgrade, revision)


def downgrade(settings: MigrationSettings, revision: str) -> None:
    """Take the schema back to a revision; data of what is dropped is lost."""
    _alembic(settings, command.downgrade, revision)


def _connect(settings: MigrationSettings, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host=settings.host,
        port=settings.port,
        user=settings.superuser,
        dbname=database,
        autocommit=True,
        connect_timeout=10,
        application_name="overlord-migrate",
    )


def _ensure_roles(server: psycopg.Connection, settings: MigrationSettings) -> None:
    existing = {row[0] for row in server.execute("SELECT rolname FROM pg_roles").fetchall()}
    roles: dict[str, tuple[str, str | None]] = {
        settings.superuser: ("LOGIN", settings.superuser_password),
        OWNER_ROLE: ("NOLOGIN", None),
        APP_ROLE: ("LOGIN", settings.app_password),
        REPLICATION_ROLE: ("LOGIN REPLICATION", settings.replication_password),
        MONITOR_ROLE: ("LOGIN CONNECTION LIMIT 5", settings.monitor_password),
        GITEA_ROLE: ("LOGIN CONNECTION LIMIT 20", settings.gitea_password),
    }
    if settings.openbao_password is not None:
        roles[OPENBAO_ROLE] = ("LOGIN CONNECTION LIMIT 20", settings.openbao_password)
    for role, (attributes, password) in roles.items():
        verb = "ALTER" if role in existing else "CREATE"
        server.execute(
            sql.SQL("{verb} ROLE {role} {attributes}").format(
                verb=sql.SQL(verb), role=sql.Identifier(role), attributes=sql.SQL(attributes)
            )
        )
        if password is None:
            continue
        # Hashed here, so that the password itself can never be in the server's log.
        verifier = server.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        server.execute(
            sql.SQL("ALTER ROLE {role} PASSWORD {verifier}").format(
                role=sql.Identifier(role), verifier=sql.Literal(verifier)
            )
        )
    server.execute(
        sql.SQL("GRANT pg_monitor TO {monitor}").format(monitor=sql.Identifier(MONITOR_ROLE))
    )


def _ensure_database(server: psycopg.Connection, name: str, owner: str, users: list[str]) -> None:
    database = sql.Identifier(name)
    if server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
        server.execute(
            sql.SQL("CREATE DATABASE {name} OWNER {owner}").format(
                name=database, owner=sql.Identifier(owner)
            )
        )
    # By default everybody may connect to every database and make temporary tables there.
    server.execute(sql.SQL("REVOKE ALL ON DATABASE {name} FROM PUBLIC").format(name=database))
    server.execute(
        sql.SQL("GRANT CONNECT ON DATABASE {name} TO {users}").format(
            name=database, users=sql.SQL(", ").join(map(sql.Identifier, users))
        )
    )


def _alembic(settings: MigrationSettings, action: object, revision: str) -> None:
    assert callable(action)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    engine = create_engine(
        URL.create(
            "postgresql+psycopg",
            username=settings.superuser,
            database=DATABASE,
            query={"host": settings.host, "port": str(settings.port)},
        )
    )
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET ROLE {OWNER_ROLE}")
            config.attributes["connection"] = connection
            action(config, revision)
    finally:
        engine.dispose()


def main() -> int:
    """Migrate; 0 when the database is as it should be."""
    configure_logging()
    try:
        settings = MigrationSettings.from_environment(os.environ)
    except SettingsError as error:
        print(f"overlord-migrate: {error}", file=sys.stderr)
        return 2
    try:
        done = migrate(settings)
    except psycopg.OperationalError as error:
        _log.error("PostgreSQL at %s does not answer: %s", settings.host, error)
        return 1
    if not done:
        _log.error("the server is a replica: run this on the primary")
        return 1
    _log.info("the database is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
