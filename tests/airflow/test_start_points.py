"""Flows with SCHEDULE_START_POINT steps: when they run, which one fired, and where runs begin."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from airflow.plugins_manager import get_timetables_plugins
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.utils.types import DagRunType

from airflow_allma.dag_factory import build_dag, load_flows
from airflow_allma.dag_factory.plan.segments import plan_tasks
from airflow_allma.engine import compile_flow
from airflow_allma.exceptions import FlowError, PermanentStepError
from airflow_allma.flow import Flow
from airflow_allma.timetables import fired_start_point
from airflow_allma.timetables.aws_timetables import StartPointsTimetable
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import compose, flow, route

pytestmark = pytest.mark.airflow

TICK = timedelta(microseconds=1)
SIX = "cron(0 6 * * ? *)"


def point(expression, to=None, **more):
    return {
        "stepType": "SCHEDULE_START_POINT",
        "scheduleExpression": expression,
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def written(points, steps=None, **more):
    return flow(
        "points", {"work": compose({"all": "$.initialContextData"}), **points, **(steps or {})}, **more
    )


def model(points, steps=None, **more):
    return Flow.model_validate(written(points, steps, **more))


def dag_of(points, **more):
    return build_dag(model(points, **more))


def as_the_scheduler_sees(dag):
    return DagSerialization.from_json(DagSerialization.to_json(dag))


def at(day, hour, place=0):
    return datetime(2026, 3, day, hour, tzinfo=UTC) + place * TICK


def run_ids(dag, earliest, latest):
    """Return the ids of the runs that the scheduler would create between two moments."""
    return [
        dag.timetable.generate_run_id(
            run_type=DagRunType.SCHEDULED, run_after=info.run_after, data_interval=info.data_interval
        )
        for info in dag.iter_dagrun_infos_between(earliest, latest)
    ]


THREE = {
    "full": point(SIX),
    "hours": point("rate(12 hours)", to="work"),
    "local": point(SIX, timezone="Europe/Berlin"),
}


def test_several_start_points_are_one_timetable_and_each_run_names_the_one_that_fired_it():
    dag = as_the_scheduler_sees(dag_of(THREE, airflow={"startDate": "2026-03-01T06:00:00"}))
    assert run_ids(dag, at(1, 6), at(2, 6)) == [
        "scheduled__2026-03-01T06:00:00+00:00__full",
        "scheduled__2026-03-01T06:00:00.000001+00:00__hours",
        "scheduled__2026-03-01T18:00:00.000001+00:00__hours",
        "scheduled__2026-03-02T05:00:00.000002+00:00__local",
        "scheduled__2026-03-02T06:00:00+00:00__full",
    ]


def test_no_two_runs_share_a_logical_date_however_many_fire_at_once():
    dag = as_the_scheduler_sees(dag_of({f"p{n}": point("cron(* * * * ? *)") for n in range(30)}))
    infos = list(dag.iter_dagrun_infos_between(at(1, 6), at(1, 6) + timedelta(minutes=1, seconds=1)))
    assert len({info.logical_date for info in infos}) == len(infos) == 60


def test_the_ui_shows_each_expression_and_the_meaning_of_each_start_point():
    timetable = as_the_scheduler_sees(dag_of(THREE)).timetable
    assert timetable.summary == "cron(0 6 * * ? *); rate(12 hours)"
    assert timetable.description == (
        "full: At 06:00, every day (UTC); hours: Every 12 hours; local: At 06:00, every day (Europe/Berlin)"
    )


def test_a_long_description_is_cut_to_the_size_of_the_database_column():
    timetable = dag_of({f"start point {n}": point(SIX) for n in range(60)}).timetable
    assert len(timetable.description) == 1000
    assert timetable.description.endswith(" ...")


def test_the_timetable_survives_the_database_and_serializes_to_the_same_value_each_time():
    dag = dag_of(THREE)
    assert as_the_scheduler_sees(dag).timetable == dag.timetable
    assert hash(as_the_scheduler_sees(dag).timetable) == hash(dag.timetable)
    assert DagSerialization.to_json(dag) == DagSerialization.to_json(dag_of(THREE))
    assert dag.timetable != dag_of(dict(reversed(THREE.items()))).timetable


def test_airflow_knows_the_timetable_by_the_plugin():
    assert StartPointsTimetable in get_timetables_plugins().values()


def test_without_catchup_the_latest_missed_run_of_each_start_point_is_created():
    points = {
        "one": point("rate(1000 days)"),
        "other": point("rate(1000 days)"),
        "past": point("cron(0 6 1 3 ? 2020)"),
    }
    timetable = as_the_scheduler_sees(dag_of(points)).timetable
    rules = TimeRestriction(datetime(2020, 1, 1, tzinfo=UTC), None, catchup=False)
    last = DataInterval.exact(datetime(2020, 2, 1, tzinfo=UTC))
    found = []
    for _ in range(3):
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=rules)
        found.append(info.run_after)
        last = info.data_interval
    every = timedelta(days=1000)
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    latest = begin + (datetime.now(UTC) - begin) // every * every
    assert found == [datetime(2020, 3, 1, 6, tzinfo=UTC) + 2 * TICK, latest, latest + TICK]


def test_catchup_creates_every_run_of_every_start_point():
    dag = as_the_scheduler_sees(dag_of(THREE, airflow={"startDate": "2026-03-01T06:00:00", "catchup": True}))
    rules = TimeRestriction(dag.start_date, None, catchup=True)

    def runs():
        info = None
        while True:
            info = dag.timetable.next_dagrun_info_v2(last_dagrun_info=info, restriction=rules)
            yield info.run_after

    assert list(itertools.islice(runs(), 4)) == [at(1, 6), at(1, 6, 1), at(1, 18, 1), at(2, 5, 2)]


def test_a_start_point_that_is_not_enabled_never_fires_and_the_others_keep_their_numbers():
    points = THREE | {"hours": point("rate(12 hours)", enabled=False)}
    dag = as_the_scheduler_sees(dag_of(points))
    assert run_ids(dag, at(1, 5), at(1, 18)) == [
        "scheduled__2026-03-01T05:00:00.000002+00:00__local",
        "scheduled__2026-03-01T06:00:00+00:00__full",
    ]


def test_an_expression_can_be_a_template_over_the_flows_variables():
    points = {"p": point("rate({{flow_variables.hours}} hours)")}
    dag = dag_of(points, flowVariables={"hours": 5})
    assert dag.timetable.summary == "rate(5 hours)"


def test_a_run_id_with_any_step_id_is_accepted_by_airflow():
    points = {"jede Nacht__groß" * 12: point(SIX), "jede Nacht__groß" * 12 + "!": point(SIX)}
    first, second = run_ids(as_the_scheduler_sees(dag_of(points)), at(1, 6), at(1, 7))
    loaded = model(points)
    for run_id, step_id in zip((first, second), points, strict=True):
        assert len(run_id) <= 250
        found = fired_start_point(loaded, run_id=run_id, run_type="scheduled", logical_date=None)
        assert found.step_instance_id == step_id


@pytest.mark.parametrize(
    ("run_id", "run_type", "place", "fired"),
    [
        ("scheduled__2026-03-01T06:00:00.000001+00:00__hours", "scheduled", 1, "hours"),
        ("scheduled__2026-03-01T06:00:00+00:00__hours", "scheduled", 0, "hours"),
        # A backfill that runs a scheduled run again changes only its type.
        ("scheduled__2026-03-01T06:00:00.000001+00:00__hours", "backfill", 1, "hours"),
        ("backfill__2026-03-01T06:00:00.000002+00:00", "backfill", 2, "local"),
        ("backfill__2026-03-01T06:00:00+00:00", "backfill", 0, "full"),
        ("manual__2026-03-01T06:00:00.000001+00:00", "manual", 1, None),
        ("hours", "manual", 1, None),
        # A run from when the flow had `airflow.schedule`.
        ("scheduled__2026-03-01T06:00:00+00:00", "scheduled", 0, None),
    ],
)
def test_the_run_shows_which_start_point_fired(run_id, run_type, place, fired):
    found = fired_start_point(model(THREE), run_id=run_id, run_type=run_type, logical_date=at(1, 6, place))
    assert (found and found.step_instance_id) == fired


@pytest.mark.parametrize(
    ("run_id", "run_type", "message"),
    [
        ("scheduled__2026-03-01T06:00:00+00:00__gone", "scheduled", "The start point gone fired this run"),
        (
            "backfill__2026-03-01T06:00:00.000003+00:00",
            "backfill",
            "Start point number 4 fired this run",
        ),
    ],
)
def test_a_run_whose_start_point_no_longer_exists_fails_with_what_to_do(run_id, run_type, message):
    with pytest.raises(PermanentStepError, match=message):
        fired_start_point(model(THREE), run_id=run_id, run_type=run_type, logical_date=at(1, 6, 3))


def start(points, payload=None, steps=None, **more):
    flow_model = model(points, steps, **more)
    fired = flow_model.steps[next(iter(points))]
    return compile_flow(flow_model).start_state(payload or {}, "run-1", fired)


def test_the_payload_is_the_rendered_template_and_says_which_start_point_fired():
    template = {"who": "{{flow_variables.who}}", "list": "$.flow_variables.list", "deep": {"n": 1}}
    state = start({"p": point(SIX, payloadTemplate=template)}, flowVariables={"who": "ada", "list": [1]})
    expected = {"who": "ada", "list": [1], "deep": {"n": 1}, "triggerSource": "ScheduleTrigger:p"}
    assert state.context["initialContextData"] == expected
    assert expected.items() <= state.context.items()
    assert state.next_step == "work"


def test_the_configuration_of_a_backfill_overrides_the_template():
    state = start({"p": point(SIX, payloadTemplate={"mode": "delta", "n": 1})}, {"mode": "full"})
    assert state.context["initialContextData"] == {
        "mode": "full",
        "n": 1,
        "triggerSource": "ScheduleTrigger:p",
    }


def test_the_rendered_payload_must_match_the_input_schema_which_need_not_know_the_start_point():
    schema = {"properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    options = {"airflow": {"inputSchema": schema}}
    assert start({"p": point(SIX, payloadTemplate={"n": 1})}, **options).context["n"] == 1
    with pytest.raises(PermanentStepError, match=r"\$\.n: 'x' is not of type 'integer'"):
        start({"p": point(SIX, payloadTemplate={"n": "x"})}, **options)


@pytest.mark.parametrize(
    "way",
    [
        {"defaultNextStepInstanceId": "other"},
        {"transitions": [{"condition": "$.x", "nextStepInstanceId": "other"}]},
    ],
)
def test_a_run_begins_at_the_start_point_if_it_has_a_next_step(way):
    assert start({"p": point(SIX, **way)}, steps={"other": compose()}).next_step == "p"


def test_steps_that_only_a_start_point_leads_to_have_tasks_and_runs_can_begin_at_both():
    points = {
        "in": point(SIX, to="other"),
        "bare": point(SIX),
        "off": point(SIX, to="last", enabled=False),
    }
    plan = plan_tasks(model(points, {"other": compose(to="work"), "last": compose()}))
    tasks = {task.task_id: task for task in plan.tasks}
    assert set(tasks) == {"work", "in", "other", "off", "last"}
    assert {name for name, task in tasks.items() if task.begins} == {"work", "in", "off"}
    assert tasks["work"].upstream == ("other",)
    assert plan.start == "work"


def test_a_manual_run_begins_at_the_start_step_though_a_start_point_leads_there(run):
    steps = {
        "work": compose({"all": "$.initialContextData"}, to="after"),
        "after": compose(),
        "in": point(SIX, to="before"),
        "before": compose(to="work"),
    }
    ran = run(steps, {"n": 1})
    assert ran.state == "success"
    assert {name: ran.task(name).state for name in steps} == {
        "work": "success",
        "after": "success",
        "in": "skipped",
        "before": "skipped",
    }
    assert ran.xcom("work")["all"] == {"n": 1}


def test_after_a_clear_the_old_results_of_a_task_that_is_now_skipped_are_ignored():
    """One where runs can begin runs though the only task before it is skipped, which may have run before."""
    points = {
        "choose": route(("$.far == 1", "before"), to="near"),
        "before": compose(to="in"),
        "in": point(SIX, to="last"),
        "last": compose(),
        "near": compose(),
    }
    dag_run = FakeDagRun(written({}, points) | {"startStepInstanceId": "choose"}, payload={"far": 1})
    for task in ("choose", "before", "in"):
        dag_run.run(task)
    assert dag_run.states == dict.fromkeys(("choose", "before", "in"), "success")
    dag_run.states["before"] = "skipped"
    dag_run.run("in")
    assert dag_run.states["in"] == "skipped"


@pytest.mark.parametrize(
    ("run_id", "run_type", "place"),
    [
        ("scheduled__2026-03-01T06:00:00.000001+00:00__in", "scheduled", 1),
        ("backfill__2026-03-01T06:00:00.000001+00:00", "backfill", 1),
    ],
)
def test_a_fired_run_starts_at_its_start_point_and_skips_the_start_step(run_id, run_type, place):
    steps = {
        "other": point(SIX),
        "in": point(SIX, to="last", payloadTemplate={"n": 7}),
        "last": compose({"n": "$.n"}),
    }
    dag_run = FakeDagRun(written({}, steps), run_id=run_id, run_type=run_type, logical_date=at(1, 6, place))
    dag_run.run("work")
    dag_run.run("in")
    assert dag_run.run("last")["n"] == 7
    assert dag_run.states == {"work": "skipped", "in": "success", "last": "success"}


BAD = [
    (point("cron(0 6 31 2 ? *)"), "$.steps.p.scheduleExpression", "no month and year"),
    (point("rate(1 hours)"), "$.steps.p.scheduleExpression", "does not match 1"),
    (point("@daily"), "$.steps.p.scheduleExpression", "not a schedule"),
    (point("rate({{flow_variables.none}} hours)"), "$.steps.p.scheduleExpression", "rate("),
    (point("{{flow_variables.preset}}"), "$.steps.p.scheduleExpression", "not an AWS schedule"),
    (point(SIX, timezone="Europe/Berlni"), "$.steps.p.timezone", "not a known time zone"),
]


@pytest.mark.parametrize(("step", "path", "message"), BAD)
def test_an_invalid_start_point_creates_no_dag_and_is_reported_with_its_location(
    tmp_path, step, path, message
):
    bad = written({"p": step}, flowVariables={"preset": "@daily"})
    (tmp_path / "bad.json").write_text(json.dumps(bad, indent=1))
    problems = []
    assert list(load_flows(tmp_path, on_problem=problems.append)) == []
    (problem,) = [one for one in problems if one.is_error]
    assert problem.path == path
    assert message in problem.message


def test_a_flow_has_either_start_points_or_a_schedule(tmp_path):
    both = written({"p": point(SIX), "q": point(SIX, enabled=False)}, airflow={"schedule": "@daily"})
    path = tmp_path / "both.json"
    path.write_text(json.dumps(both))
    done = subprocess.run(
        [sys.executable, "-m", "airflow_allma", "validate", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        "$.airflow.schedule: a Dag has one schedule, and the flow's start points define it (`p`)"
        in done.stdout
    )
    with pytest.raises(FlowError, match="one schedule"):
        build_dag(Flow.model_validate(both))


def test_start_points_that_are_not_enabled_do_not_affect_the_schedule():
    dag = dag_of({"p": point(SIX, enabled=False)}, airflow={"schedule": "rate(1 hour)"})
    assert dag.timetable.summary == "rate(1 hour)"


def test_a_loaders_default_schedule_does_not_apply_to_flows_with_start_points(tmp_path):
    (tmp_path / "f.json").write_text(json.dumps(written({"p": point(SIX)})))
    dags = load_flows(tmp_path, defaults={"schedule": "@daily"})
    assert dags["points"].timetable.summary == SIX
