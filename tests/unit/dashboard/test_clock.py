"""Judging the time that a device says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.api.clock import MAX_AGE, SKEW_TOLERANCE, RefusedTimeError, judge

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
any_time = st.datetimes(timezones=st.just(UTC))
near = st.timedeltas(timedelta(days=-9), timedelta(days=9)).map(lambda by: NOW + by)


def test_a_right_clock_is_left_as_it_is() -> None:
    judged = judge(NOW - timedelta(hours=5), NOW - timedelta(seconds=2), NOW)

    assert judged.observed_at == NOW - timedelta(hours=5)
    assert judged.flagged is False


def test_a_replay_is_no_wrong_clock() -> None:
    judged = judge(NOW - timedelta(days=6), None, NOW)

    assert judged.skew is None
    assert judged.flagged is False


def test_a_wrong_clock_is_corrected_for_the_order_of_things() -> None:
    behind = timedelta(hours=-1)

    judged = judge(NOW - timedelta(minutes=10) + behind, NOW + behind, NOW)

    assert judged.observed_at == NOW - timedelta(minutes=10)
    assert judged.skew == behind
    assert judged.flagged is True


@pytest.mark.parametrize(("seconds", "flagged"), [(30, False), (31, True)])
def test_a_clock_is_flagged_from_thirty_seconds(seconds: int, flagged: bool) -> None:
    sent = NOW + timedelta(seconds=seconds)

    assert judge(sent, sent, NOW).flagged is flagged


@given(event_time=any_time | near, sent_at=st.none() | any_time | near)
def test_what_is_kept_was_seen_within_the_last_seven_days_and_not_in_the_future(
    event_time: datetime, sent_at: datetime | None
) -> None:
    try:
        judged = judge(event_time, sent_at, NOW)
    except RefusedTimeError:
        return
    assert NOW - MAX_AGE <= judged.observed_at <= NOW
    assert judged.flagged == (judged.skew is not None and abs(judged.skew) > SKEW_TOLERANCE)
    # Within the partitions that are kept ready.
    assert timedelta(days=-8) <= event_time - NOW <= timedelta(days=1)
