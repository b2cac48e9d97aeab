"""Forks inside of forks, and forks that contain themselves: depth and number of branch runs are bounded."""

from __future__ import annotations

import json

import pytest

from airflow_allma.engine import EngineSettings, compile_flow
from airflow_allma.engine.fork_load import ForkLoad
from tests.support.engine import fork, noop, run

TREE = {
    "fan": fork(
        "fan",
        "$.node.children",
        parallelBranches=[
            {"branchId": "b", "stepInstanceId": "fan", "inputMappings": {"node": "$.currentItem"}}
        ],
    ),
}


def tree(depth, width=1):
    return {"children": [tree(depth - 1, width) for _ in range(width)] if depth else []}


def levels(count):
    forks = {f"f{level}": fork(f"f{level + 1}", "$.d") for level in range(count)}
    return {**forks, f"f{count}": noop()}


def innermost(error):
    while inner := error["errorDetails"].get("branchErrors"):
        error = inner[0]["error"]
    return error


def test_a_fork_may_walk_down_a_tree():
    ran = run(TREE, {"node": tree(5, 2)})
    assert ran.status == "COMPLETED"


def test_a_fork_that_is_nested_too_deep_names_the_setting_and_the_step():
    ran = run(TREE, {"node": tree(12)})
    assert ran.status == "FAILED"
    error = innermost(ran.error)
    assert error["errorMessage"].startswith(
        "Step fan: 10 forks are around this one, and [allma] max_fork_depth"
    )
    assert error["errorDetails"]["maxForkDepth"] == 10


@pytest.mark.parametrize("limit", [0, 13])
def test_the_depth_can_be_set(limit):
    assert run(TREE, {"node": tree(12)}, settings=EngineSettings(max_fork_depth=limit)).status == "COMPLETED"


def test_a_fork_that_always_contains_itself_ends_even_if_it_was_not_checked():
    document = {
        "id": "x",
        "startStepInstanceId": "f",
        "steps": {"f": fork("f", "$.d")},
    }
    ran = run(compile_flow(_unchecked(document)), {"d": [0, 0]})
    assert innermost(ran.error)["errorDetails"]["maxForkDepth"] == 10


def _unchecked(document):
    from airflow_allma.flow import Flow

    return Flow.model_validate(document, by_alias=True, by_name=False)


def test_branch_runs_of_nested_forks_have_a_limit():
    ran = run(levels(5), {"d": [0] * 10}, settings=EngineSettings(max_nested_branch_runs=1))
    assert ran.status == "FAILED"
    message = innermost(ran.error)["errorMessage"]
    assert "[allma] max_nested_branch_runs is 1" in message
    assert "need more than 10001 branch runs" in message


def test_a_fork_over_many_items_with_small_forks_inside_is_not_limited():
    items = [{"d": [0, 1]} for _ in range(500)]
    steps = {"fan": fork("inner"), "inner": fork("work", "$.currentItem.d"), "work": noop()}
    ran = run(steps, {"items": items}, settings=EngineSettings(max_nested_branch_runs=1))
    assert ran.status == "COMPLETED"


def test_forks_one_after_the_other_do_not_add_up():
    load = ForkLoad()
    for _ in range(3):
        load.enter("main", 0, 10**9, max_depth=2, max_runs=10)
        load.enter("inner", 1, 10, max_depth=2, max_runs=10)


@pytest.mark.parametrize(
    ("in_flight", "depth", "expected"), [(0, 1, 64), (60, 1, 64), (3600, 2, 1), (10_000, 3, 1), (3600, 0, 64)]
)
def test_nested_forks_have_fewer_workers_the_more_branch_runs_are_in_flight(in_flight, depth, expected):
    assert ForkLoad(in_flight=in_flight).workers(depth, 64) == expected


def test_the_errors_of_nested_forks_do_not_multiply():
    steps = levels(3) | {"f3": noop(outputValidation={"requiredFields": ["$.none"]})}
    ran = run(steps, {"d": [0] * 12})
    errors = ran.error["errorDetails"]["branchErrors"]
    assert len(errors) == 10
    assert [len(one["error"]["errorDetails"]["branchErrors"]) for one in errors] == [1] * 10
    assert len(json.dumps(ran.error)) < 50_000
