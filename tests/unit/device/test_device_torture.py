"""The agent's process, killed, unplugged and cut off, before the real API on a real PostgreSQL.

What is shown is shown by count: what the agent's own queue calls acknowledged is in the database,
each once, and what it made and did not have to drop by age is there in the end.
"""

from __future__ import annotations

import collections
import random
import time
from pathlib import Path

import pytest

from device.agent.overlord_device.queue import DAY_S
from tests.support.api import Api
from tests.support.rough_line import FAULTS, rough_line
from tests.support.torn_device import ACKNOWLEDGED, REFUSED, WAITING, TornDevice

SEED = 20261127


@pytest.mark.timeout(600)
def test_killed_unplugged_and_lied_to_at_any_moment_it_loses_and_doubles_nothing(
    tmp_path: Path, api: Api
) -> None:
    draw = random.Random(SEED)
    ends: collections.Counter[str] = collections.Counter()
    with rough_line(api.url, SEED) as line:
        device = TornDevice(tmp_path, api, line, "pi-torn")
        line.chance = 0.6
        known: set[str] = set()
        for _ in range(40):
            device.start(period_s=0.05)
            # Mostly in the middle of its work, else at any moment of its start.
            if draw.random() < 0.75:
                device.wait_for_statuses(3)
            time.sleep(draw.uniform(0.0, 0.8))
            end = draw.choice(["killed", "killed", "unplugged", "cut off", "clock set"])
            ends[end] += 1
            if end == "unplugged":
                device.unplug()
            elif end == "cut off":
                line.cut()
                time.sleep(draw.uniform(0.1, 0.5))
                device.kill()
                line.connect()
            else:
                if end == "clock set":
                    device.set_clock(wall_error=draw.choice([0.0, 3600.0, -3600.0]))
                    time.sleep(draw.uniform(0.1, 0.5))
                device.kill()
            if device.queue_exists():
                kept = device.kept()
                assert known <= kept.states.keys()
                assert set(kept.of_state(ACKNOWLEDGED)) <= set(device.stored())
                known = set(kept.states)
        line.chance = 0.0
        device.set_clock(wall_error=0.0)
        device.deliver(0.05, 60)

    kept, stored = device.kept(), device.stored()
    print(f"{kept.made} statuses made, {len(stored)} stored; {dict(ends)}; {dict(line.met)}")
    assert sorted(stored) == sorted(kept.states)
    assert set(kept.states.values()) == {ACKNOWLEDGED}
    assert kept.totals == {"acknowledged": kept.made}
    assert kept.made == len(kept.states) > 60
    assert set(FAULTS) <= set(line.met)
    assert "Traceback" not in device.log.read_text()


@pytest.mark.timeout(600)
def test_cut_off_for_eight_days_it_brings_the_last_seven_and_counts_the_rest(
    tmp_path: Path, api: Api
) -> None:
    draw = random.Random(SEED)
    with rough_line(api.url, SEED) as line:
        device = TornDevice(tmp_path, api, line, "pi-week")
        # Its clock is an hour behind the truth all the while.
        device.set_clock(behind=8 * DAY_S, wall_error=-3600.0)
        line.cut()
        device.start(period_s=60.0)
        for days_left in sorted(draw.uniform(0.2, 7.8) for _ in range(3))[::-1]:
            _until(device, days_left * DAY_S)
            device.kill()
            device.start(period_s=60.0)
        _until(device, 0.0)
        device.kill()
        away = device.kept()
        assert len(away.of_state(WAITING)) == len(away.states)

        line.chance = 0.2
        line.connect()
        device.deliver(60.0, 150)

    kept, stored = device.kept(), device.stored()
    print(f"{kept.made} made in 8 days: {kept.totals}; {len(stored)} stored; {dict(line.met)}")
    acknowledged = kept.of_state(ACKNOWLEDGED)
    assert stored == acknowledged
    assert len(stored) == kept.totals["acknowledged"] >= 10_079
    assert kept.made >= 8 * 1440
    # The server's word on one that turned seven days old on its way.
    late = kept.totals.get("refused", 0)
    assert late == len(kept.of_state(REFUSED)) <= 3
    assert kept.made == len(stored) + kept.totals["dropped_expired"] + late
    assert "dropped_overflow" not in kept.totals
    rows = api.rows("pi-week")
    assert all(abs(row[3] + 3600.0) < 30.0 for row in rows)
    times = [row[2] for row in rows]
    assert (times[-1] - times[0]).total_seconds() == pytest.approx(7 * DAY_S, abs=180)


def _until(device: TornDevice, behind_s: float) -> None:
    deadline = time.monotonic() + 120
    while device.clock().behind > behind_s:
        assert time.monotonic() < deadline, device.log.read_text()[-3000:]
        time.sleep(0.02)
