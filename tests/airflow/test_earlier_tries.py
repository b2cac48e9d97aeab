"""XComs of an earlier try do not count: Airflow keeps those of tasks that it skips, clears or fails."""

from __future__ import annotations

import pytest

from airflow_allma.operators.routing import incoming_state
from airflow_allma.operators.xcoms import Key, push
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, flow, fork, route

pytestmark = pytest.mark.airflow

OUTPUT = {"n": "of an earlier try"}
TWO_STEPS = {"first": compose(to="second"), "second": compose()}


def desk_with(steps, **options):
    return FakeDagRun(flow("tries", steps, airflow=options), {"items": [1, 2]})


def leave_result(dag_run, task, index, state, **result):
    """Push a branch result as a task of an earlier try did, and set the state that the task has now."""
    saved = {"itemIndex": index, "branchIndex": 0, "branchId": "b", "output": OUTPUT, **result}
    push(dag_run.instance(task, index), Key.RESULT, saved)
    dag_run.states[f"{task}_{index}"] = state


@pytest.mark.parametrize("state", [None, "scheduled", "upstream_failed", "skipped", "removed"])
def test_a_branch_result_counts_only_if_its_task_ran_in_this_try(state):
    dag_run = desk_with({"f": fork(branch("first")), **TWO_STEPS})
    dag_run.plan("f")
    leave_result(dag_run, "f.b.second", 0, "success")
    leave_result(dag_run, "f.b.second", 1, state)
    ended = str(dag_run.run("f.aggregate"))
    assert "BranchResultLost" in ended or "1 of 2 branch runs failed" in ended
    assert "Item 1, branch b" in ended


def test_a_first_task_that_skips_its_item_in_this_try_has_pushed_that_result():
    dag_run = desk_with({"f": fork(branch("first")), **TWO_STEPS})
    dag_run.plan("f")
    leave_result(dag_run, "f.b.second", 0, "success")
    leave_result(dag_run, "f.b.first", 1, "skipped", status="skipped", output=None)
    assert dag_run.run("f.aggregate") == {"aggregatedData": [OUTPUT]}


@pytest.mark.parametrize("state", [None, "scheduled", "upstream_failed", "skipped"])
def test_the_results_of_a_chunk_count_only_if_its_task_ran_in_this_try(state):
    dag_run = desk_with({"f": fork(branch("w")), "w": compose()}, maxInMemoryItems=1)
    chunks = dag_run.plan("f")
    for chunk in chunks:
        dag_run.run("f.chunk", chunk["number"], chunk)
    assert dag_run.run("f.aggregate") == {"aggregatedData": [{}, {}]}
    dag_run.states["f.chunk_1"] = state
    assert "Item 1, branch b: task f.chunk[1]" in str(dag_run.run("f.aggregate"))


def test_a_join_ignores_the_state_that_a_skipped_task_pushed_in_an_earlier_try():
    steps = {
        "start": route(("$.initialContextData.left == true", "left"), to="right"),
        "left": compose(to="join"),
        "right": compose(to="join"),
        "join": compose(),
    }
    dag_run = FakeDagRun(flow("joins", steps), {"left": True})
    dag_run.run("start")
    dag_run.run("left")
    # The run is cleared and takes the other path: Airflow skips `left` without a process of its own.
    dag_run.payload = {}
    dag_run.run("start")
    dag_run.states["left"] = "skipped"
    dag_run.run("right")
    saved = incoming_state(dag_run.task_context("join"), ["left", "right"], ["join"])
    assert saved is not None
    assert saved["path"] == ["start", "right"]
