"""When AWS rate expressions fire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.timetables import AwsRate

START = datetime(2026, 3, 28, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "interval"),
    [
        ("rate(1 minute)", timedelta(minutes=1)),
        ("rate(5 minutes)", timedelta(minutes=5)),
        ("rate(1 hour)", timedelta(hours=1)),
        ("rate(36 hours)", timedelta(hours=36)),
        ("rate(1 day)", timedelta(days=1)),
        (" rate( 07  days ) ", timedelta(days=7)),
    ],
)
def test_a_rate_fires_at_its_start_and_at_regular_intervals(expression, interval):
    rate = AwsRate.parse(expression, START)
    assert rate.interval == interval
    assert rate.next_after(START - timedelta(days=400)) == START
    assert rate.next_after(START) == START + interval
    assert rate.next_after(START + 7.5 * interval) == START + 8 * interval
    assert rate.latest_until(START + 7.5 * interval) == START + 7 * interval
    assert rate.latest_until(START) == START
    assert rate.latest_until(START - timedelta(seconds=1)) is None


@given(
    st.integers(2, 10_000),
    st.sampled_from(["minutes", "hours", "days"]),
    st.datetimes(datetime(1990, 1, 1), datetime(2190, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_times_are_whole_intervals_after_the_start_and_around_the_moment(count, unit, moment):
    rate = AwsRate.parse(f"rate({count} {unit})", START)
    found = rate.next_after(moment)
    assert found is not None
    assert found > moment
    assert (found - START) % rate.interval == timedelta()
    latest = rate.latest_until(moment)
    assert found == (START if latest is None else latest + rate.interval)


def test_a_rate_ends_with_the_calendar():
    assert AwsRate.parse("rate(36500 days)", START).next_after(datetime(9990, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("expression", "reason", "position"),
    [
        ("rate(1 hours)", "the unit 'hours' does not match 1; write minute, hour or day", 7),
        ("rate(2 hour)", "the unit 'hour' does not match 2; write minutes, hours or days", 7),
        ("rate(5 weeks)", "the unit 'weeks' does not match 5; write minutes, hours or days", 7),
        ("rate(1 second)", "the unit 'second' does not match 1", 7),
        ("rate(0 hours)", "the value '0' is not a positive integer", 5),
        ("rate(-1 hours)", "the value '-1' is not a positive integer", 5),
        ("rate(1.5 hours)", "the value '1.5' is not a positive integer", 5),
        ("  rate(x hours)", "the value 'x' is not a positive integer", 7),
        ("rate(٣ hours)", "is not a positive integer", 5),
        ("rate(99999999999 minutes)", "longer than a hundred years", 5),
        ("rate(36501 days)", "longer than a hundred years", 5),
        ("rate(5minutes)", "not an AWS rate expression", 0),
        ("rate(5 minutes", "not an AWS rate expression", 0),
        ("rate()", "not an AWS rate expression", 0),
    ],
)
def test_an_expression_that_aws_rejects_is_an_error_with_a_fix(expression, reason, position):
    with pytest.raises(ExpressionSyntaxError) as caught:
        AwsRate.parse(expression, START)
    assert reason in caught.value.reason
    assert caught.value.position == position
