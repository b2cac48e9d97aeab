"""Steps, paths and loops of flows as Dags, run in this process with dag.test()."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from tests.airflow.flows import branch, compose, failing, flow, fork, route

pytestmark = pytest.mark.airflow


def test_a_step_returns_its_output_and_the_next_one_sees_it(run):
    ended = run(
        {"a": compose({"x": "$.initialContextData.n"}, to="b"), "b": compose({"y": "$.steps_output.a.x"})},
        {"n": 7},
    )
    assert ended.state == "success"
    assert ended.xcom("a") == {"x": 7}
    assert ended.xcom("b") == {"y": 7}


def test_only_the_selected_path_runs_and_the_paths_join_again(run):
    steps = {
        "a": route(("$.n > 5", "big"), to="small"),
        "big": compose({"took": "$.n"}, to="end"),
        "small": compose({"took": "$.n"}, to="end"),
        "end": compose({"big": "$.steps_output.big.took", "small": "$.steps_output.small.took"}),
    }
    ended = run(steps, {"n": 7})
    assert ended.task("small").state == "skipped"
    assert ended.xcom("end") == {"big": 7}


def test_a_path_that_is_not_taken_is_skipped_to_its_end(run):
    steps = {
        "a": route(("$.n > 5", "b")),
        "b": compose(to="c"),
        "c": fork(branch("w"), to="d"),
        "w": compose(),
        "d": compose(),
    }
    ended = run(steps, {"n": 1})
    assert ended.state == "success"
    assert {task.state for task in ended.tasks if task.task_id != "a"} == {"skipped"}


def test_a_loop_runs_in_one_task_until_it_is_left(run):
    steps = {
        "a": compose({"n": "$.initialContextData.n"}, to="b", outputMappings={"$.list": "$.n"}),
        "b": route(("$.list.length < 3", "c"), to="d"),
        "c": {
            **compose({"list": "$.list"}, to="b"),
            "moduleIdentifier": "system/compose-object-from-input",
            "literals": {"list": [1, 2, 3]},
            "outputMappings": {"$.list": "$.list"},
        },
        "d": compose({"n": "$.list.length"}),
    }
    ended = run(steps, {"n": [1]})
    assert {task.task_id for task in ended.tasks} == {"a", "b", "d"}
    assert ended.xcom("d") == {"n": 3}


def test_a_failed_step_continues_at_its_fallback(run):
    steps = {
        "a": failing(to="b", onError={"fallbackStepInstanceId": "rescue"}),
        "b": compose(),
        "rescue": compose({"ok": "$.initialContextData.n"}),
    }
    ended = run(steps, {"n": 1})
    assert (ended.state, ended.task("a").state, ended.task("b").state) == ("success", "success", "skipped")
    assert ended.xcom("rescue") == {"ok": 1}


def test_a_failed_step_can_continue_with_the_error_as_its_output(run):
    ended = run(
        {
            "a": failing(to="b", onError={"continueOnFailure": True}),
            "b": compose({"e": "$.steps_output.a.errorName"}),
        }
    )
    assert ended.state == "success"
    assert ended.xcom("b") == {"e": "PermanentStepError"}


def test_a_failed_step_fails_the_run_and_leaves_its_error(run):
    ended = run({"a": failing(to="b"), "b": compose()})
    assert (ended.state, ended.task("a").state, ended.task("b").state) == (
        "failed",
        "failed",
        "upstream_failed",
    )
    assert ended.xcom("a", key="allma_error")["errorName"] == "PermanentStepError"


def test_data_that_airflow_would_misread_arrives_unchanged(run):
    odd = {"__classname__": "x", "__type": "y", "t": "{{ 1 + 1 }}", "big": 2**70}
    ended = run(
        {
            "a": compose({"x": "$.initialContextData.odd"}, to="f"),
            "f": fork(branch("w"), items="$.steps_output.a.x"),
            "w": compose({"i": "$.currentItem"}),
        },
        {"odd": odd},
    )
    assert ended.state == "success"
    # pushed as a JSON string, which the database shows as its value
    assert ended.xcom("f.aggregate") == {"aggregatedData": [{"i": odd}]}


def test_retries_of_a_step_are_retries_of_its_task(run):
    steps = {"a": failing(onError={"retries": {"count": 2, "intervalSeconds": 1}})}
    # a PermanentStepError is never retried
    assert run(steps).task("a").try_number == 1


def test_a_retryable_error_is_retried_by_airflow_with_the_flows_own_delay(run):
    steps = {
        "a": compose(
            outputValidation={"requiredFields": ["$.missing"]},
            onError={
                "retries": {"count": 2, "intervalSeconds": 1, "backoffRate": 1},
                "fallbackStepInstanceId": "b",
            },
        ),
        "b": compose({"n": "$.initialContextData.n"}),
    }
    ended = run(steps, {"n": 1})
    assert ended.state == "success"
    assert ended.task("a").try_number == 3
    assert ended.xcom("b") == {"n": 1}


def test_errors_that_error_equals_does_not_name_are_not_retried(run):
    steps = {
        "a": compose(
            outputValidation={"requiredFields": ["$.missing"]},
            onError={"retries": {"count": 2, "intervalSeconds": 1, "errorEquals": ["TransientStepError"]}},
        )
    }
    ended = run(steps)
    assert (ended.state, ended.task("a").try_number) == ("failed", 1)


@pytest.mark.parametrize(
    "options",
    [{}, {"branchGranularity": "branch"}, {"maxInMemoryItems": 1}],
    ids=["steps", "branch", "chunk"],
)
def test_airflows_default_retries_do_not_repeat_a_step_that_fails_by_its_own_error(run_dag, options):
    steps = {"f": fork(branch("w"), onError={"continueOnFailure": True}, to="last"), "w": failing()}
    dag = build_dag(Flow.model_validate(flow("no-retries", {**steps, "last": failing()}, airflow=options)))
    for task in dag.tasks:
        task.retries = 2
        task.retry_delay = timedelta(0)
    ended = run_dag(dag, {"items": [1, 2]})
    failed = [task for task in ended.tasks if task.state == "failed"]
    assert {task.task_id for task in failed} > {"last"}
    assert max(task.try_number for task in ended.tasks) == 1
