"""Posts of the fleet in a process of its own, and how long they took while a backup ran."""

from __future__ import annotations

import time
from collections.abc import Sequence

import uvloop

from bench.fleet import Device, Post, client_of, paced_posts


def post_for(url: str, devices: list[Device], rate: float, seconds: float) -> list[Post]:
    """Post at a rate a second for so long."""

    async def run() -> list[Post]:
        end = time.perf_counter() + seconds
        async with client_of(url) as http:
            return await paced_posts(http, devices, 1 / rate, lambda: time.perf_counter() > end)

    return uvloop.run(run())


def within(posts: Sequence[Post], start: float, end: float) -> list[float]:
    """Seconds of the posts that were sent between two moments."""
    return [post.seconds for post in posts if start <= post.sent <= end]
