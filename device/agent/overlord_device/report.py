"""Makes one status out of what the host and the agent know."""

from __future__ import annotations

import json
import uuid

from . import __version__
from .clock import Clock, ServerTime
from .facts import HostFacts
from .queue import Counts, Event


def make_event(
    device_id: str,
    facts: HostFacts,
    counts: Counts,
    config_version: str | None,
    boot_count: int,
    clock: Clock,
    server_time: ServerTime,
) -> Event:
    """A status of this moment, with an id of its own.

    The wall time is the device's own, right or not: it is part of the event's identity. What is
    known about the clock stands beside it.
    """
    verdict, reasons = facts.verdict()
    trusted = server_time.trusted()
    offset = server_time.offset()
    boottime = clock.boottime()
    host = facts.as_dict()
    metrics = {
        name: float(value)
        for name, value in host.items()
        if not isinstance(value, str) and name != "uptime_s"  # has a field of its own
    }
    metrics.update(facts.percentages())
    metrics.update(
        {
            # Of this moment, so the statuses waiting before this one; a backlog shows as such.
            "queue_waiting": float(counts.waiting),
            "queue_bytes": float(counts.bytes_on_disk),
            "queue_dropped_total": float(
                counts.dropped_expired_total + counts.dropped_overflow_total
            ),
            "queue_refused_total": float(counts.refused_total),
            "boot_count": float(boot_count),
            "monotonic_seconds": round(boottime, 3),
            "clock_trusted": float(trusted),
        }
    )
    if offset is not None:
        metrics["clock_offset_seconds"] = round(offset, 1)
    record = {
        "device_id": device_id,
        "status": verdict,
        "message": "; ".join(reasons),
        "uptime_seconds": None if facts.uptime_s is None else int(facts.uptime_s),
        "config_version": config_version,
        "agent_version": __version__,
        "kernel": facts.kernel,
        "machine": facts.machine,
        "boot_id": clock.boot_id(),
        "metrics": metrics,
    }
    return Event(
        event_id=str(uuid.uuid4()),
        body=json.dumps(record, allow_nan=False),
        boot_id=clock.boot_id(),
        boottime=boottime,
        wall=clock.wall(),
        trusted=trusted,
    )
