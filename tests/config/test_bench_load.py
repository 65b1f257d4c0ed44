"""A real Prometheus takes what the benchmark of queries fills it with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from bench.queries.asked import Asker
from bench.queries.load import running_prometheus
from bench.queries.remote_write import STEP_SECONDS, Writer, line, lines_of

HOUR = 3600
ORIGIN = int(time.time()) // HOUR * HOUR - 5 * HOUR
END = ORIGIN + 5 * HOUR
DEVICE = {"job": "device", "device": "pi-1"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus")) as url:
        writer = Writer(url, ORIGIN)
        text = 'sent_bytes_total{device="eth0"} 720000\ntemperature 50'
        writer.history([line("kept", {}, 3.0)], ORIGIN, ORIGIN + HOUR, 60)
        # Longer than what Prometheus takes late, so the order in which it is sent matters.
        writer.history(list(lines_of(text, DEVICE, HOUR)), ORIGIN + HOUR, END)
        yield Asker(url)


def value(prometheus: Asker, query: str, at: int) -> float:
    found: Any = prometheus.get("/api/v1/query", query=query, time=at)["data"]["result"]
    assert len(found) == 1, found
    return float(found[0]["value"][1])


def test_every_sample_is_there(prometheus: Asker) -> None:
    assert value(prometheus, "count_over_time(temperature[5h])", END) == 4 * HOUR / STEP_SECONDS
    assert value(prometheus, "count_over_time(kept[5h])", END - 1) == HOUR / 60


def test_a_counter_grows_at_its_rate_and_never_falls(prometheus: Asker) -> None:
    assert value(prometheus, "rate(sent_bytes_total[1h])", END) == pytest.approx(200, rel=0.01)
    assert value(prometheus, "resets(sent_bytes_total[5h])", END) == 0


def test_a_label_that_the_fleet_has_too_is_kept_under_another_name(prometheus: Asker) -> None:
    assert value(prometheus, 'sent_bytes_total{device="pi-1", exported_device="eth0"}', END) > 0
