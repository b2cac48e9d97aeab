"""When AWS cron expressions fire: a table, checked against two other calculations."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.timetables import AwsCron
from tests.support.aws_cron_walker import fires

TABLE = [json.loads(line) for line in Path(__file__).with_name("aws_cron.jsonl").read_text().splitlines()]
ALL_YEARS = 366 * 175


def rows(only=lambda row: True):
    return [
        pytest.param(row, id=f"{row['expression']} {row['timezone']} {row['from']}")
        for row in TABLE
        if only(row)
    ]


def cron_of(row):
    return AwsCron.parse(row["expression"], ZoneInfo(row["timezone"]))


def expected(row):
    return [datetime.fromisoformat(text) for text in row["next"]]


def following(cron, moment):
    while (moment := cron.next_after(moment)) is not None:
        yield moment


def test_the_table_has_every_form_and_both_clock_changes_in_two_zones():
    assert len(TABLE) >= 40
    written = " ".join(row["expression"] for row in TABLE)
    forms = ("? ", "L ", "LW ", "15W ", "6#3 ", "6L ", "SUNL ", "MON-FRI ", "1/3 ", "JAN,APR,JUL,OCT ")
    for form in (*forms, "2027,2030-2033"):
        assert f" {form}" in written, form
    for zone in ("Europe/Berlin", "America/New_York"):
        offsets = [
            {moment.utcoffset() for moment in expected(row)} for row in TABLE if row["timezone"] == zone
        ]
        assert len([found for found in offsets if len(found) == 2]) >= 2, zone


@pytest.mark.parametrize("row", rows())
def test_the_next_five_times_are_those_of_the_table(row):
    found = list(itertools.islice(following(cron_of(row), datetime.fromisoformat(row["from"])), 5))
    assert found == expected(row)
    assert {moment.tzinfo for moment in found} <= {UTC}


@pytest.mark.parametrize("row", rows())
def test_checking_every_minute_finds_the_times_of_the_table(row):
    walked = fires(
        row["expression"], ZoneInfo(row["timezone"]), datetime.fromisoformat(row["from"]), ALL_YEARS
    )
    assert list(itertools.islice(walked, 5)) == expected(row)


def for_croniter(expression):
    """Return the same in croniter's syntax: Sunday is 0, ``L`` is first, seconds are before years."""
    minutes, hours, month_day, month, weekday, year = expression[5:-1].split()
    if weekday.endswith("L") and weekday != "L":
        weekday = "L" + weekday[:-1]
    # Only the day is renumbered, not the number after `#`.
    days = weekday.replace("?", "*")
    head, mark, nth = days.partition("#")
    head = "".join(str(int(char) - 1) if char.isdigit() else char for char in head)
    month_day = month_day.replace("?", "*")
    minutes = minutes.replace("7/", "7-59/") if minutes == "7/20" else minutes
    return " ".join(
        [
            minutes,
            hours,
            month_day,
            month,
            head.replace("LSUN", "L0") + mark + nth,
            "0",
            year.replace("?", "*"),
        ]
    )


def croniter_supports(row):
    _, _, month_day, _, weekday, year = row["expression"][5:-1].split()
    # It has no W, gives a lone L another meaning, supports no year after 2099, and has rules of its own for
    # clock changes.
    supported = "W" not in month_day and weekday != "L" and "2199" not in year
    return supported and row["timezone"] == "UTC" and len(row["next"]) == 5


@pytest.mark.parametrize("row", rows(croniter_supports))
def test_croniter_finds_the_times_of_the_table_if_it_supports_the_form(row):
    walk = croniter(
        for_croniter(row["expression"]),
        datetime.fromisoformat(row["from"]),
        ret_type=datetime,
        max_years_between_matches=20,
    )
    assert [walk.get_next() for _ in range(5)] == expected(row)


def lists(values):
    return st.lists(values, min_size=1, max_size=3).map(",".join)


def field(low, high):
    number = st.integers(low, high)
    text = number.map(str)
    span = st.tuples(number, number).map(sorted).map(lambda ends: f"{ends[0]}-{ends[1]}")
    step = st.integers(1, high - low + 1)
    stepped = st.tuples(st.one_of(text, span, st.just("*")), step).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.one_of(st.just("*"), text, lists(st.one_of(text, span, stepped)))


NAMES = st.sampled_from(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", *"1234567"])
MONTH_DAY = st.one_of(
    field(1, 31), st.sampled_from(["L", "LW"]), st.integers(1, 31).map(lambda day: f"{day}W")
)
WEEKDAY = st.one_of(
    st.sampled_from(["*", "L", "MON-FRI", "2-4"]),
    lists(NAMES),
    NAMES.map(lambda name: f"{name}L"),
    st.tuples(NAMES, st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}"),
)
DAYS = st.one_of(MONTH_DAY.map(lambda text: (text, "?")), WEEKDAY.map(lambda text: ("?", text)))
EXPRESSIONS = st.builds(
    lambda minutes, hours, days, month, year: f"cron({minutes} {hours} {days[0]} {month} {days[1]} {year})",
    field(0, 59),
    field(0, 23),
    DAYS,
    st.sampled_from(["*", "*", "3", "10,11", "MAR-NOV", "2"]),
    st.sampled_from(["*", "*", "2026", "2025-2027", "2025/2"]),
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
# Around clock changes, and anywhere.
MOMENTS = st.builds(
    lambda start, seconds: start + timedelta(seconds=seconds),
    st.sampled_from(
        [
            datetime(2026, 3, 29, 1, tzinfo=UTC),
            datetime(2026, 10, 25, 1, tzinfo=UTC),
            datetime(2026, 3, 8, 7, tzinfo=UTC),
            datetime(2026, 11, 1, 6, tzinfo=UTC),
            datetime(2026, 4, 4, 15, tzinfo=UTC),
            datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
        ]
    ),
    st.one_of(st.integers(-7200, 7200), st.integers(-30_000_000, 30_000_000)),
)


def parsed_or_none(expression, zone):
    try:
        return AwsCron.parse(expression, ZoneInfo(zone))
    except ExpressionSyntaxError as error:
        assert "no month and year" in error.reason  # noqa: PT017 - any other error is a bug
        return None


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, ZONES, MOMENTS)
def test_the_next_time_is_the_first_that_checking_every_minute_finds(expression, zone, moment):
    walked = next(fires(expression, ZoneInfo(zone), moment, 800), None)
    cron = parsed_or_none(expression, zone)
    found = cron and cron.next_after(moment)
    if walked is not None or found is None:
        assert found == walked
    else:
        assert found > moment + timedelta(days=798)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, ZONES, MOMENTS)
def test_the_latest_time_until_a_moment_is_the_one_before_the_next(expression, zone, moment):
    cron = parsed_or_none(expression, zone)
    if cron is None:
        return
    latest, following_one = cron.latest_until(moment), cron.next_after(moment)
    if latest is None:
        first = cron.next_after(datetime(1969, 12, 30, tzinfo=UTC))
        assert first == following_one
    else:
        assert latest <= moment
        assert cron.next_after(latest) == following_one
    if following_one is not None:
        assert cron.latest_until(following_one) == following_one


BAD = [
    ("cron(0 6 * * *)", "six fields are required, but there are 5", 5),
    ("cron(0 0 6 * * ? *)", "six fields are required, but there are 7", 5),
    ("0 6 * * ? *", "not an AWS cron expression", 0),
    ("cron(0 6 * * ? *", "not an AWS cron expression", 0),
    ("cron(60 6 * * ? *)", "minutes: 60 is out of bounds; write 0 to 59", 5),
    ("cron(0 24 * * ? *)", "hours: 24 is out of bounds; write 0 to 23", 7),
    ("cron(0 6 0 * ? *)", "day-of-month: 0 is out of bounds", 9),
    ("cron(0 6 32 * ? *)", "day-of-month: 32 is out of bounds", 9),
    ("cron(0 6 * 13 ? *)", "month: 13 is out of bounds; write 1 to 12, or JAN to DEC", 11),
    ("cron(0 6 * JUNE ? *)", "month: `JUNE` is not a value", 11),
    ("cron(0 6 ? * 0 *)", "day-of-week: 0 is out of bounds; write 1 to 7, or SUN to SAT", 13),
    ("cron(0 6 ? * 8 *)", "day-of-week: 8 is out of bounds", 13),
    ("cron(0 6 * * ? 1969)", "year: 1969 is out of bounds; write 1970 to 2199", 15),
    ("cron(0 6 * * ? 2200)", "year: 2200 is out of bounds", 15),
    ("cron(0 6 * * MON *)", "one of day-of-month and day-of-week must be `?`", 13),
    ("cron(0 6 * * * *)", "one of day-of-month and day-of-week must be `?`", 13),
    ("cron(0 6 ? * ? *)", "`?` is used in day-of-month too", 13),
    ("cron(? 6 * * ? *)", "minutes: `?` is only allowed in", 5),
    ("cron(0 6 L,15 * ? *)", "day-of-month: `L,15` is not a valid use of L or W", 9),
    ("cron(0 6 L-3 * ? *)", "day-of-month: `L-3` is not a valid use of L or W", 9),
    ("cron(0 6 W * ? *)", "day-of-month: `W` is not a valid use of L or W", 9),
    ("cron(0 6 32W * ? *)", "day-of-month: 32 is out of bounds", 9),
    ("cron(0 6 ? * 6#6 *)", "day-of-week: `#` must be followed by one number from 1 to 5", 13),
    ("cron(0 6 ? * 3#1,6#3 *)", "day-of-week: `#` must be followed by one number from 1 to 5", 13),
    ("cron(0 6 ? * MON/2 *)", "day-of-week: `/` is not allowed in this field", 13),
    ("cron(0 6 ? * 9L *)", "day-of-week: 9 is out of bounds", 13),
    ("cron(0/0 6 * * ? *)", "minutes: the step after `/` must be a number from 1 to 60", 7),
    ("cron(0/x 6 * * ? *)", "minutes: the step after `/` must be a number", 7),
    ("cron(/5 6 * * ? *)", "minutes: there is nothing before `/`; write */5", 5),
    ("cron(1/2/3 6 * * ? *)", "minutes: more than one `/`", 5),
    ("cron(1,,2 6 * * ? *)", "minutes: `` is not a value", 7),
    ("cron(1-2-3 6 * * ? *)", "minutes: more than one `-`", 5),
    ("cron(0 22-2 * * ? *)", "hours: 22-2 ends before it begins; write two ranges, 22-23,0-2", 7),
    ("cron(0 6 ٣ * ? *)", "day-of-month: `٣` is not a value", 9),
    ("cron(0 6 30 2 ? *)", "day-of-month: no month and year of the expression has such a day", 9),
    ("cron(0 6 29 2 ? 2100)", "day-of-month: no month and year of the expression has such a day", 9),
    ("cron(0 " + "9" * 5000 + " * * ? *)", "hours: 999999999 is out of bounds", 7),
]


@pytest.mark.parametrize(("expression", "reason", "position"), BAD, ids=[bad[0][:40] for bad in BAD])
def test_an_expression_that_aws_rejects_is_an_error_with_field_position_and_fix(expression, reason, position):
    with pytest.raises(ExpressionSyntaxError) as caught:
        AwsCron.parse(expression, ZoneInfo("UTC"))
    assert reason in caught.value.reason
    assert (caught.value.expression, caught.value.position) == (expression, position)


@pytest.mark.parametrize(
    "expression", ["  cron( 0  6 * * ? * ) ", "cron(0 6 * jan-Dec ? *)", "cron(00 06 * * ? *)"]
)
def test_white_space_lower_case_and_leading_zeros_do_not_matter(expression):
    cron = AwsCron.parse(expression, ZoneInfo("UTC"))
    assert cron.next_after(datetime(2026, 1, 1, 7, tzinfo=UTC)) == datetime(2026, 1, 2, 6, tzinfo=UTC)
