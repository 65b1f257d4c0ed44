"""The arbiter's client: one request, one answer, never longer than a few seconds on the wire.

The arbiter is a Worker at Cloudflare, see witness/. All times in its answers are relative, so no
clock of anybody's matters.
"""

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

TIMEOUT = 3.0
MAX_BODY = 200_000

Refusal = Literal[
    "held", "behind", "reserved", "unreachable", "waking", "superseded", "released", "expired",
    "stale", "cluster",
]  # fmt: skip


class ArbiterSilentError(Exception):
    """No answer, or none that makes sense: nothing is known, not even whether it was heard."""


@dataclass(frozen=True)
class ArbiterState:
    """What the arbiter knows of the pair."""

    holder: str | None
    """Whose lease runs."""
    last_holder: str | None
    epoch: int
    replication: Literal["sync", "async"]
    cluster: str | None
    """System identifier of the pair's database; None before the first one."""


@dataclass(frozen=True)
class Granted:
    """A lease."""

    epoch: int
    ttl: float
    """Seconds, from the moment at which the arbiter wrote its answer."""
    replication: Literal["sync", "async"]
    cluster: str | None


@dataclass(frozen=True)
class Refused:
    """No lease."""

    reason: str
    retry_in: float | None
    """Seconds after which it is worth asking again."""
    state: ArbiterState | None


Send = Callable[[str, str, dict[str, Any] | None], tuple[int, dict[str, Any]]]
"""Method, path and body to status and body. Raises ArbiterSilentError."""


class Arbiter:
    """The arbiter, as one node speaks to it."""

    def __init__(self, node: str, send: Send) -> None:
        self._node = node
        self._send = send

    def acquire(self, held_epoch: int, seen_epoch: int) -> Granted | Refused:
        """Ask for a new lease. Raises ArbiterSilentError."""
        body = {"node": self._node, "held_epoch": held_epoch, "seen_epoch": seen_epoch}
        return self._lease("/v1/lease/acquire", body)

    def renew(self, epoch: int) -> Granted | Refused:
        """Ask for the same lease for longer. Raises ArbiterSilentError."""
        return self._lease("/v1/lease/renew", {"node": self._node, "epoch": epoch})

    def release(self, epoch: int, to: str | None) -> str:
        """End the lease; "" when done, else why not. Raises ArbiterSilentError.

        The caller has stopped every write before, and never renews this epoch afterwards.
        """
        body: dict[str, Any] = {"node": self._node, "epoch": epoch}
        if to:
            body["to"] = to
        code, answer = self._post("/v1/lease/release", body)
        return "" if code == 200 else str(answer.get("reason") or answer.get("error") or code)

    def record(self, epoch: int, mode: str, serial: int, cluster: str) -> str:
        """Write down how replication stands; "" when done, else why not.

        Raises ArbiterSilentError.
        """
        body = {
            "node": self._node,
            "epoch": epoch,
            "mode": mode,
            "serial": serial,
            "cluster": cluster,
        }
        code, answer = self._post("/v1/replication", body)
        return "" if code == 200 else str(answer.get("reason") or answer.get("error") or code)

    def state(self) -> ArbiterState:
        """What it knows. Raises ArbiterSilentError."""
        code, answer = self._send("GET", "/v1/state", None)
        state = _state(answer) if code == 200 else None
        if state is None:
            raise ArbiterSilentError(_said(code, answer))
        return state

    def _lease(self, path: str, body: dict[str, Any]) -> Granted | Refused:
        code, answer = self._post(path, body)
        try:
            if code == 200 and answer["granted"] is True:
                return Granted(
                    epoch=int(answer["epoch"]),
                    ttl=float(answer["ttl_ms"]) / 1000,
                    replication="sync" if answer["replication"] == "sync" else "async",
                    cluster=answer.get("cluster"),
                )
            retry = answer.get("retry_in_ms")
            return Refused(
                reason=str(answer["reason"]),
                retry_in=None if retry is None else float(retry) / 1000,
                state=_state(answer.get("state")),
            )
        except (KeyError, TypeError, ValueError):
            raise ArbiterSilentError(_said(code, answer)) from None

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        code, answer = self._send("POST", path, body)
        if code not in (200, 409):
            raise ArbiterSilentError(_said(code, answer))
        return code, answer


def _state(data: Any) -> ArbiterState | None:
    try:
        return ArbiterState(
            holder=data["holder"],
            last_holder=data["last_holder"],
            epoch=int(data["epoch"]),
            replication="sync" if data["replication"] == "sync" else "async",
            cluster=data["cluster"],
        )
    except (KeyError, TypeError, ValueError):
        return None


def _said(code: int, answer: dict[str, Any]) -> str:
    return f"HTTP {code}: {str(answer.get('error', 'an answer that makes no sense'))[:200]}"


def https(url: str, token: Callable[[], str]) -> Send:
    """Requests to the arbiter's address, with the token that is on disk at that moment."""
    address = urllib.parse.urlsplit(url)
    context = ssl.create_default_context() if address.scheme == "https" else None
    host = address.hostname or ""

    def send(method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        connection: http.client.HTTPConnection
        if context:
            connection = http.client.HTTPSConnection(
                host, address.port, timeout=TIMEOUT, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, address.port, timeout=TIMEOUT)
        try:
            headers = {
                "Authorization": f"Bearer {token()}",
                "Content-Type": "application/json",
                # Cloudflare's browser integrity check refuses a request without one.
                "User-Agent": "overlord-agent",
            }
            text = None if body is None else json.dumps(body).encode()
            connection.request(method, address.path.rstrip("/") + path, text, headers)
            answer = connection.getresponse()
            data = json.loads(answer.read(MAX_BODY))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ArbiterSilentError(f"{host}: {type(error).__name__}: {error}") from None
        finally:
            connection.close()
        if not isinstance(data, dict):
            raise ArbiterSilentError(f"{host}: an answer that makes no sense")
        return answer.status, data

    return send
