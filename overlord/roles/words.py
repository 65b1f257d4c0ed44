"""What the agent says of this node's role, and how it reads."""

import http.client
import json
from datetime import UTC, datetime
from typing import Any

from overlord.errors import OverlordError

AGENT = ("127.0.0.1", 9600)


def ask_agent() -> dict[str, Any]:
    """The agent's /status. Raises OverlordError when it does not answer or knows nothing."""
    connection = http.client.HTTPConnection(*AGENT, timeout=5)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OverlordError(
            f"the node agent does not answer: {error}", "see `journalctl -u overlord-agent`"
        ) from None
    finally:
        connection.close()
    if answer.status != 200 or not isinstance(document, dict):
        raise OverlordError(
            "the node agent has no fresh facts", "see `journalctl -u overlord-agent`"
        )
    return document


def role_lines(document: dict[str, Any]) -> list[str]:
    """For people."""
    roles = document["roles"]
    writes = "takes writes" if document["leader"] else "no writes"
    lines = [f"{document['node']}: {roles['state']}, {writes}", f"  {roles['reason']}"]
    if "epoch" not in roles:
        return lines
    seconds = roles["right_seconds"]
    right = roles["right"] or "none"
    if seconds is not None:
        right += f", {seconds:.0f} s left"
    lag = roles["lag_bytes"]
    lines += [
        f"  right        {right}",
        f"  epoch        {roles['epoch']}, timeline {roles['timeline']}",
        f"  replication  {roles['replication'] or 'from the primary'}, "
        f"recorded {roles['recorded']}" + (f", {lag} bytes behind" if lag is not None else ""),
        f"  arbiter      {'configured' if roles['arbiter'] else 'none: promotion is by hand'}",
    ]
    if roles["diverged_bytes"]:
        lines.append(
            f"  kept aside   {roles['diverged_bytes']} bytes of log that this node alone had"
        )
    if roles["maintenance"]:
        lines.append("  maintenance  on: this node does not become primary by itself")
    for event in roles["events"][-10:]:
        when = datetime.fromtimestamp(event["time"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        reason = f" ({event['reason']})" if event["reason"] else ""
        lines.append(f"  {when}  epoch {event['epoch']}  {event['what']}{reason}")
    return lines
