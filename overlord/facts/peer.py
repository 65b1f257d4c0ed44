"""What the peer's agent says of itself, over the tailnet."""

import http.client
import json
from dataclasses import dataclass
from typing import Any

PORT = 9601
"""The agent's service for the peer, on the tailnet address."""
TIMEOUT = 2.0


@dataclass(frozen=True)
class Peer:
    """The other node, as it sees itself."""

    node: str
    state: str
    """Role that it is in, see roles.decide."""
    primary: bool
    """Whether it takes writes and has the right to."""
    epoch: int
    data: bool
    """Whether it has a database on disk."""
    system: str = ""
    timeline: int = 0
    lsn: int = 0
    history: tuple[tuple[int, int], ...] = ()
    migrated: bool = False
    """Whether its database has had its first schema."""
    slot_lost: bool = False
    """Whether it threw away log that this node would need."""
    room: int | None = None
    """Bytes that its database's file system has left; None for an agent that does not tell."""
    synchronous: bool = False
    """Whether it is primary, and each of its writes waits for this node; recorded as such."""
    maintenance: bool = False
    """Whether an operator keeps it from becoming primary."""
    healthy: bool = True
    release: str | None = None
    """In force there; None for an agent that does not tell."""
    changing: str | None = None
    """Release that it is being changed to right now."""


def parse_peer(data: dict[str, Any]) -> Peer:
    """From the body of GET /peer. Raises ValueError."""
    try:
        return Peer(
            node=str(data["node"]),
            state=str(data["state"]),
            primary=bool(data["primary"]),
            epoch=int(data["epoch"]),
            data=bool(data["data"]),
            system=str(data.get("system", "")),
            timeline=int(data.get("timeline", 0)),
            lsn=int(data.get("lsn", 0)),
            history=tuple((int(line), int(lsn)) for line, lsn in data.get("history", ())),
            migrated=bool(data.get("migrated", False)),
            slot_lost=bool(data.get("slot_lost", False)),
            room=None if data.get("room") is None else int(data["room"]),
            synchronous=bool(data.get("synchronous", False)),
            maintenance=bool(data.get("maintenance", False)),
            healthy=bool(data.get("healthy", True)),
            release=_text(data.get("release")),
            changing=_text(data.get("changing")),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the peer's answer lacks or misstates {error}") from None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def call_peer(
    host: str, method: str, path: str, body: dict[str, Any] | None = None, port: int = PORT
) -> dict[str, Any]:
    """Ask the peer's agent. Raises OSError when it does not answer, ValueError for nonsense."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        text = json.dumps(body).encode() if body is not None else None
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = json.loads(answer.read(1_000_000))
    except http.client.HTTPException as error:
        raise OSError(str(error)) from None
    finally:
        connection.close()
    if not isinstance(data, dict):
        raise ValueError("the peer's answer is no object")
    return data


def read_peer(host: str) -> Peer | None:
    """The peer, or None when it does not answer."""
    try:
        return parse_peer(call_peer(host, "GET", "/peer"))
    except (OSError, ValueError):
        return None
