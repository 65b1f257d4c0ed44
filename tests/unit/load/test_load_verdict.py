"""What counts as dropped or over a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.sizing import SIZES
from device.simulator.stats import Stats
from device.simulator.verify import Verdict
from load.run import Counted, Load, size_for
from load.usage import Disk, Use

USE = Use(
    node="vps-01",
    service="api",
    memory=90.0,
    memory_limit=100.0,
    cpu=0.1,
    cpu_peak=0.5,
    cpu_limit=0.5,
    restarted=False,
    killed=False,
)
DISK = Disk(node="vps-01", service="loki", used=10, grew=1, limit=11)
COUNTED = Counted(
    node="vps-01",
    targets=6,
    down=0,
    series=300,
    samples=20.0,
    pushed=40,
    refused=0,
    lines=40,
    missed=0,
)
GOOD = Load(
    devices=3,
    stats=Stats(),
    verdict=Verdict(acknowledged=5, stored=5),
    counted=[COUNTED],
    uses=[USE],
    disks=[DISK],
    status_bytes=400.0,
)


def test_nothing_is_wrong_with_a_run_that_dropped_nothing_within_its_limits() -> None:
    assert GOOD.wrong == []


@pytest.mark.parametrize(
    "counted",
    [
        replace(COUNTED, targets=5),
        replace(COUNTED, down=1),
        replace(COUNTED, lines=39),
        replace(COUNTED, refused=1),
        replace(COUNTED, missed=1),
    ],
)
def test_what_was_dropped_on_the_way_in_is_named_with_its_node(counted: Counted) -> None:
    [wrong] = replace(GOOD, counted=[counted]).wrong
    assert wrong.startswith("vps-01: ")


@pytest.mark.parametrize(
    "use",
    [
        replace(USE, memory=100.0),
        replace(USE, cpu=0.5),
        replace(USE, restarted=True),
        replace(USE, killed=True),
    ],
)
def test_a_container_over_a_limit_is_named(use: Use) -> None:
    assert replace(GOOD, uses=[use]).wrong == ["vps-01: api over its limit"]


def test_data_that_does_not_fit_is_named() -> None:
    assert replace(GOOD, disks=[replace(DISK, used=11)]).wrong == ["vps-01: loki over its limit"]


def test_a_lost_and_an_undelivered_status_are_both_told() -> None:
    stats = Stats()
    stats.counts["left undelivered"] = 2
    verdict = Verdict(acknowledged=5, stored=4, lost=[("a", "b")])
    lost, undelivered = replace(GOOD, stats=stats, verdict=verdict).wrong
    assert "lost" in lost
    assert undelivered == "statuses left undelivered: 2"


def test_the_room_is_that_of_the_smallest_node_that_carries_the_fleet() -> None:
    assert size_for(50).fleet_size == 50
    assert size_for(51).fleet_size == 100
    assert size_for(500) is SIZES[500]


def test_the_data_of_a_full_node_leaves_room_for_what_metrics_need_beside_their_blocks() -> None:
    for size in SIZES.values():
        assert sum(size.service_disk_gb.values()) < 0.8 * size.disk_gb
