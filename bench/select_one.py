"""The least that an endpoint with a database can be: it answers after `SELECT 1`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

pool = AsyncConnectionPool(os.environ.get("BENCH_DSN", ""), min_size=4, max_size=16, open=False)


async def answer(request: Request) -> Response:
    """Read the body, ask the database, answer."""
    await request.body()
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")
    return Response(status_code=204)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """The pool, for as long as the application runs."""
    async with pool:
        yield


app = Starlette(routes=[Route("/", answer, methods=["POST"])], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), log_level="warning")
