"""PostgreSQL takes its configuration, and the migrations run on every version at hand."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import psycopg
import pytest

from dashboard.migrate import MigrationSettings, downgrade, migrate, upgrade
from tests.config.conftest import RenderedNode
from tests.support.postgres import postgres_binaries, running_postgres

VERSIONS = pytest.mark.parametrize("binaries", postgres_binaries(), ids=str)


@VERSIONS
def test_postgresql_starts_with_the_rendered_configuration(
    rendered: RenderedNode, binaries: Path
) -> None:
    with running_postgres(
        binaries,
        config_file=rendered.folder / "postgres/postgresql.conf",
        hba_file=rendered.folder / "postgres/pg_hba.conf",
        ident_file=rendered.folder / "postgres/pg_ident.conf",
    ) as server:
        # At the socket the operating system says who calls: root is the superuser and not the API,
        # anybody else is nobody.
        if os.geteuid() == 0:
            psycopg.connect(host=str(server.socket), user="postgres", dbname="postgres").close()
        else:
            with pytest.raises(psycopg.OperationalError, match=r"[Pp]eer authentication failed"):
                psycopg.connect(host=str(server.socket), user="postgres", dbname="postgres")
        with pytest.raises(psycopg.OperationalError, match=r"[Pp]eer authentication failed"):
            psycopg.connect(host=str(server.socket), user="overlord_app", dbname="overlord")
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
            psycopg.connect(host=str(server.socket), user="nobody", dbname="postgres")


@VERSIONS
def test_the_rendered_memory_settings_fit_the_container(
    rendered: RenderedNode, binaries: Path
) -> None:
    limit = rendered.context.limits["postgres"].memory_mb
    with (
        running_postgres(
            binaries, config_file=rendered.folder / "postgres/postgresql.conf"
        ) as server,
        psycopg.connect(host=str(server.socket), user="postgres", dbname="postgres") as sql,
    ):
        row = sql.execute(
            "SELECT pg_size_bytes(current_setting('shared_buffers')) / 1048576,"
            " current_setting('synchronous_commit'), current_setting('wal_level')"
        ).fetchone()
    assert row is not None
    assert row[0] <= limit / 3
    assert row[1:] == ("on", "replica")


@VERSIONS
def test_the_migrations_go_up_down_and_up_again(binaries: Path) -> None:
    with running_postgres(binaries) as server:
        settings = MigrationSettings(
            host=str(server.socket),
            superuser_password=secrets.token_hex(16),
            app_password=secrets.token_hex(16),
            replication_password=secrets.token_hex(16),
            monitor_password=secrets.token_hex(16),
            gitea_password=secrets.token_hex(16),
        )
        assert migrate(settings)
        downgrade(settings, "base")
        upgrade(settings)
        assert migrate(settings)
