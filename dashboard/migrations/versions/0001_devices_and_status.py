"""Devices, their latest status, the history by day, events and the audit log.

Revision: 0001
Revises: nothing
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("""
        CREATE TABLE devices (
            id text PRIMARY KEY,
            name text NOT NULL,
            tags text[] NOT NULL DEFAULT '{}',
            address text,
            token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
            token_issued_at timestamptz NOT NULL DEFAULT now(),
            enrolled_at timestamptz NOT NULL DEFAULT now(),
            retired_at timestamptz
        )
    """)
    op.execute("CREATE INDEX devices_tags ON devices USING gin (tags)")

    # The same columns in both tables: the latest is one row of the history.
    report = """
            event_id uuid NOT NULL,
            event_time timestamptz NOT NULL,
            observed_at timestamptz NOT NULL,
            received_at timestamptz NOT NULL,
            status text NOT NULL CHECK (status IN ('ok', 'warning', 'critical')),
            message text NOT NULL,
            uptime_seconds bigint,
            config_version text,
            agent_version text,
            clock_skew_seconds double precision,
            metrics jsonb NOT NULL
    """
    op.execute(f"""
        CREATE TABLE device_latest (
            device_id text PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
            {report}
        )
    """)
    # Half-empty pages, so that an update of one device stays on its page and touches no index.
    op.execute("ALTER TABLE device_latest SET (fillfactor = 50)")
    # By the device's own time, which is the same when an event is sent again: the key that makes
    # ingest idempotent must hold the partition's column. No foreign key: every report has been
    # matched to its device by token, and the check would cost a lookup a row.
    op.execute(f"""
        CREATE TABLE status_history (
            device_id text NOT NULL,
            {report},
            PRIMARY KEY (device_id, event_time, event_id)
        ) PARTITION BY RANGE (event_time)
    """)

    op.execute("""
        CREATE TABLE events (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT now(),
            device_id text REFERENCES devices ON DELETE CASCADE,
            kind text NOT NULL,
            detail jsonb NOT NULL DEFAULT '{}'
        )
    """)
    op.execute("CREATE INDEX events_by_device ON events (device_id, at DESC)")
    op.execute("CREATE INDEX events_by_time ON events (at DESC)")
    op.execute("""
        CREATE TABLE audit_log (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT now(),
            actor text NOT NULL,
            action text NOT NULL,
            target text NOT NULL,
            client text,
            detail jsonb NOT NULL DEFAULT '{}'
        )
    """)
    op.execute("CREATE INDEX audit_log_by_time ON audit_log (at DESC)")

    # Run with the owner's rights, because the API itself may not create or drop a table.
    op.execute("""
        CREATE FUNCTION ensure_status_partitions(first_day date, last_day date) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            day date;
        BEGIN
            IF last_day - first_day > 400 THEN
                RAISE EXCEPTION 'at most 400 partitions at once, not %', last_day - first_day;
            END IF;
            -- One at a time, or two makers of the same partition meet.
            PERFORM pg_advisory_xact_lock(hashtext('status_history'));
            FOR day IN SELECT generate_series(first_day, last_day, '1 day')::date LOOP
                EXECUTE format(
                    'CREATE TABLE IF NOT EXISTS public.status_history_%s '
                    'PARTITION OF public.status_history FOR VALUES FROM (%L) TO (%L)',
                    to_char(day, 'YYYYMMDD'),
                    to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00',
                    to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00'
                );
            END LOOP;
        END
        $$
    """)
    op.execute("""
        CREATE FUNCTION drop_status_partitions(before date) RETURNS integer
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            partition text;
            dropped integer := 0;
        BEGIN
            -- A mistake in the caller must not cost the days that devices may still report on.
            IF before > current_date - 10 THEN
                RAISE EXCEPTION 'the last 10 days of history are not dropped';
            END IF;
            PERFORM pg_advisory_xact_lock(hashtext('status_history'));
            FOR partition IN
                SELECT child.relname FROM pg_inherits
                JOIN pg_class AS child ON child.oid = inhrelid
                WHERE inhparent = 'public.status_history'::regclass
                    AND child.relname < 'status_history_' || to_char(before, 'YYYYMMDD')
            LOOP
                EXECUTE format('DROP TABLE public.%I', partition);
                dropped := dropped + 1;
            END LOOP;
            RETURN dropped;
        END
        $$
    """)
    op.execute(
        "REVOKE ALL ON FUNCTION ensure_status_partitions, drop_status_partitions FROM PUBLIC"
    )

    op.execute("GRANT USAGE ON SCHEMA public TO overlord_app")
    op.execute("GRANT SELECT, INSERT, UPDATE ON devices, device_latest TO overlord_app")
    op.execute("GRANT SELECT, INSERT ON status_history, events, audit_log TO overlord_app")
    op.execute(
        "GRANT EXECUTE ON FUNCTION ensure_status_partitions, drop_status_partitions TO overlord_app"
    )


def downgrade() -> None:
    """Take back."""
    op.execute("DROP FUNCTION drop_status_partitions, ensure_status_partitions")
    op.execute("DROP TABLE audit_log, events, status_history, device_latest, devices")
