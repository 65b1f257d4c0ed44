"""A test alert through the Alertmanager of this node, and what became of it."""

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import yaml

from overlord.errors import OverlordError

ALERTMANAGER = "http://127.0.0.1:9093"
DEADLINE_SECONDS = 60.0
"""The second of two Alertmanagers waits 15 s for the first; a refused message is tried again."""
RESOLVED_AFTER = timedelta(minutes=1)

Severity = Literal["P1", "P2", "P3"]

# Of requests and not of notifications, which are counted before they are tried.
_COUNTER = re.compile(
    r"^alertmanager_notification_requests_(?P<failed>failed_)?total"
    r"\{(?P<labels>[^}]*)\} (?P<value>\S+)$",
    re.M,
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Outcome:
    """What became of the test alert at one channel."""

    channel: str
    """Alertmanager's name for it, such as email or webhook."""
    state: Literal["sent", "failed", "nothing yet"]
    seconds: float = 0
    """Until it was sent."""

    @property
    def line(self) -> str:
        """For people."""
        when = f", {self.seconds:.0f} s" if self.state == "sent" else ""
        return f"{self.channel}: {self.state}{when}"


def rehearse(
    node: str,
    environment: str,
    severity: Severity,
    url: str = ALERTMANAGER,
    timeout: float = DEADLINE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Outcome, ...]:
    """Send a test alert and watch Alertmanager's counters of messages.

    Args:
        node: name of this node.
        environment: name of the pair, as on every alert.
        severity: which way the alert takes.
        url: Alertmanager's address.
        timeout: seconds to wait for all channels of that way.
        clock: monotonic seconds.
        sleep: waits that many seconds.

    Raises:
        OverlordError: Alertmanager does not answer, keeps the alert back, or has no channel for it.
    """
    mark = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    before = _counters(url)
    began = clock()
    _call(url, "/api/v2/alerts", [_alert(node, environment, severity, mark)])
    receiver = _receiver_of(url, mark)
    channels = _channels(url, receiver)
    if not channels:
        raise OverlordError(
            f"no channel is configured for {severity}: nobody would hear of such an alert",
            "set overlord:alerts (see docs/operations/alerting.md) and run `pulumi up`",
        )
    sent: dict[str, float] = {}
    refused: set[str] = set()
    while len(sent) < len(channels) and clock() - began < timeout:
        now = _counters(url)
        for channel in channels:
            tried, failed = (
                now.get((receiver, channel, kind), 0) - before.get((receiver, channel, kind), 0)
                for kind in ("tried", "failed")
            )
            if failed:
                refused.add(channel)
            if tried > failed:
                sent.setdefault(channel, clock() - began)
        sleep(0.2)
    return tuple(
        Outcome(channel, "sent", sent[channel])
        if channel in sent
        else Outcome(channel, "failed" if channel in refused else "nothing yet")
        for channel in channels
    )


def _alert(node: str, environment: str, severity: Severity, mark: str) -> dict[str, Any]:
    return {
        "labels": {
            "alertname": "Rehearsal",
            "severity": severity,
            # One of its own, or a P1 before it would keep it back.
            "topic": f"rehearsal-{severity}",
            "node": node,
            "environment": environment,
            # Each try is a message of its own.
            "rehearsal": mark,
        },
        "annotations": {
            "summary": f"Rehearsal from {node}",
            "description": "Nothing is wrong. Somebody tries whether this channel works.",
            "runbook": "docs/runbooks/alerting-broken.md",
        },
        "endsAt": (datetime.now(UTC) + RESOLVED_AFTER).isoformat(),
    }


def _receiver_of(url: str, mark: str) -> str:
    query = urllib.parse.urlencode({"filter": f'rehearsal="{mark}"'})
    found = json.loads(_call(url, f"/api/v2/alerts?{query}"))
    if not found:
        raise OverlordError(
            "Alertmanager took the test alert and does not have it",
            "see `sudo overlordctl logs alertmanager`",
        )
    if found[0]["status"]["state"] == "suppressed":
        raise OverlordError(
            "a silence or another alert keeps the test alert back",
            "see the alerts page, then try again",
        )
    return str(found[0]["receivers"][0]["name"])


def _channels(url: str, receiver: str) -> tuple[str, ...]:
    status = json.loads(_call(url, "/api/v2/status"))
    config = yaml.safe_load(status["config"]["original"])
    own = next(one for one in config["receivers"] if one["name"] == receiver)
    return tuple(sorted(key.removesuffix("_configs") for key in own if key.endswith("_configs")))


def _counters(url: str) -> Mapping[tuple[str, str, str], float]:
    """Messages sent and refused so far, by receiver and channel."""
    counters: dict[tuple[str, str, str], float] = {}
    for match in _COUNTER.finditer(_call(url, "/metrics").decode()):
        labels = dict(_LABEL.findall(match["labels"]))
        key = (
            labels.get("receiver_name", ""),
            labels["integration"],
            "failed" if match["failed"] else "tried",
        )
        counters[key] = float(match["value"])
    return counters


def _call(url: str, path: str, body: Any = None) -> bytes:
    request = urllib.request.Request(  # noqa: S310 (always http)
        url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return bytes(answer.read())
    except (OSError, urllib.error.URLError) as error:
        raise OverlordError(
            f"Alertmanager does not answer at {url} ({error})",
            "see `sudo overlordctl logs alertmanager`",
        ) from None
