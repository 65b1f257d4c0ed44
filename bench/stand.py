"""The API on a PostgreSQL with a fleet in it, as a node has them, for benchmarks."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import requests
from psycopg import sql

from bench.api import api_on
from tests.support.agent import running_agent
from tests.support.postgres import running_postgres

# Of the configuration that a node of 8 GiB gets; durable, as there.
_POSTGRES = """\
fsync = on
synchronous_commit = on
shared_buffers = 400MB
effective_cache_size = 800MB
work_mem = 4MB
random_page_cost = 1.1
max_wal_size = 1GB
"""
_NOTHING = "http://127.0.0.1:9"  # the discard port: refused at once
_EVENTS = 40
"""Events of a device."""
_METRICS = sql.SQL("""
    jsonb_build_object(
        'memory_used_percent', 40 + 20 * random(), 'disk_used_percent', 60 + random(),
        'temperature_c', 45 + 10 * random(), 'load_1m', random(), 'load_5m', random(),
        'load_15m', random(), 'queue_waiting', 0, 'boot_count', 4,
        'memory_available_bytes', 2e9 + 1e8 * random()
    )
""")
_DEVICES = """
INSERT INTO devices (id, name, tags, address, token_sha256, enrolled_at)
SELECT id, id, ARRAY['ring:' || CASE WHEN n %% 10 = 0 THEN 'canary' ELSE 'main' END,
        'site:' || (ARRAY['aachen', 'berlin', 'cologne', 'dresden', 'essen', 'freiburg', 'graz',
            'hamburg'])[1 + n %% 8]],
    '100.64.' || n / 250 || '.' || 1 + n %% 250, sha256(convert_to(id || %(salt)s, 'UTF8')),
    now() - interval '40 days'
FROM (SELECT n, 'pi-' || lpad(n::text, %(digits)s, '0') AS id
    FROM generate_series(1, %(count)s) AS n) AS made
"""
_LATEST = sql.SQL("""
INSERT INTO device_latest (device_id, event_id, event_time, observed_at, received_at, status,
    message, uptime_seconds, config_version, agent_version, kernel, boot_id, clock_skew_seconds,
    metrics)
SELECT id, gen_random_uuid(), at, at, at, status,
    CASE status WHEN 'ok' THEN '' ELSE 'disk_used_percent is 91, ' || status || ' from 85' END,
    93600, CASE WHEN random() < 0.1 THEN '2026.11.3' ELSE '2026.11.2' END, '0.1.0',
    '6.12.34+rpt-rpi-v8', gen_random_uuid(), CASE WHEN random() < 0.01 THEN 3600 ELSE 0.2 END,
    {metrics}
FROM (
    SELECT id, now() - CASE WHEN random() < 0.02 THEN interval '1 hour' ELSE interval '55 s' END
            * random() AS at,
        CASE WHEN draw < 0.01 THEN 'critical' WHEN draw < 0.04 THEN 'warning' ELSE 'ok' END
            AS status
    FROM (SELECT id, random() AS draw FROM devices) AS drawn
) AS made
""").format(metrics=_METRICS)
_DAY = sql.SQL("""
INSERT INTO status_history (device_id, event_id, event_time, observed_at, received_at, status,
    message, uptime_seconds, config_version, agent_version, kernel, boot_id, clock_skew_seconds,
    metrics)
SELECT id, gen_random_uuid(), at, at, at + interval '140 ms',
    CASE WHEN random() < 0.01 THEN 'critical' WHEN random() < 0.04 THEN 'warning' ELSE 'ok' END,
    '', 93600, '2026.11.2', '0.1.0', '6.12.34+rpt-rpi-v8', '00000000-0000-0000-0000-000000000007',
    0.2, {metrics}
FROM generate_series(%(from)s::timestamptz, %(to)s::timestamptz, interval '1 minute') AS at
    CROSS JOIN devices
""").format(metrics=_METRICS)
_REFRESH = """
UPDATE device_latest SET observed_at = now() - interval '55 s' * random()
WHERE observed_at > now() - interval '10 min'
"""
_EVENT_ROWS = """
INSERT INTO events (at, device_id, kind, detail)
SELECT now() - (%(count)s - n) * interval '4 minutes', id, 'status_changed',
    jsonb_build_object('from', 'ok', 'to', 'warning', 'message', 'disk_used_percent is 86')
FROM generate_series(1, %(count)s) AS n CROSS JOIN devices ORDER BY n
"""
_AUDIT_ROWS = """
INSERT INTO audit_log (at, actor, action, target, client, detail)
SELECT now() - (5000 - n) * interval '3 minutes', 'operator', 'device.change', 'pi-001',
    '203.0.113.9', '{"from": {"name": "pi-001"}, "to": {"name": "Roof east"}}'
FROM generate_series(1, 5000) AS n
"""


@dataclass(frozen=True)
class ApiStand:
    """The API, as nginx sees it.

    Args:
        url: its base URL.
        port: where it listens on loopback.
        token: the operator's token.
        dsn: its database, as the superuser.
    """

    url: str
    port: int
    token: str
    dsn: str

    def fill(self, devices: int, days: float = 0.0) -> int:
        """Take what is there away, and put in a fleet with its present and its past.

        Args:
            devices: how many; about 3 % warn, 1 % are critical and 2 % silent.
            days: of history, a status a minute and device.

        Returns:
            How many rows of history there are.
        """
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE devices, device_latest, status_history, events, audit_log")
            made = {"count": devices, "digits": len(str(devices)), "salt": secrets.token_hex(8)}
            connection.execute(_DEVICES, made)
            connection.execute(_LATEST)
            connection.execute(_EVENT_ROWS, {"count": max(1, _EVENTS * 500 // devices)})
            connection.execute(_AUDIT_ROWS)
            self._past(connection, days)
            connection.execute("ANALYZE")
            row = connection.execute("SELECT count(*) FROM status_history").fetchone()
        assert row is not None
        return int(row[0])

    def enrol(self, device_id: str) -> tuple[str, str]:
        """One device more, by the API; its id and its token."""
        answer = requests.post(
            f"{self.url}/api/devices",
            json={"device_id": device_id},
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=10,
        )
        answer.raise_for_status()
        return device_id, str(answer.json()["token"])

    def refresh(self) -> None:
        """As if every device that is not silent had just reported."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(_REFRESH)

    def _past(self, connection: psycopg.Connection, days: float) -> None:
        if not days:
            return
        now = datetime.now(UTC)
        start = now - timedelta(days=days)
        connection.execute("SELECT ensure_status_partitions(%s, %s)", [start.date(), now.date()])
        parts = []
        day: date = start.date()
        while day <= now.date():
            midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
            end = midnight + timedelta(days=1) - timedelta(seconds=1)
            parts.append({"from": max(start, midnight), "to": min(now, end)})
            day += timedelta(days=1)
        # A partition each, so that they do not get in each other's way.
        with ThreadPoolExecutor(2) as workers:
            list(workers.map(self._insert, parts))

    def _insert(self, part: dict[str, datetime]) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(_DAY, part)


@contextmanager
def running_api(
    *, loki_url: str | None = None, alertmanager_url: str = _NOTHING
) -> Iterator[ApiStand]:
    """PostgreSQL and the API for as long as the block; the agents of both nodes are played."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_postgres(settings=_POSTGRES))
        agent = stack.enter_context(running_agent())
        socket = str(server.socket)
        more = {
            "OVERLORD_ALERTMANAGER_URL": alertmanager_url,
            "OVERLORD_LOKI_URL": loki_url or "",
        }
        api = stack.enter_context(api_on(socket, agent.url, folder, **more))
        dsn = f"host={socket} user=postgres dbname=overlord"
        yield ApiStand(api.url, api.port, api.operator_token, dsn)
