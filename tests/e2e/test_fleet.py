"""Devices with addresses of their own: found, scraped, heard and logged by both nodes."""

from __future__ import annotations

import time
from pathlib import Path

from device.simulator.fleet import Plan
from load.fleet_host import fleet_host
from load.run import play_load, retire
from sandbox import world as fixed
from tests.e2e.sandbox_world import SandboxWorld


def test_a_small_fleet_is_taken_whole_and_every_container_stays_within_its_limits(
    pair: SandboxWorld, tmp_path: Path
) -> None:
    plan = Plan(
        base_url=fixed.PUBLIC_URL.rstrip("/"),
        devices=5,
        duration_s=600,
        period_s=5,
        prefix=f"fleet-{int(time.time()) % 100_000:05}",
    )
    with fleet_host(pair, plan, tmp_path) as (host, placed):
        try:
            load = play_load(pair, host, placed, 60, print)
        finally:
            retire(pair, placed.names())
    assert load.wrong == []
    assert load.verdict.acknowledged > 5 * 60 / 5 * 0.8
    for node in load.counted:
        assert node.targets == 10
        assert node.lines > 0
