"""A Dag that Airflow or its database would refuse is a problem of its flow; other flows have their Dags."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from airflow_allma.dag_factory import load_flows, report_problems
from airflow_allma.exceptions import FlowError
from airflow_allma.flow.airflow_limits import INT_MAX
from tests.airflow.flows import branch, compose, flow, fork
from tests.support.flow_files import write

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("nothing_remembered")]


def put(folder, *flows):
    for one in flows:
        write(folder, f"{one['id']}.json", json.dumps(one, indent=1))


def loaded(folder, **options):
    problems = []
    dags = load_flows(folder, on_problem=problems.append, **options)
    return set(dags), [str(problem) for problem in problems if problem.is_error]


def setting(name, value):
    def on_dag(dag, flow):
        if flow.id == "bad":
            setattr(dag, name, value)

    return on_dag


def on_tasks(name, value):
    def on_dag(dag, flow):
        for task in dag.tasks if flow.id == "bad" else ():
            setattr(task, name, value)

    return on_dag


REFUSED = {
    "a description with U+0000": (setting("description", "a\x00"), "dag.description of the serialized Dag"),
    "a description with half a character": (setting("description", "a\ud800"), "(U+D800)"),
    "documentation with U+0000": (
        setting("doc_md", "a\x00"),
        "dag.doc_md of the serialized Dag contains U+0000",
    ),
    "a name that is too long": (
        setting("dag_display_name", "x" * 2001),
        "dag_display_name can have at most 2000 characters; this one has 2001",
    ),
    "a tag that is too long": (setting("tags", {"x" * 101}), "100 characters"),
    "too many runs": (setting("max_active_runs", 2**40), f"max_active_runs must be {INT_MAX} or less"),
    "more than 64 bits": (setting("max_active_runs", 2**70), "max_active_runs must be"),
    "what is not JSON": (setting("doc_md", object()), "Airflow cannot accept this flow"),
    "a pool that is too long": (on_tasks("pool", "x" * 257), "pool can have at most 256 characters"),
    "a queue that is too long": (on_tasks("queue", "x" * 257), "queue can have at most 256 characters"),
    "an owner that is too long": (on_tasks("owner", "x" * 501), "owner can have at most 500 characters"),
    "a pool with U+0000": (on_tasks("pool", "\x00"), "contains U+0000"),
    "too many retries": (on_tasks("retries", 2**31), "retries must be"),
    "weights whose sum is too high": (on_tasks("priority_weight", INT_MAX), "the sum of priority_weight"),
    "an owner that is not a string": (on_tasks("owner", 7), "Airflow cannot accept this flow"),
}


@pytest.mark.parametrize(("on_dag", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_loader_sets_is_checked_before_airflow_gets_it(tmp_path, on_dag, message):
    steps = {"a": compose(to="b"), "b": compose()}
    put(tmp_path, flow("good", steps), flow("bad", steps))
    dags, problems = loaded(tmp_path, on_dag=on_dag)
    assert dags == {"good"}
    (problem,) = problems
    assert message in problem
    assert f"{tmp_path}/bad.json:1:1: error: $: Airflow cannot accept this flow: " in problem
    with pytest.raises(FlowError) as raised:
        report_problems(tmp_path, on_dag=on_dag)
    assert str(raised.value).encode()
    assert "\x00" not in str(raised.value)


def test_a_schedule_whose_description_is_too_long_is_a_problem(tmp_path):
    schedule = f"0 0 * * {','.join(['3'] * 110)}"
    put(
        tmp_path,
        flow("good", {"a": compose()}, airflow={"schedule": "0 0 * * 1-5"}),
        flow("bad", {"a": compose()}, airflow={"schedule": schedule}),
    )
    dags, problems = loaded(tmp_path)
    assert dags == {"good"}
    assert "Airflow describes this schedule with" in problems[0]


def test_a_long_aws_schedule_is_described_in_short():
    from airflow_allma.timetables.aws_timetables import AwsCronTimetable

    timetable = AwsCronTimetable("cron(0/2 0/2 1/2 1/2 ? 1970/2)")
    assert len(timetable.description) == 1000
    assert timetable.summary == "cron(0/2 0/2 1/2 1/2 ? 1970/2)"


def test_values_at_the_limits_become_dags_that_airflow_serializes(tmp_path):
    from airflow.serialization.serialized_objects import DagSerialization

    steps = {
        "a": compose(to="f", displayName="d" * 1901),
        "f": fork(
            branch("b"),
            displayName="\x1b[2J" * 2000,
            maxConcurrency=INT_MAX,
            airflow={"priorityWeight": 2**70, "pool": "p" * 256},
        ),
        "b": compose(),
    }
    bounded = flow(
        "bounded",
        steps,
        name="n" * 3000,
        description="d\x00" * 20_000,
        tags=["t\x00" * 200],
        airflow={
            "owner": "o" * 500,
            "pool": "p" * 256,
            "queue": "q" * 256,
            "priorityWeight": -(2**40),
            "maxActiveRuns": INT_MAX,
            "executionTimeoutSeconds": 3_153_600_000,
            "runTimeoutSeconds": 3_153_600_000,
            "lostTaskRetries": 1000,
            "startDate": "2037-12-31",
            "schedule": "@daily",
            "inputSchema": {"properties": {"a": {"default": 2**63 - 1, "title": "t" * 60_000}}},
        },
    )
    put(tmp_path, bounded)
    dags = load_flows(tmp_path)
    dag = dags["bounded"]
    assert len(dag.dag_display_name) == 2000
    assert dag.description.isprintable()
    assert dag.dagrun_timeout == timedelta(days=36_500)
    assert {task.priority_weight for task in dag.tasks} == {-100_000, 100_000}
    assert all(task.task_display_name.isprintable() for task in dag.tasks)
    assert max(len(task.task_display_name) for task in dag.tasks) <= 2000
    read = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert read.dag_id == "bounded"


def test_the_longest_id_of_a_fork_has_an_alias_of_its_own():
    from airflow_allma.operators.assets import aggregate_alias

    one, other = (aggregate_alias("d" * 200, "\U0001f600" * 199 + end).name for end in "ab")
    assert len(one) == len(other) == 1500
    assert one != other
    assert aggregate_alias("d", "f a").name == "allma/d/f%20a"


def test_a_pointer_whose_uri_is_too_long_for_an_asset_has_none(tmp_path):
    variables = {"items": {"bucket": "b", "key": "\U0001f600" * 200}}
    steps = {"f": fork(branch("b"), items="$.flow_variables.items"), "b": compose()}
    put(tmp_path, flow("long", steps, flowVariables=variables))
    (items,) = (task for task in load_flows(tmp_path)["long"].tasks if task.task_id == "f.items")
    assert items.inlets == []


def test_a_pointer_that_is_not_valid_does_not_keep_its_flow_from_loading(tmp_path):
    steps = {"f": fork(branch("b"), items="$.flow_variables.items"), "b": compose()}
    put(tmp_path, flow("bad-pointer", steps, flowVariables={"items": {"bucket": "b", "key": "k" * 5000}}))
    assert loaded(tmp_path) == ({"bad-pointer"}, [])


def test_many_inputs_do_not_make_a_form_without_end(tmp_path):
    mappings = {f"a{number}": f"$.initialContextData.{'k' * 300}{number}" for number in range(3)}
    mappings |= {f"b{number}": f"$.initialContextData.k{number}" for number in range(1000)}
    put(tmp_path, flow("many", {"a": compose(mappings)}))
    params = load_flows(tmp_path)["many"].params
    assert len(params) == 100
    assert max(map(len, params)) < 10


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"maxActiveRuns": 2**40}, "$.maxActiveRuns: must be 2147483647 or less"),
        ({"pool": "a\x00"}, "$.pool: must not contain control characters (here U+0000)"),
        ({"startDate": "9999-12-31"}, "$.startDate: must be from 1970-01-02"),
        ({"timezone": "Nowhere"}, "$.timezone: `Nowhere` is not a known time zone"),
        (
            {"inputSchema": {"properties": {"a": {"default": 2**64}}}},
            "default: 18446744073709551616 has more",
        ),
    ],
)
def test_the_defaults_of_a_loader_have_the_same_limits(tmp_path, defaults, message):
    with pytest.raises(FlowError) as raised:
        load_flows(tmp_path, defaults=defaults)
    assert message in str(raised.value)


def test_an_import_error_is_not_longer_than_its_column(tmp_path):
    for number in range(60):
        put(
            tmp_path,
            flow(f"f{number}", {"s": compose(to="ü" * 3000)}, airflow={"x" * 3000: {}, "y": "z" * 3000}),
        )
    with pytest.raises(FlowError) as raised:
        report_problems(tmp_path)
    shown = str(raised.value)
    assert len(shown.encode()) < 60_000
    assert "60 flow files have errors" in shown
    assert "more: see `allma_problem` in the Dag processor's log." in shown
