"""A sample of the recorded flows, at least two of each kind, run as Dags."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from airflow_allma.operators.xcoms import Key
from tests.conformance.comparison import same_context, same_error
from tests.conformance.conftest import OWN_VECTORS
from tests.conformance.vector_kinds import flow_of
from tests.support.airflow import RunDag, RunResult

pytestmark = pytest.mark.airflow

OF_EACH_KIND = 3


def sample() -> list[Any]:
    """Return the first vectors of each kind (the first word of a vector's id) and status."""
    kinds: dict[str, list[Any]] = defaultdict(list)
    for line in (OWN_VECTORS / "flow.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        kind = f"{case['id'].split('-')[0]}-{case['expected']['status']}"
        if len(kinds[kind]) < OF_EACH_KIND:
            kinds[kind].append(pytest.param(case, id=case["id"]))
    return [case for cases in kinds.values() for case in cases]


SAMPLE = sample()


def test_the_sample_is_large_enough() -> None:
    assert len(SAMPLE) >= 25


@pytest.mark.parametrize("case", SAMPLE)
def test_a_recorded_flow_has_the_same_result_as_a_dag(case: dict[str, Any], run_dag: RunDag) -> None:
    from airflow_allma.dag_factory import build_dag

    document = {**case["given"]["flow"], "id": f"vector-{case['id']}"}
    ended = run_dag(build_dag(flow_of(document)), case["given"]["payload"])
    expected = case["expected"]
    assert (ended.state == "success") == (expected["status"] == "COMPLETED")
    if expected["status"] == "COMPLETED":
        state = final_state(ended)
        assert state["path"] == expected["path"]
        assert same_context(state["context"], expected["context"]), state["context"]
    else:
        assert same_error(failure(ended), expected["error"])


def final_state(ended: RunResult) -> dict[str, Any]:
    """Return the state that the last task of the main path pushed."""
    (last,) = (
        value
        for (_, map_index, key), value in ended.xcoms.items()
        if key == Key.STATE and map_index == -1 and value["nextStep"] is None
    )
    return last


def failure(ended: RunResult) -> str:
    """Return the name of the error of the failed task of the main path."""
    failed = {(task.task_id, task.map_index) for task in ended.tasks if task.state == "failed"}
    (error,) = (
        value
        for (task_id, map_index, key), value in ended.xcoms.items()
        if key == Key.ERROR and map_index == -1 and (task_id, map_index) in failed
    )
    return str(error["errorName"])
