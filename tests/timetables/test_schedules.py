"""Which schedules a flow may have, how they are described, and which run is next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from airflow.utils.dates import cron_presets
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.timetables import AwsCron, AwsRate, schedule_problem
from airflow_allma.timetables.descriptions import describe_cron, describe_rate
from airflow_allma.timetables.next_run import next_run
from airflow_allma.timetables.unix_cron import PRESETS

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
SIX = AwsCron.parse("cron(0 6 * * ? *)", ZoneInfo("UTC"))


@pytest.mark.parametrize(
    "schedule",
    [
        "cron(0 6 * * ? *)",
        " rate(6 hours) ",
        "0 6 * * *",
        "*/5 8-17 * jan-jun mon-fri",
        "0 0 1,15 * 7",
        "30 4 29 2 *",
        "0 0 31 4 mon",
        *sorted(PRESETS),
    ],
)
def test_aws_expressions_cron_expressions_and_presets_are_schedules(schedule):
    assert schedule_problem(schedule) is None


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("", "not a schedule; write cron(0 6 * * ? *), rate(6 hours)"),
        ("None", "not a schedule"),
        ("every day", "not a schedule"),
        ("at(2026-01-01T00:00:00)", "not a schedule"),
        ("{{ flow_variables.schedule }} * *", "minutes: `{{` is not a value"),
        ("@dayly", "unknown preset; write @daily"),
        ("@midnight", "unknown preset; write one of @continuous, @daily"),
        ("0 6 * * ? *", "there are six fields, but a cron expression has five; write AWS's six as cron(...)"),
        ("0 0 6 * * *", "six fields"),
        ("0 6 * * ?", "day-of-week: `?` is not a value"),
        ("0 6 L * *", "day-of-month: `L` is not a value"),
        ("0 6 30 2 *", "day-of-month: none of the months has such a day"),
        ("0 6 31 4,6,9 *", "day-of-month: none of the months has such a day"),
        ("cron(0 6 * * *)", "six fields are required, but there are 5"),
        ("rate(1 hours)", "the unit 'hours' does not match 1"),
    ],
)
def test_anything_else_is_rejected_with_a_fix(schedule, problem):
    assert problem in schedule_problem(schedule)


def test_presets_are_those_of_airflow():
    assert set(cron_presets) | {"@once", "@continuous"} == PRESETS


WORDS = st.sampled_from(
    [*"*01257", "0/5", "*/7", "1-5", "2-4/2", "59", "23", "31", "29,30", "jan", "MON", "x"]
)


@given(st.lists(WORDS, min_size=5, max_size=5).map(" ".join))
def test_airflow_can_compute_any_cron_expression_that_is_accepted(expression):
    if schedule_problem(expression) is None:
        assert croniter(expression, NOW).get_next(datetime) > NOW


@pytest.mark.parametrize(
    ("expression", "description"),
    [
        ("cron(0 6 * * ? *)", "At 06:00, every day (Europe/Berlin)"),
        (
            "cron(0 6,18 ? * MON-FRI *)",
            "At 06:00 and 18:00, on Monday, Tuesday, Wednesday, Thursday and Fri",
        ),
        ("cron(* * ? * * *)", "Every minute of every hour, every day"),
        ("cron(0/15 8-17 * * ? *)", "At minute 0, 15, 30 and 45 of hour 8 to 17, every day"),
        ("cron(0 6 1 * ? *)", "At 06:00, on day 1 of the month"),
        (
            "cron(0 6 L JAN,JUL ? 2026-2030)",
            "the last day of the month, in January and July, in 2026 to 2030",
        ),
        ("cron(0 6 LW * ? *)", "on the last day from Monday to Friday of the month"),
        ("cron(0 6 15W * ? *)", "on the day from Monday to Friday nearest to day 15 of the month"),
        ("cron(0 6 ? * 6L *)", "on the last Friday of the month"),
        ("cron(0 6 ? * 2#2 *)", "on the second Monday of the month"),
    ],
)
def test_a_cron_expression_is_described_in_words(expression, description):
    assert description in describe_cron(AwsCron.parse(expression, ZoneInfo("Europe/Berlin")))


@pytest.mark.parametrize(
    ("expression", "description"),
    [
        ("rate(1 minute)", "Every minute"),
        ("rate(90 minutes)", "Every 90 minutes"),
        ("rate(60 minutes)", "Every hour"),
        ("rate(48 hours)", "Every 2 days"),
    ],
)
def test_a_rate_is_described_in_words(expression, description):
    assert describe_rate(AwsRate.parse(expression, NOW)) == description


def at(day, hour=6, month=6, year=2026):
    return datetime(year, month, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param({"catchup": True, "last": at(3)}, at(4), id="missed runs are made up for, one by one"),
        pytest.param({"catchup": True, "earliest": at(1)}, at(1), id="the start itself counts"),
        pytest.param({"catchup": True, "earliest": at(1, 7)}, at(2), id="none before the start"),
        pytest.param(
            {"catchup": True, "earliest": at(8), "last": at(3)}, at(8), id="the start was moved to later"
        ),
        pytest.param({"catchup": True}, at(11), id="without a start nothing is missed"),
        pytest.param({"catchup": False}, at(11), id="nor without catchup"),
        pytest.param({"catchup": False, "last": at(3)}, at(10), id="only the latest that was missed"),
        pytest.param({"catchup": False, "last": at(10)}, at(11), id="nothing was missed"),
        pytest.param({"catchup": False, "earliest": at(1)}, at(10), id="a new Dag makes up for the latest"),
        pytest.param({"catchup": False, "earliest": at(20)}, at(20), id="a start in the future"),
        pytest.param({"catchup": False, "earliest": at(10, 7)}, at(11), id="a start after the latest"),
        pytest.param({"catchup": True, "last": at(3), "latest": at(3, 7)}, None, id="the end has passed"),
        pytest.param({"catchup": True, "last": at(3), "latest": at(4)}, at(4), id="the end itself counts"),
    ],
)
def test_the_next_run_is_chosen_as_airflow_users_expect(arguments, expected):
    rules = {"last": None, "earliest": None, "latest": None, "now": NOW} | arguments
    assert next_run(SIX, **rules) == expected


def test_a_schedule_that_is_over_has_no_next_run():
    over = AwsCron.parse("cron(0 6 * * ? 2020)", ZoneInfo("UTC"))
    for catchup in (True, False):
        rules = {"earliest": None, "latest": None, "now": NOW, "catchup": catchup}
        assert next_run(over, last=at(31, month=12, year=2020), **rules) is None
        assert next_run(over, last=None, **rules) is None


def test_catchup_runs_every_time_between_two_moments_once():
    rate = AwsRate.parse("rate(7 hours)", at(1))
    runs, last = [], None
    while (
        last := next_run(rate, last=last, earliest=at(2), latest=at(9), catchup=True, now=NOW)
    ) is not None:
        runs.append(last)
    assert runs == [at(1) + n * timedelta(hours=7) for n in range(4, 28)]
