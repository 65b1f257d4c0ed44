"""What the arbiter has on record of a round, asked as an operator."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

_GRANTED = "granted: "
ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Entry:
    """An entry of its history.

    Args:
        at: seconds since 1970, by the arbiter's clock: in the sandbox that of this machine.
    """

    at: float
    node: str
    epoch: int
    reason: str


@dataclass(frozen=True)
class ArbiterPage:
    """The arbiter, as an operator reaches it.

    Args:
        address: host and port.
        token: the operator's.
        ca: certificate that signs its name's.
    """

    address: tuple[str, int]
    token: str
    ca: Path

    def read(self) -> dict[str, Any]:
        """Its state and the newest entries of its history. Raises OSError."""
        host, port = self.address
        request = urllib.request.Request(
            f"https://{host}:{port}/v1/state", headers={"Authorization": f"Bearer {self.token}"}
        )
        context = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS, context=context) as answer:  # noqa: S310
            return dict(json.loads(answer.read()))


def entries(state: Mapping[str, Any]) -> list[Entry]:
    """The history in it, oldest first."""
    return [
        Entry(datetime.fromisoformat(one["at"]).timestamp(), one["node"] or "", one["epoch"],
              one["reason"])
        for one in reversed(state["history"])
    ]  # fmt: skip


def last_grant(found: Iterable[Entry], began: float, ended: float) -> float | None:
    """When it last granted a lease between two moments."""
    times = [one.at for one in found if one.reason.startswith(_GRANTED) and began < one.at <= ended]
    return max(times, default=None)
