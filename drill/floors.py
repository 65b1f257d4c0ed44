"""What the same machine needs at the least, measured in the same run."""

from __future__ import annotations

import tempfile
import time

from tests.e2e.sandbox_world import SandboxWorld, eventually


def bare_boot(pair: SandboxWorld) -> float:
    """Seconds from the order of a server with an empty user_data to the end of its cloud-init."""
    started = time.monotonic()
    order = pair.order_server("bare", user_data="#cloud-config\n{}\n")
    try:
        for action in (order.action, *(order.next_actions or ())):
            action.wait_until_finished()
        eventually(
            "cloud-init of the bare server",
            lambda: (
                "status: done" in pair.on_node("bare", "cloud-init", "status", check=False).text
            ),
            300,
            pause=0.2,
        )
        return time.monotonic() - started
    finally:
        order.server.delete().wait_until_finished()


def move_bytes(pair: SandboxWorld) -> dict[str, float]:
    """Seconds to fetch all of the backup repository to disk, one object after the other."""
    bucket, client = pair.output("buckets")["data"], pair.s3
    started, size = time.monotonic(), 0
    with tempfile.TemporaryFile() as target:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="database/")
        for page in pages:
            for found in page.get("Contents", ()):
                body = client.get_object(Bucket=bucket, Key=found["Key"])["Body"]
                for chunk in body.iter_chunks(1024 * 1024):
                    target.write(chunk)
                    size += len(chunk)
    return {f"moving {size / 1000**2:.0f} MB out of the bucket": time.monotonic() - started}
