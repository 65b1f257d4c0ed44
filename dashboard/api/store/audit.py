"""The audit log: who changed what, and from where."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dashboard.api.database import Connection


async def note(
    connection: Connection,
    *,
    actor: str,
    action: str,
    target: str,
    client: str | None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Add a line, in the transaction of the change itself. The detail holds no secret."""
    await connection.execute(
        "INSERT INTO audit_log (actor, action, target, client, detail)"
        " VALUES (%s, %s, %s, %s, %s::jsonb)",
        [actor, action, target, client, json.dumps(detail or {})],
    )
