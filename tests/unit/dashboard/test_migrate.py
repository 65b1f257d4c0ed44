"""Migrations and what the API's role may do."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from dashboard.migrate import MigrationSettings, downgrade, migrate, upgrade
from tests.support.postgres import running_postgres


def settings_for(host: str) -> MigrationSettings:
    return MigrationSettings(
        host=host,
        superuser_password=secrets.token_hex(16),
        app_password=secrets.token_hex(16),
        replication_password=secrets.token_hex(16),
        monitor_password=secrets.token_hex(16),
        gitea_password=secrets.token_hex(16),
    )


def as_app(settings: MigrationSettings) -> psycopg.Connection:
    return psycopg.connect(
        host=settings.host,
        user="overlord_app",
        dbname="overlord",
        password=settings.app_password,
        autocommit=True,
    )


def test_migrating_again_changes_nothing(
    sql: psycopg.Connection, migrated: MigrationSettings
) -> None:
    def schema() -> list[tuple[object, ...]]:
        return sql.execute(
            "SELECT table_name, column_name, data_type, is_nullable"
            " FROM information_schema.columns WHERE table_schema = 'public'"
            " ORDER BY 1, ordinal_position"
        ).fetchall()

    before = schema()
    assert migrate(migrated)
    assert schema() == before


def test_the_schema_can_be_taken_back_and_applied_again(
    sql: psycopg.Connection, migrated: MigrationSettings
) -> None:
    downgrade(migrated, "base")
    left = sql.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relname NOT LIKE 'alembic%'"
    ).fetchall()
    upgrade(migrated)
    migrate(migrated)

    assert left == []


def test_a_new_password_takes_effect_by_migrating(
    sql: psycopg.Connection, migrated: MigrationSettings
) -> None:
    changed = replace(migrated, app_password=secrets.token_hex(16))
    migrate(changed)
    try:
        as_app(changed).close()
        with pytest.raises(psycopg.OperationalError, match="password"):
            as_app(migrated)
    finally:
        migrate(migrated)


def test_a_password_never_reaches_the_server_as_it_is(migrated: MigrationSettings) -> None:
    with psycopg.connect(host=migrated.host, user="postgres", dbname="postgres") as connection:
        rows = connection.execute(
            "SELECT rolname, rolpassword FROM pg_authid"
            " WHERE rolname ~ '^(overlord|gitea)' AND rolcanlogin"
        ).fetchall()
    assert len(rows) == 4
    assert all(row[1].startswith("SCRAM-SHA-256$") for row in rows)


def test_on_a_replica_nothing_is_done() -> None:
    with running_postgres(standby=True) as server:
        assert migrate(settings_for(str(server.socket))) is False


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE devices",
        "CREATE TABLE mine (id int)",
        "DELETE FROM audit_log",
        "UPDATE audit_log SET actor = 'nobody'",
        "UPDATE events SET kind = 'none'",
        "DELETE FROM status_history",
        "DELETE FROM devices",
        "TRUNCATE audit_log",
        "CREATE ROLE more",
        "SET ROLE overlord_owner",
        "COPY devices TO PROGRAM 'true'",
    ],
)
def test_the_apis_role_cannot_change_the_schema_or_the_past(
    sql: psycopg.Connection, migrated: MigrationSettings, statement: str
) -> None:
    with (
        as_app(migrated) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_the_role_of_the_monitoring_sees_statistics_and_no_data(
    migrated: MigrationSettings,
) -> None:
    with psycopg.connect(
        host=migrated.host,
        user="overlord_monitor",
        dbname="overlord",
        password=migrated.monitor_password,
        autocommit=True,
    ) as connection:
        # What others do is hidden from ordinary roles.
        hidden = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>'"
        ).fetchone()
        assert hidden == (0,)
        for table in ("devices", "audit_log"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM {table}")


def test_the_apis_role_cannot_log_in_to_another_database(migrated: MigrationSettings) -> None:
    with psycopg.connect(
        host=migrated.host, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        row = connection.execute(
            "SELECT has_database_privilege('public', 'overlord', 'CONNECT')"
        ).fetchone()
    assert row == (False,)


def test_a_day_is_one_partition_and_old_days_are_dropped(
    sql: psycopg.Connection, migrated: MigrationSettings
) -> None:
    today = datetime.now(UTC).date()
    long_ago = today - timedelta(days=100)
    with as_app(migrated) as connection:
        connection.execute("SELECT ensure_status_partitions(%s, %s)", [long_ago, long_ago])
        connection.execute("SELECT ensure_status_partitions(%s, %s)", [today, today])
        row = connection.execute(
            "SELECT drop_status_partitions(%s)", [today - timedelta(days=90)]
        ).fetchone()
    assert row == (1,)
    left = sql.execute(
        "SELECT relname FROM pg_class WHERE relname LIKE 'status_history_2%' AND relkind = 'r'"
    ).fetchall()
    assert f"status_history_{today:%Y%m%d}" in {name for (name,) in left}
    assert f"status_history_{long_ago:%Y%m%d}" not in {name for (name,) in left}


def test_the_last_ten_days_of_history_are_never_dropped(migrated: MigrationSettings) -> None:
    with as_app(migrated) as connection, pytest.raises(psycopg.errors.RaiseException):
        connection.execute("SELECT drop_status_partitions(current_date)")
