"""The pool of database connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb, JsonbBinaryDumper, set_json_dumps
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from dashboard.api.settings import DatabaseSettings

_log = logging.getLogger(__name__)

Row = dict[str, object]
Connection = psycopg.AsyncConnection[dict[str, object]]


class _JsonbDumper(JsonbBinaryDumper):
    """Makes jsonb in one step, where psycopg's asks three times what it is given."""

    def dump(self, obj: Any) -> bytes:
        return b"\x01" + msgspec.json.encode(obj.obj if isinstance(obj, Jsonb) else obj)


# What makes JSON for the database: the compiled one, several times as fast.
set_json_dumps(msgspec.json.encode)
psycopg.adapters.register_dumper(Jsonb, _JsonbDumper)


class Database:
    """Hands out connections; opens and closes with the application."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            kwargs={**settings.connection_arguments(), "row_factory": dict_row},
            connection_class=psycopg.AsyncConnection[dict[str, object]],
            min_size=2,
            max_size=settings.pool_size,
            timeout=3.0,
            max_waiting=settings.pool_size * 16,
            max_lifetime=1800,
            reconnect_timeout=30,
            open=False,
            name="overlord-api",
        )

    async def open(self) -> None:
        """Start connecting; does not wait, so that the API can say that the database is away."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction, committed at the end.

        Raises:
            psycopg_pool.PoolTimeout: no connection became free within 3 seconds.
        """
        async with self._pool.connection() as connection:
            yield connection

    async def answers(self) -> bool:
        """Whether the database answers within two seconds."""
        try:
            async with asyncio.timeout(2), self.transaction() as connection:
                await connection.execute("SELECT 1")
        except (psycopg.Error, PoolTimeout, TimeoutError) as error:
            _log.warning("the database does not answer: %s", type(error).__name__)
            return False
        return True

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return int(self._pool.get_stats().get("requests_waiting", 0))
