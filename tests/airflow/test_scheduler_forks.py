"""Every way in which a fork can run and end, on a real scheduler; all runs start together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.airflow.flows import branch, compose, failing, flow, fork, route

pytestmark = pytest.mark.scheduler

VALUE = {"v": "$.currentItem.v"}
ITEMS = [{"id": f"p{n}", "v": n} for n in range(4)]
GOOD = [{"v": n} for n in range(4)]


def one_fails(**config: Any) -> dict[str, Any]:
    """Item p2 fails."""
    return {
        "f": fork(branch("w"), to="z", **config),
        "w": route(("$.currentItem.v == 2", "dead"), to="ok"),
        "dead": failing(),
        "ok": compose(VALUE),
        "z": compose({"n": "$.steps_output.f.aggregatedData.length"}),
    }


@dataclass(frozen=True)
class Case:
    """A flow, its payload and the expected result.

    ``data`` is the fork's aggregatedData (an item's error is shown as its name), or None when the run fails.
    """

    steps: dict[str, Any]
    payload: dict[str, Any]
    data: Any
    skipped: tuple[str, ...] = ()
    ran: tuple[str, ...] = ()
    airflow: dict[str, Any] = field(default_factory=dict)


PLAIN = {"f": fork(branch("w"), to="z"), "w": compose(VALUE), "z": compose()}
CASES = {
    "in-memory": Case(PLAIN, {"items": ITEMS}, GOOD, skipped=("f.chunk",), ran=("f.b.w", "z")),
    "too-long": Case(
        PLAIN,
        {"items": ITEMS},
        GOOD,
        skipped=("f.b.w",),
        ran=("f.chunk", "z"),
        airflow={"maxInMemoryItems": 3},
    ),
    "too-large": Case(
        PLAIN,
        {"items": ITEMS},
        GOOD,
        skipped=("f.b.w",),
        ran=("f.chunk", "z"),
        airflow={"maxInMemoryBytes": 20},
    ),
    "one-task-a-branch": Case(
        {**PLAIN, "w": compose(VALUE, to="x"), "x": compose(VALUE)},
        {"items": ITEMS},
        GOOD,
        ran=("f.b.w", "z"),
        airflow={"branchGranularity": "branch"},
    ),
    "empty": Case(PLAIN, {"items": []}, [], skipped=("f.b.w", "f.chunk"), ran=("f.aggregate", "z")),
    "nothing": Case(PLAIN, {}, [], skipped=("f.b.w", "f.chunk"), ran=("f.aggregate", "z")),
    "number": Case(
        {**PLAIN, "w": compose({"v": "$.currentItem"})}, {"items": 7}, [{"v": 7}], ran=("f.b.w", "z")
    ),
    "failed": Case(one_fails(), {"items": ITEMS}, None, ran=("f.b.w",)),
    "failed-accepted": Case(
        one_fails(failOnBranchError=False),
        {"items": ITEMS},
        [{"v": 0}, {"v": 1}, "PermanentStepError", {"v": 3}],
        ran=("z",),
    ),
    "failed-tolerated": Case(
        one_fails(toleratedFailurePercentage=25),
        {"items": ITEMS},
        [{"v": 0}, {"v": 1}, "PermanentStepError", {"v": 3}],
        ran=("z",),
    ),
    "failed-beyond-tolerance": Case(one_fails(toleratedFailurePercentage=24), {"items": ITEMS}, None),
    "several-branches": Case(
        {
            "f": fork(branch("w", "all"), branch("x", "odd", condition="$.currentItem.v > 2"), to="z"),
            "w": compose(VALUE),
            "x": compose({"big": "$.currentItem.v"}),
            "z": compose(),
        },
        {"items": ITEMS},
        [*GOOD, {"big": 3}],
        ran=("z",),
    ),
    "first-branch": Case(
        {
            "f": fork(
                branch("x", "big", condition="$.currentItem.v > 2"),
                branch("w", "rest"),
                branchSelection="first",
                to="z",
            ),
            "w": compose(VALUE),
            "x": compose({"big": "$.currentItem.v"}),
            "z": compose(),
        },
        {"items": ITEMS},
        [*GOOD[:3], {"big": 3}],
        ran=("z",),
    ),
}


def test_every_way_in_which_a_fork_can_run_and_end(airflow_client, deploy):
    ids = {}
    for name, case in CASES.items():
        ids[name] = deploy(flow(f"forks-{name}", case.steps, airflow=case.airflow))
    runs = {name: airflow_client.trigger(dag, CASES[name].payload) for name, dag in ids.items()}
    seen = {name: _look(airflow_client, ids[name], runs[name]) for name in CASES}
    expected = {name: _expected(case) for name, case in CASES.items()}
    assert {name: _only(seen[name], CASES[name]) for name in CASES} == expected


def _expected(case: Case) -> dict[str, Any]:
    return {
        "state": "failed" if case.data is None else "success",
        "data": case.data,
        "skipped": set(case.skipped),
        "ran": set(case.ran),
    }


def _look(client: Any, dag_id: str, run_id: str) -> dict[str, Any]:
    state = client.wait_for_run(dag_id, run_id, 240.0)
    tasks = client.task_instances(dag_id, run_id)
    data = client.xcom(dag_id, run_id, "f.aggregate")["aggregatedData"] if state == "success" else None
    return {
        "state": state,
        "data": data,
        "skipped": {task.task_id for task in tasks} - {t.task_id for t in tasks if t.state != "skipped"},
        "ran": {task.task_id for task in tasks if task.state in {"success", "failed"}},
    }


def _only(seen: dict[str, Any], case: Case) -> dict[str, Any]:
    """Return the observed values for which the case has expectations."""
    data = seen["data"]
    if isinstance(data, list):
        data = [
            one["error"]["errorName"] if isinstance(one, dict) and "error" in one else one for one in data
        ]
    return {
        **seen,
        "data": data,
        "skipped": seen["skipped"] & set(case.skipped),
        "ran": seen["ran"] & set(case.ran),
    }
