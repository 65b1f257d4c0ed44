"""Waits after failures."""

from __future__ import annotations

import random
from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from device.agent.overlord_device.backoff import (
    CAP_S,
    MAX_RETRY_AFTER_S,
    Backoff,
    parse_retry_after,
)
from device.agent.overlord_device.service import next_slot


@given(failures=st.integers(0, 10_000), seed=st.integers())
def test_a_wait_is_never_longer_than_the_cap_nor_below_nothing(failures: int, seed: int) -> None:
    backoff = Backoff(uniform=random.Random(seed).uniform)
    backoff.failures = failures
    assert 0.0 <= backoff.fail() <= CAP_S


@given(failures=st.integers(0, 500))
def test_the_ceiling_doubles_until_the_cap(failures: int) -> None:
    now, later = Backoff(), Backoff()
    now.failures, later.failures = failures, failures + 1
    assert later.ceiling() == min(CAP_S, now.ceiling() * 2)


@given(retry_after=st.floats(0, 1e9), failures=st.integers(0, 100), seed=st.integers())
def test_retry_after_is_waited_out_and_spread(retry_after: float, failures: int, seed: int) -> None:
    backoff = Backoff(uniform=random.Random(seed).uniform)
    backoff.failures = failures
    asked = min(retry_after, MAX_RETRY_AFTER_S)
    ceiling = backoff.ceiling()
    assert asked <= backoff.fail(retry_after) <= asked + ceiling


def test_five_hundred_devices_that_fail_together_do_not_come_back_together() -> None:
    seconds = [0] * 300
    for device in range(500):
        backoff = Backoff(uniform=random.Random(device).uniform)
        backoff.failures = 10
        seconds[int(min(backoff.fail(), 299))] += 1
    assert max(seconds) <= 10


def test_success_starts_again_from_short_waits() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    waits = [backoff.fail() for _ in range(4)]
    backoff.reset()
    assert [*waits, backoff.fail()] == [2, 4, 8, 16, 2]


@given(st.text())
def test_any_retry_after_is_read_without_an_error(text: str) -> None:
    value = parse_retry_after(text, None)
    assert value is None or 0 <= value <= MAX_RETRY_AFTER_S


@given(st.integers(0, 10**30))
def test_retry_after_in_seconds_is_read_and_bounded(seconds: int) -> None:
    assert parse_retry_after(f" {seconds} ", None) == min(seconds, MAX_RETRY_AFTER_S)


@given(ahead=st.integers(-4000, 4000), now=st.integers(10**9, 2 * 10**9))
def test_retry_after_as_a_date_is_measured_by_the_servers_clock(ahead: int, now: int) -> None:
    until, date = formatdate(now + ahead, usegmt=True), formatdate(now, usegmt=True)
    assert parse_retry_after(until, date) == min(max(0, ahead), MAX_RETRY_AFTER_S)
    assert parse_retry_after(until, None) is None


@given(now=st.floats(0, 1e8), period=st.floats(1, 3600), name=st.text(min_size=1))
def test_a_device_reports_once_a_period_at_its_own_phase(
    now: float, period: float, name: str
) -> None:
    wait = next_slot(now, period, name)
    assert 0.05 * period <= wait <= 1.06 * period
    after = next_slot(now + wait, period, name)
    assert abs(after - period) < 0.01 * period


def test_a_fleet_switched_on_at_once_spreads_over_the_period() -> None:
    slots = [0] * 60
    for device in range(500):
        slots[int(next_slot(100.0, 60.0, f"pi-{device:03}")) % 60] += 1
    assert max(slots) < 30
