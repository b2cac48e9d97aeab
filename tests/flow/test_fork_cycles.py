"""Forks that can never end, and Dags of too many tasks: problems of the flow, before it runs."""

from __future__ import annotations

import json

import pytest

from airflow_allma.dag_factory.plan import plan_dag
from airflow_allma.flow import FlowChecks, load_file
from airflow_allma.flow.task_count import MAX_TASKS
from tests.support.engine import end, fork, noop, then


def problems(tmp_path, steps, **fields):
    file = tmp_path / "f.json"
    file.write_text(
        json.dumps({"id": "x", "startStepInstanceId": next(iter(steps)), "steps": steps, **fields})
    )
    return [problem for problem in load_file(file, FlowChecks()).problems if problem.is_error]


def branch(start, **fields):
    return {"branchId": "b", "stepInstanceId": start, **fields}


ENDLESS = {
    "its own branch": {"f": fork("f", "$.d")},
    "through a step": {"f": fork("a", "$.d"), "a": noop(**then("f"))},
    "through another fork": {"f": fork("g", "$.d"), "g": fork("f", "$.e")},
    "through the steps after another fork": {
        "f": fork("g", "$.d"),
        "g": fork("leaf", "$.e", **then("f")),
        "leaf": noop(),
    },
    "with mappings of other keys": {"f": fork("f", "$.d", parallelBranches=[branch("f", literals={"x": 1})])},
    "over items in a nested key": {"f": fork("f", "$.steps_of.all")},
}
CAN_END = {
    "items of the item": {"f": fork("f", "$.currentItem.children")},
    "a mapping sets the items": {
        "f": fork("f", "$.node.c", parallelBranches=[branch("f", inputMappings={"node": "$.currentItem"})])
    },
    "a literal sets the items": {"f": fork("f", "$.d", parallelBranches=[branch("f", literals={"d": []})])},
    "a condition": {"f": fork("f", "$.d", parallelBranches=[branch("f", condition="$.currentItem.more")])},
    "a transition": {
        "f": fork("a", "$.d"),
        "a": noop(transitions=[{"condition": "$.x", "nextStepInstanceId": "z"}], **then("f")),
        "z": noop(),
    },
    "a step sets the items": {
        "f": fork("a", "$.d"),
        "a": noop(outputMappings={"$.d": "$.less"}, **then("f")),
    },
    "outputs of steps are the items": {"f": fork("a", "$.steps_output.a.x"), "a": noop(**then("f"))},
    "a path that is chosen by data": {"f": fork("f", "$.lists[$.which]")},
    "a fork inside of a fork": {"f": fork("g", "$.d"), "g": fork("z", "$.d"), "z": end()},
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_fork_that_always_contains_itself_is_a_problem_at_its_branch(tmp_path, name):
    (problem,) = problems(tmp_path, ENDLESS[name])
    assert problem.path.endswith(".parallelBranches[0].stepInstanceId")
    assert "never ends" in problem.message


@pytest.mark.parametrize("name", CAN_END)
def test_a_fork_that_can_end_is_not_a_problem(tmp_path, name):
    assert problems(tmp_path, CAN_END[name]) == []


def chain(length):
    return {f"s{n}": noop(**(then(f"s{n + 1}") if n + 1 < length else {})) for n in range(length)}


def fan(branches, length, **fields):
    forked = fork("s0", "$.d", **fields)
    forked["parallelBranches"] = [branch("s0", branchId=f"b{n}") for n in range(branches)]
    return {"f": forked, **chain(length)}


@pytest.mark.parametrize(("branches", "length"), [(1_000, 301), (400, 101), (100, 51), (50, 99)])
def test_branches_that_share_too_many_steps_are_a_problem_at_the_fork(tmp_path, branches, length):
    (problem,) = problems(tmp_path, fan(branches, length))
    assert problem.path == "$.steps.f.parallelBranches"
    assert f"at most {MAX_TASKS} are possible" in problem.message


@pytest.mark.parametrize(
    ("steps", "fields"),
    [
        (fan(90, 50), {}),
        (fan(400, 101), {"airflow": {"branchGranularity": "branch"}}),
        (fan(400, 101, config={"maxConcurrency": 4}), {}),
        ({**fan(400, 101), "f": {**fan(400, 101)["f"], **then("f")}}, {}),
    ],
)
def test_fewer_tasks_are_not_a_problem(tmp_path, steps, fields):
    file = tmp_path / "f.json"
    assert problems(tmp_path, steps, **fields) == []
    (source,) = load_file(file, FlowChecks()).flows
    assert len(plan_dag(source.flow).tasks.tasks) <= MAX_TASKS
