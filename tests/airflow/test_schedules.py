"""Schedules of flows and the runs that their Dags create."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction

from airflow_allma.dag_factory import build_dag, load_flows
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import Flow
from airflow_allma.timetables.aws_timetables import AwsCronTimetable, AwsRateTimetable
from tests.airflow.flows import compose, flow

pytestmark = pytest.mark.airflow


def written(**options):
    return flow("timed", {"a": compose()}, airflow=options)


def dag_of(**options):
    return build_dag(Flow.model_validate(written(**options)))


def as_the_scheduler_sees(dag):
    """Return a Dag after a round trip through JSON, as Airflow's database stores it."""
    return DagSerialization.from_json(DagSerialization.to_json(dag))


def backfilled(dag, earliest, latest):
    return [info.run_after for info in dag.iter_dagrun_infos_between(earliest, latest)]


def day(number, hour, month=3, offset=0):
    return datetime(2026, month, number, hour, tzinfo=UTC) - timedelta(hours=offset)


CRON = {"schedule": "cron(30 2 * * ? *)", "timezone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("options", "summary", "description"),
    [
        (CRON, "cron(30 2 * * ? *)", "At 02:30, every day (Europe/Berlin)"),
        (
            {"schedule": " cron(0 6 ? * 6L *) "},
            "cron(0 6 ? * 6L *)",
            "At 06:00, on the last Friday of the month (UTC)",
        ),
        ({"schedule": "rate(6 hours)"}, "rate(6 hours)", "Every 6 hours"),
        ({"schedule": "0 6 * * 1"}, "0 6 * * 1", "At 06:00, only on Monday"),
        ({"schedule": "@daily"}, "0 0 * * *", "At 00:00"),
        ({"schedule": "@once"}, "@once", "Once, as soon as possible"),
        (
            {"schedule": "@continuous"},
            "@continuous",
            "As frequently as possible, but only one run at a time.",
        ),
        ({}, "None", "Never, external triggers only"),
    ],
)
def test_the_ui_shows_the_expression_and_its_meaning(options, summary, description):
    timetable = as_the_scheduler_sees(dag_of(**options)).timetable
    assert (timetable.summary, timetable.description) == (summary, description)


@pytest.mark.parametrize(
    "options", [CRON, {"schedule": "rate(90 minutes)", "startDate": "2026-01-01T00:10:00"}]
)
def test_an_aws_schedule_survives_the_database_and_serializes_to_the_same_value_each_time(options):
    dag = dag_of(**options)
    assert as_the_scheduler_sees(dag).timetable == dag.timetable
    assert DagSerialization.to_json(dag) == DagSerialization.to_json(dag_of(**options))


def test_timetables_are_equal_when_they_fire_at_the_same_times():
    start = day(1, 0)
    assert AwsRateTimetable("rate(1 hour)", start) == AwsRateTimetable("rate(1 hour)", start)
    assert AwsRateTimetable("rate(1 hour)", start) != AwsRateTimetable("rate(1 hour)", day(2, 1))
    same = {AwsCronTimetable("cron(0 6 * * ? *)"), AwsCronTimetable("cron(0 6 * * ? *)", "UTC")}
    assert len(same) == 1
    assert AwsCronTimetable("cron(0 6 * * ? *)") != AwsCronTimetable("cron(0 6 * * ? *)", "Europe/Berlin")


def test_a_backfill_runs_every_time_once_and_skips_the_night_without_that_time():
    dag = as_the_scheduler_sees(dag_of(**CRON))
    assert backfilled(dag, day(27, 12), day(31, 12)) == [
        datetime(2026, 3, 28, 1, 30, tzinfo=UTC),
        datetime(2026, 3, 30, 0, 30, tzinfo=UTC),
        datetime(2026, 3, 31, 0, 30, tzinfo=UTC),
    ]


def test_a_rate_counts_from_the_flows_start_date_in_its_zone():
    dag = as_the_scheduler_sees(
        dag_of(schedule="rate(10 hours)", startDate="2026-03-01", timezone="Europe/Berlin")
    )
    begin = day(1, 0, offset=1)
    assert backfilled(dag, None, begin + timedelta(hours=25)) == [
        begin,
        begin + timedelta(hours=10),
        begin + timedelta(hours=20),
    ]


def test_a_cron_expression_is_read_in_the_flows_zone():
    dag = as_the_scheduler_sees(dag_of(schedule="0 6 * * *", timezone="America/New_York"))
    assert backfilled(dag, day(7, 0), day(9, 0)) == [day(7, 11), day(8, 10)]


@pytest.mark.parametrize("schedule", ["cron(0 6 * * ? *)", "rate(1 day)"])
def test_catchup_begins_at_the_start_date_and_continues_after_the_last_run(schedule):
    dag = as_the_scheduler_sees(dag_of(schedule=schedule, startDate="2026-03-01T06:00:00", catchup=True))
    assert dag.catchup
    rules = TimeRestriction(dag.start_date, None, catchup=True)
    first = dag.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=rules)
    assert first.run_after == day(1, 6)
    assert first.data_interval == DataInterval.exact(first.run_after)
    second = dag.timetable.next_dagrun_info(
        last_automated_data_interval=first.data_interval, restriction=rules
    )
    assert second.run_after == day(2, 6)


@pytest.mark.parametrize("schedule", ["cron(* * * * ? *)", "rate(1 minute)"])
def test_without_catchup_only_the_latest_missed_run_is_created(schedule):
    dag = as_the_scheduler_sees(dag_of(schedule=schedule))
    assert not dag.catchup
    before = datetime.now(UTC)
    found = dag.timetable.next_dagrun_info(
        last_automated_data_interval=DataInterval.exact(dag.start_date),
        restriction=TimeRestriction(dag.start_date, None, catchup=False),
    )
    assert before - timedelta(minutes=1) <= found.run_after <= datetime.now(UTC)


@pytest.mark.parametrize("schedule", ["cron(0 6 * * ? *)", "rate(1 day)"])
def test_a_manual_runs_interval_is_the_moment_of_the_run(schedule):
    timetable = dag_of(schedule=schedule).timetable
    moment = dag_of().start_date
    assert timetable.infer_manual_data_interval(run_after=moment) == DataInterval.exact(moment)


def test_a_schedule_that_has_ended_creates_no_runs_and_no_errors():
    dag = as_the_scheduler_sees(dag_of(schedule="cron(0 6 * * ? 2019)"))
    for catchup in (True, False):
        rules = TimeRestriction(dag.start_date, None, catchup=catchup)
        assert dag.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=rules) is None


def test_a_schedule_start_point_that_is_not_enabled_creates_no_schedule():
    point = {"stepType": "SCHEDULE_START_POINT", "scheduleExpression": "rate(1 hour)", "enabled": False}
    dag = build_dag(Flow.model_validate(flow("point", {"s": point})))
    assert type(dag.timetable).__name__ == "NullTimetable"


@pytest.mark.parametrize("schedule", ["cron(0 6 * * *)", "0 0 6 * * ?", "@dayly", "", "None"])
def test_an_invalid_schedule_creates_no_dag_and_is_reported_with_its_location(tmp_path, schedule):
    (tmp_path / "bad.json").write_text(json.dumps(written(schedule=schedule), indent=1))
    (tmp_path / "good.json").write_text(json.dumps(flow("good", {"a": compose()})))
    problems = []
    assert list(load_flows(tmp_path, on_problem=problems.append)) == ["good"]
    (problem,) = problems
    assert problem.is_error
    assert problem.path == "$.airflow.schedule"
    assert problem.file.endswith("bad.json")
    line = (tmp_path / "bad.json").read_text().splitlines()[problem.line - 1]
    assert line.strip().startswith('"schedule"')


def test_a_flow_that_was_not_checked_is_refused_when_its_dag_is_built():
    with pytest.raises(
        FlowError, match=r"Flow timed: airflow.schedule '@dayly': unknown preset; write @daily"
    ):
        dag_of(schedule="@dayly")


def test_the_command_line_finds_a_bad_schedule_too(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(written(schedule="cron(0 6 31 2 ? *)")))
    done = subprocess.run(
        [sys.executable, "-m", "airflow_allma", "validate", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "$.airflow.schedule: day-of-month: no month and year" in done.stdout


def test_calculating_schedules_needs_no_airflow(repository):
    code = (
        "import sys, airflow_allma.timetables as t\n"
        "assert t.schedule_problem('cron(0 6 * * ? *)') is None\n"
        "sys.exit('airflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)


def test_runs_follow_one_another_as_the_scheduler_requests_them():
    dag = as_the_scheduler_sees(dag_of(schedule="cron(0 12 L * ? *)", startDate="2028-01-31", catchup=True))
    rules = TimeRestriction(dag.start_date, None, catchup=True)

    def runs():
        info = None
        while True:
            info = dag.timetable.next_dagrun_info_v2(last_dagrun_info=info, restriction=rules)
            yield info.run_after.strftime("%m-%d %H:%M")

    assert list(itertools.islice(runs(), 3)) == ["01-31 12:00", "02-29 12:00", "03-31 12:00"]
