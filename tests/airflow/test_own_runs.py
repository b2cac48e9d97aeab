"""Flows that run in runs of their own, for whose end a deferred task waits."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_allma.compat import EndedTask
from airflow_allma.dag_factory import build_dag
from airflow_allma.engine.flow_runs import StartedRun
from airflow_allma.flow import Flow
from airflow_allma.operators.airflow_runs import AirflowRuns
from tests.airflow.flows import branch, compose, failing, flow, fork
from tests.support.existing_runs import instead_of_triggers, run_existing, runs_of, set_dag, set_run_state

pytestmark = pytest.mark.airflow

_numbers = itertools.count()


@pytest.fixture
def child(deploy_child):
    """The Dag of a flow that copies ``n`` to ``out``."""
    return deploy_child({"c": compose({"n": "$.n"}, outputMappings={"$.out": "$.n"})})


def sub_flow(flow_id: str, to: str | None = None, **fields: Any) -> dict[str, Any]:
    step = {
        "stepType": "START_SUB_FLOW",
        "subFlowDefinitionId": flow_id,
        "airflow": {"ownRun": True},
        **fields,
    }
    return {**step, "defaultNextStepInstanceId": to} if to else step


def sync_start(flow_id: str, **fields: Any) -> dict[str, Any]:
    step = {"stepType": "START_FLOW_EXECUTION", "moduleIdentifier": "system/start-flow-execution"}
    return {
        **step,
        "flowDefinitionId": flow_id,
        "customConfig": {"sync": True},
        "airflow": {"ownRun": True},
        **fields,
    }


@pytest.fixture
def run_with(run_dag):
    """Return a function that runs a flow, and the runs of the child that it waits for."""

    def run_with(child: Any, steps: dict[str, Any], payload: Any = None, end: Any = None, **more: Any) -> Any:
        parent = build_dag(Flow.model_validate(flow(f"parent-{next(_numbers)}", steps, **more)))
        with instead_of_triggers(end or (lambda trigger: run_existing(child, trigger.run_id))) as seen:
            ended = run_dag(parent, payload)
        return parent, ended, seen

    return run_with


@pytest.mark.parametrize("step", [sub_flow, sync_start])
def test_the_step_returns_the_final_context_of_the_run(child, run_with, step):
    steps = {
        "s": step(child.dag_id, inputMappings={"n": "$.n"}),
        "end": compose({"got": "$.steps_output.s.out"}),
    }
    steps["s"]["defaultNextStepInstanceId"] = "end"
    _, ended, seen = run_with(child, steps, {"n": 7})
    assert (ended.state, ended.xcom("end")) == ("success", {"got": 7})
    ((run_id, conf),) = runs_of(child.dag_id).items()
    assert [(one.dag_id, one.run_id) for one in seen] == [(child.dag_id, run_id)]
    assert (conf["n"], conf["_allma_start"]["kind"]) == (7, "SYNC_SUBFLOW")


def test_each_item_of_a_branch_has_a_run(child, run_with):
    by_step = {
        "f": fork(branch("b"), items="$.items"),
        "b": sub_flow(child.dag_id, inputMappings={"n": "$.currentItem"}),
    }
    _, ended, seen = run_with(child, by_step, {"items": [1, 2]})
    assert (ended.state, len(seen), len(runs_of(child.dag_id))) == ("success", 2, 2)
    assert [one["out"] for one in ended.xcom("f.aggregate")["aggregatedData"]] == [1, 2]


def test_the_result_of_a_run_of_many_steps_is_found():
    class Pushed:
        def xcom_pull(self, *, task_ids, **_arguments):
            last = task_ids == "s149"
            return json.dumps({"nextStep": None if last else "more", "context": {"by": task_ids}})

    current: Any = SimpleNamespace(ti=Pushed())
    tasks = [EndedTask(f"s{n:03}", -1, "success") for n in range(150)]
    found = AirflowRuns(current)._context(StartedRun("id", "dag", "run"), tasks)
    assert found == {"by": "s149"}


def test_the_error_of_the_run_is_the_steps(deploy_child, run_with):
    child = deploy_child({"c": failing(onError={"continueOnFailure": True})})
    bad = build_dag(Flow.model_validate(flow(child.dag_id, {"c": failing()})))
    steps = {"s": sub_flow(child.dag_id, onError={"continueOnFailure": True})}
    _, ended, _ = run_with(child, steps, end=lambda trigger: run_existing(bad, trigger.run_id))
    error = ended.xcom("s")
    assert error["errorName"] == "PermanentStepError"
    where = error["errorDetails"]["subFlow"]
    (run_id,) = runs_of(child.dag_id)
    assert (where["dagId"], where["runId"], where["failedStepInstanceId"]) == (child.dag_id, run_id, "c")
    assert error["errorDetails"]["failedStepInstanceId"] == "s"


LOST = {
    "a task whose process was lost": ("failed", {"c": "failed"}, "Task c failed without an error of a step"),
    "a run that was marked as failed": ("failed", {}, "None of its tasks has failed"),
}


@pytest.mark.parametrize("name", LOST)
def test_a_run_that_fails_without_an_error_is_an_error(child, run_with, name):
    state, tasks, message = LOST[name]
    steps = {"s": sub_flow(child.dag_id, onError={"continueOnFailure": True})}
    _, ended, _ = run_with(
        child, steps, end=lambda trigger: set_run_state(child.dag_id, trigger.run_id, state, tasks)
    )
    error = ended.xcom("s")
    assert (error["errorName"], message in error["errorMessage"]) == ("RunFailed", True), error


def test_a_run_that_is_marked_as_success_has_an_empty_result(child, run_with, caplog):
    _, ended, _ = run_with(
        child,
        {"s": sub_flow(child.dag_id)},
        end=lambda trigger: set_run_state(child.dag_id, trigger.run_id, "success"),
    )
    assert (ended.state, ended.xcom("s")) == ("success", {})
    assert "counts as one with an empty result" in caplog.text


def test_a_cleared_parent_takes_a_good_result_again(child, run_with):
    parent, ended, _ = run_with(child, {"s": sub_flow(child.dag_id, inputMappings={"n": "$.n"})}, {"n": 7})
    again = run_existing(parent, ended.run_id, clear=True)
    assert (again.state, again.xcom("s")["out"], again.task("s").try_number) == ("success", 7, 2)
    assert len(runs_of(child.dag_id)) == 1


def test_a_cleared_parent_runs_a_failed_run_again(child, run_with):
    bad = build_dag(Flow.model_validate(flow(child.dag_id, {"c": failing()})))
    parent, ended, _ = run_with(
        child,
        {"s": sub_flow(child.dag_id, inputMappings={"n": "$.n"})},
        {"n": 7},
        end=lambda trigger: run_existing(bad, trigger.run_id),
    )
    assert (ended.state, len(runs_of(child.dag_id))) == ("failed", 1)
    with instead_of_triggers(lambda trigger: run_existing(child, trigger.run_id)):
        again = run_existing(parent, ended.run_id, clear=True)
    assert (again.state, again.xcom("s")["out"], len(runs_of(child.dag_id))) == ("success", 7, 1)


def test_a_paused_dag_is_an_error(child, run_with):
    set_dag(child.dag_id, is_paused=True)
    _, ended, _ = run_with(child, {"s": sub_flow(child.dag_id, onError={"continueOnFailure": True})})
    assert "is paused, so its run would never end" in ended.xcom("s")["errorMessage"]
    assert not runs_of(child.dag_id)


def test_a_run_that_is_deleted_is_an_error(child, run_with):
    def delete(trigger: Any) -> None:
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        with create_session() as session:
            session.execute(delete(DagRun).where(DagRun.run_id == trigger.run_id))

    _, ended, _ = run_with(
        child, {"s": sub_flow(child.dag_id, onError={"continueOnFailure": True})}, end=delete
    )
    assert "does not exist any more" in ended.xcom("s")["errorMessage"]


def test_an_id_that_another_run_has_does_not_give_its_result(child, run_with):
    literals = {"flowExecutionId": "3f2504e0-4f89-11d3-9a0c-0305e82c3301"}
    steps = {"s": sync_start(child.dag_id, inputMappings={"n": "$.n"}, literals=literals)}
    _, owner, _ = run_with(child, steps, {"n": 7})
    assert (owner.state, owner.xcom("s")["out"]) == ("success", 7)
    _, other, _ = run_with(child, steps, {"n": 8})
    assert other.state == "failed"
    assert "which another step or run has started" in other.xcom("s", key="allma_error")["errorMessage"]
