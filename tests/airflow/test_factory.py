"""The Airflow options of a flow and the Dag that is built from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import TriggerRule
from airflow.serialization.serialized_objects import DagSerialization

from airflow_allma.dag_factory import build_dag
from airflow_allma.dag_factory.plan.payload_params import inferred_inputs
from airflow_allma.dag_factory.plan.segments import plan_tasks
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import Flow, Retries
from airflow_allma.operators.retry_policy import FlowRetryPolicy, StepRetryError
from tests.airflow.flows import branch, compose, flow, fork, route

pytestmark = pytest.mark.airflow

RICH = flow(
    "rich-flow",
    {
        "a": route(("$.x", "f"), to="z", displayName="Choose"),
        "f": fork(branch("w"), branch("v", "c"), to="z", maxConcurrency=4, displayName="Fan out"),
        "w": compose({"id": "$.currentItem.id", "r": "$.initialContextData.region"}, to="v"),
        "v": compose(onError={"retries": {"count": 3, "intervalSeconds": 7, "backoffRate": 3}}),
        "z": compose({"n": "$.initialContextData.count"}),
    },
    name="Rich flow",
    description="It has a bit of everything.",
    tags=["one", "two"],
    airflow={
        "tags": ["three"],
        "owner": "data-team",
        "pool": "shop",
        "queue": "fast",
        "priorityWeight": 5,
        "maxActiveRuns": 2,
        "executionTimeoutSeconds": 90,
        "startDate": "2026-02-03",
        "timezone": "Europe/Berlin",
    },
)


@pytest.fixture
def dag():
    return build_dag(Flow.model_validate(RICH))


def test_a_dag_has_the_flows_name_description_tags_and_documentation(dag):
    assert (dag.dag_id, dag.dag_display_name) == ("rich-flow", "Rich flow")
    assert dag.description == "It has a bit of everything."
    assert dag.tags == {"allma", "one", "two", "three"}
    assert "It has a bit of everything." in dag.doc_md
    picture = "allma/api/dags/rich-flow/picture.svg"
    assert f"[![Picture of the flow]({picture})]({picture})\n" in dag.doc_md
    written = dag.doc_md.split("```json\n")[1].split("\n```")[0]
    assert json.loads(written)["steps"]["z"]["inputMappings"] == RICH["steps"]["z"]["inputMappings"]


def test_the_airflow_object_reaches_every_task(dag):
    assert dag.max_active_runs == 2
    assert dag.start_date.astimezone(UTC) == datetime(2026, 2, 2, 23, tzinfo=UTC)
    for task in dag.tasks:
        assert (task.owner, task.pool, task.queue, task.priority_weight) == ("data-team", "shop", "fast", 5)
        assert task.execution_timeout == timedelta(seconds=90)


def test_a_flow_without_airflow_options_gets_a_manual_dag_with_a_fixed_start_date():
    dag = build_dag(Flow.model_validate(flow("plain", {"a": compose()})))
    assert type(dag.timetable).__name__ == "NullTimetable"
    assert dag.catchup is False
    assert dag.start_date == datetime(2020, 1, 1, tzinfo=UTC)
    assert dag.get_task("a").owner == "allma"


def test_tasks_are_named_by_step_id_and_shown_by_display_name(dag):
    assert dag.get_task("a").task_display_name == "Choose"
    assert dag.get_task("z").task_display_name == "z"
    assert dag.task_group.children["f"].label == "Fan out"
    assert '"moduleIdentifier"' in dag.get_task("z").doc_md


def test_the_dags_tasks_and_edges_are_those_of_the_plan(dag):
    plan = plan_tasks(Flow.model_validate(RICH))
    assert {task.task_id: set(task.upstream_task_ids) for task in dag.tasks} == {
        node.task_id: set(node.upstream) for node in plan.tasks
    }


def test_only_trigger_rules_that_work_in_mapped_groups_are_used(dag):
    rules = {task.task_id: task.trigger_rule for task in dag.tasks}
    assert rules.pop("f.aggregate") is TriggerRule.ALL_DONE
    assert rules.pop("z") is TriggerRule.NONE_FAILED
    assert set(rules.values()) == {TriggerRule.ALL_SUCCESS}


def test_a_concurrency_limit_bounds_the_mapped_instances_of_each_branch(dag):
    assert dag.get_task("f.b.w").max_active_tis_per_dagrun == 2
    assert dag.get_task("f.c.v").max_active_tis_per_dagrun == 2
    assert dag.get_task("f.chunk").max_active_tis_per_dagrun == 1


def test_retries_of_a_step_are_retries_of_its_task_with_the_flows_own_delays(dag):
    task = dag.get_task("f.c.v")
    # Two more are for lost processes.
    assert task.retries == 5
    assert dag.get_task("f.b.w").retries == 2  # a whole branch retries its steps itself

    waits = [
        task.retry_policy.evaluate(StepRetryError("no", failures=number), number + 1, 5).retry_delay
        for number in (0, 1, 2)
    ]
    assert [wait.total_seconds() for wait in waits] == [7, 21, 63]
    assert task.retry_policy.evaluate(TimeoutError(), 1, 5).retry_delay == timedelta(seconds=7)


def test_lost_tasks_wait_longer_before_each_try(dag):
    # Two tries in a row right after one another would both fall into one outage of the API server.
    for name in ("f.items", "f.b.w", "f.c.v", "f.chunk", "f.aggregate"):
        task = dag.get_task(name)
        assert task.retry_delay.total_seconds() * task.retry_exponential_backoff >= 20
        assert task.max_retry_delay == timedelta(minutes=1)


def test_delays_are_capped():
    policy = FlowRetryPolicy(Retries(count=5, interval_seconds=300, backoff_rate=5))
    assert policy.delay(4) == timedelta(hours=1)


def test_the_trigger_form_asks_for_the_inputs_that_the_flow_reads(dag):
    assert inferred_inputs(Flow.model_validate(RICH)) == ("count", "items", "region")
    form = {name: dag.params.get_param(name) for name in dag.params}
    assert set(form) == {"count", "items", "region"}
    assert form["count"].schema["type"][0] == "object"
    for value in (None, {"a": 1}, [1], "text", 2.5, True):
        assert form["count"].resolve(value) == value


def test_an_invalid_start_date_is_refused_with_its_flow():
    with pytest.raises(FlowError, match=r"Flow bad: airflow\.startDate 'soon'"):
        build_dag(Flow.model_validate(flow("bad", {"a": compose()}, airflow={"startDate": "soon"})))


def test_equal_flows_give_byte_equal_dags_in_every_process(tmp_path):
    file = tmp_path / "f.json"
    file.write_text(json.dumps(RICH))
    program = (
        "import json,sys;from airflow_allma.dag_factory import build_dag;from airflow_allma.flow import Flow;"
        "from airflow.serialization.serialized_objects import DagSerialization as D;"
        "f=Flow.model_validate(json.load(open(sys.argv[1])));"
        "print(json.dumps(D.to_dict(build_dag(f))))"
    )
    serialized = [
        subprocess.run(
            [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.splitlines()[-1]
        for seed in ("1", "2")
    ]  # fmt: skip
    # Airflow hashes a Dag with sorted keys
    first, second = (json.dumps(json.loads(text), sort_keys=True) for text in serialized)
    assert first == second
    assert "0x" not in first


def test_a_serialized_dag_can_be_read_back(dag):
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert set(read.task_dict) == set(dag.task_dict)


def test_a_long_flow_is_cut_in_the_documentation():
    steps = {f"s{n}": compose({f"k{m}": "$.x" for m in range(200)}) for n in range(60)}
    dag = build_dag(
        Flow.model_validate(flow("long", {"a": route(*[("$.x", name) for name in steps]), **steps}))
    )
    assert len(dag.doc_md) < 70_000
    assert "the first 65536 of" in dag.doc_md


@pytest.mark.parametrize(
    ("options", "of_airflow", "of_fork", "retries"),
    [({}, 0, 0, 2), ({}, 3, 0, 3), ({}, 0, 4, 4), ({"lostTaskRetries": 0}, 3, 0, 0)],
)
def test_a_forks_own_tasks_are_retried_when_their_process_is_lost(
    monkeypatch, options, of_airflow, of_fork, retries
):
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TASK_RETRIES", str(of_airflow))
    on_error = {"retries": {"count": of_fork}} if of_fork else {}
    steps = {"f": fork(branch("w"), to="z", onError=on_error), "w": compose(), "z": compose()}
    made = build_dag(Flow.model_validate(flow("lost", steps, airflow=options)))
    found = {task.task_id: task.retries for task in made.tasks}
    assert {found[f"f.{name}"] for name in ("items", "chunks", "chunk", "aggregate")} == {retries}


def test_a_forks_own_pool_queue_and_priority_apply_to_its_mapped_tasks_only():
    own = {"airflow": {"pool": "narrow", "queue": "slow", "priorityWeight": 9}}
    steps = {
        "a": compose(to="f"),
        "f": {**fork(branch("w"), to="g"), **own},
        "g": fork(branch("v"), to="z"),
        "w": compose(to="x"),
        "x": compose(),
        "v": compose(),
        "z": compose(),
    }
    whole = flow("pools", steps, airflow={"pool": "wide", "queue": "fast", "priorityWeight": 5})
    data = json.loads(json.dumps(DagSerialization.to_dict(build_dag(Flow.model_validate(whole)))))
    dag = DagSerialization.from_dict(data)
    task_ids = {}
    for task in dag.tasks:
        task_ids.setdefault((task.pool, task.queue, task.priority_weight), set()).add(task.task_id)
    mapped = {"f.b.w", "f.b.x", "f.chunk"}
    assert task_ids == {
        ("narrow", "slow", 9): mapped,
        ("wide", "fast", 5): set(dag.task_ids) - mapped,
    }
