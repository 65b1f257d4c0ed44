"""What is said of many runs."""

from __future__ import annotations

import pytest

from bench.timing import Timing


def test_of_twenty_runs_the_slowest_alone_does_not_make_the_95th_percentile() -> None:
    timing = Timing("twenty", [1.0] * 19 + [100.0])

    assert timing.p50 == 1.0
    assert timing.p95 < 10.0
    assert timing.longest == 100.0


def test_of_few_runs_the_slowest_is_the_95th_percentile() -> None:
    assert Timing("few", [1.0, 2.0, 9.0]).p95 == 9.0


def test_a_run_that_fails_is_not_counted() -> None:
    timing = Timing("failing")

    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        timing.run(fail)

    assert timing.seconds == []
