"""Log lines of N devices, pushed to Loki as Grafana Alloy would."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import math
import random
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from device.simulator.stats import Stats
from device.simulator.target import check_target, connector

BATCH_EVERY_S = 10.0
MAX_LINES_A_SECOND = 10_000.0

_LINES = (
    ("info", "cameras.service", "frame {n} written in {ms} ms"),
    ("info", "sensors.service", "reading {n} taken"),
    ("warning", "systemd-networkd.service", "wlan0: signal is weak ({ms})"),
    ("error", "cameras.service", "frame {n} lost: device busy"),
)


def push_body(names: Sequence[str], count: int, now_ns: int, draw: random.Random) -> bytes:
    """One push request's JSON: `count` lines of each device, by level and unit."""
    streams: dict[tuple[str, str, str], list[list[str]]] = {}
    for name, number in itertools.product(names, range(count)):
        level, unit, text = draw.choices(_LINES, (80, 15, 4, 1))[0]
        line = text.format(n=number, ms=draw.randint(2, 90))
        streams.setdefault((name, level, unit), []).append([str(now_ns + number), line])
    return json.dumps(
        {
            "streams": [
                {
                    "stream": {"device": name, "job": "journal", "level": level, "unit": unit},
                    "values": values,
                }
                for (name, level, unit), values in streams.items()
            ]
        }
    ).encode()


async def push_logs(
    names: Sequence[str],
    url: str,
    *,
    lines_per_device_s: float,
    duration_s: float,
    together: int = 1,
    allow_public: bool = False,
    ca_file: Path | None = None,
) -> Stats:
    """Push each device's lines every ten seconds, each at a phase of its own.

    Args:
        together: devices that share a push, as behind one collector; the way in limits how often
            one address may push.
    """
    url = check_target(url, allow_public=allow_public)
    lines_per_device_s = min(lines_per_device_s, MAX_LINES_A_SECOND / max(1, len(names)))
    stats = Stats()
    tls = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    # Counted and not timed: on a busy machine a device may come late, and still has its turns.
    turns = max(1, math.ceil(duration_s / BATCH_EVERY_S))
    async with aiohttp.ClientSession(
        connector=connector(allow_public=allow_public, limit=50, tls=tls),
        timeout=aiohttp.ClientTimeout(total=30),
    ) as session:

        async def one(group: Sequence[str]) -> None:
            draw = random.Random(group[0])  # noqa: S311 - a game of chance
            await asyncio.sleep(draw.uniform(0, min(BATCH_EVERY_S, duration_s)))
            for turn in range(turns):
                if turn:
                    await asyncio.sleep(BATCH_EVERY_S)
                count = max(1, round(lines_per_device_s * BATCH_EVERY_S))
                body = gzip.compress(push_body(group, count, time.time_ns(), draw), 5)
                began = time.monotonic()
                try:
                    async with session.post(
                        f"{url}/loki/api/v1/push",
                        data=body,
                        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
                    ) as answer:
                        await answer.read()
                    stats.answered("push", answer.status, time.monotonic() - began)
                    if answer.status == 204:
                        stats.counts["lines pushed"] += count * len(group)
                    else:
                        stats.counts["pushes refused"] += 1
                except (aiohttp.ClientError, TimeoutError) as error:
                    stats.counts["pushes refused"] += 1
                    stats.counts[f"no answer: {type(error).__name__}"] += 1

        groups = [names[start : start + together] for start in range(0, len(names), together)]
        await asyncio.gather(*(one(group) for group in groups))
    return stats
