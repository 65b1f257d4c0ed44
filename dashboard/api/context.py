"""What the routes share, hung on the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, cast

from fastapi import Depends, Request

from dashboard.api.admission import Admission
from dashboard.api.auth import bearer_token, matches, refuse_token
from dashboard.api.database import Database
from dashboard.api.feed import Feed
from dashboard.api.leadership import Leadership, LeadershipSource
from dashboard.api.metrics import Metrics
from dashboard.api.passing import HEADER, PeerApi
from dashboard.api.problems import ProblemError
from dashboard.api.settings import Settings
from dashboard.api.upstream import Upstream


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """The application's parts.

    Args:
        parsing: held while a batch is parsed, which takes the event loop for milliseconds.
    """

    settings: Settings
    database: Database
    leadership: LeadershipSource
    metrics: Metrics
    feed: Feed
    admission: Admission
    agent: Upstream
    peer_agent: Upstream
    peer_api: PeerApi
    alertmanager: Upstream
    loki: Upstream
    now: Callable[[], datetime] = utc_now
    parsing: asyncio.Lock = field(default_factory=asyncio.Lock)


async def get_context(request: Request) -> Context:
    """The parts of the application that answers. Asynchronous, as `bearer_token` is."""
    return cast(Context, request.app.state.context)


AppContext = Annotated[Context, Depends(get_context)]
Token = Annotated[str, Depends(bearer_token)]


async def require_leader(context: AppContext, request: Request) -> Leadership:
    """Lets a write pass on the leader alone; elsewhere nginx may pass it on to the peer."""
    try:
        return await context.leadership.require()
    except ProblemError as refusal:
        redirect = await context.peer_api.redirect() if HEADER in request.headers else {}
        if redirect:
            refusal.headers |= redirect
            context.metrics.passed_on.inc()
        raise


async def require_operator(context: AppContext, token: Token) -> str:
    """Lets the operator pass, and says who it is."""
    if not matches(token, context.settings.operator_token):
        raise refuse_token("for reading or changing the fleet; use the operator token")
    return "operator"


Leader = Annotated[Leadership, Depends(require_leader)]
Operator = Annotated[str, Depends(require_operator)]


def client_address(request: Request) -> str | None:
    """Address of the client, as nginx saw it."""
    return request.client.host if request.client else None
