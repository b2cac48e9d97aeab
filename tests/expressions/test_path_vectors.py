"""The recorded results for paths, conditions, mappings and transitions.

The runners here are the pure part of what the engine does: no delays, no logs, no offload.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Any

import pytest

from airflow_allma.exceptions import ExpressionError, ExpressionEvaluationError
from airflow_allma.expressions import (
    NOTHING,
    compile_condition,
    compile_path,
    compile_target,
    copy_value,
)
from airflow_allma.expressions.assignment import InvalidTargetError

VECTORS = FilePath(__file__).parents[1] / "conformance" / "vectors"


def find(inputs: dict[str, Any]) -> Any:
    return compile_path(inputs["path"]).find(inputs["data"])


def matches(inputs: dict[str, Any]) -> bool:
    return compile_condition(inputs["condition"]).matches(inputs["context"])


def map_input(inputs: dict[str, Any]) -> dict[str, Any]:
    step_input: dict[str, Any] = {}
    for target, source in sorted(inputs["mappings"].items()):
        try:
            value = compile_path(source).find(inputs["context"])
        except ExpressionEvaluationError:
            continue
        if value is not NOTHING:
            compile_target(target).assign(step_input, copy_value(value))
    return step_input


def map_output(inputs: dict[str, Any]) -> dict[str, Any]:
    context = inputs["context"]
    before = copy_value(context)
    result = context
    for target, source in inputs["mappings"].items():
        value = compile_path(source).find(inputs["output"])
        if value is not NOTHING:
            with suppress(InvalidTargetError):  # such a target sets nothing
                result = compile_path(target).assign_shared(result, copy_value(value))
    assert context == before
    return result


def next_step(inputs: dict[str, Any]) -> Any:
    state = inputs["state"]
    context = {**state, **state["currentContextData"]}
    for transition in inputs["step"]["transitions"]:
        if compile_condition(transition["condition"]).matches(context):
            return transition["nextStepInstanceId"]
    return inputs["step"].get("defaultNextStepInstanceId", NOTHING)


RUNNERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "path": find,
    "condition": matches,
    "input_mapping": map_input,
    "output_mapping": map_output,
    "next_step": next_step,
}
CASES = [
    pytest.param(kind, case, id=f"{kind}:{case['id']}")
    for kind in RUNNERS
    for case in map(json.loads, (VECTORS / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines())
]


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_the_recorded_result_is_returned(kind: str, case: dict[str, Any]):
    run = RUNNERS[kind]
    if case.get("error"):
        with pytest.raises(ExpressionError, match=r"\w+ \w+"):
            run(case["given"])
    elif case.get("nothing"):
        assert run(case["given"]) is NOTHING
    else:
        result = run(case["given"])
        assert result is not NOTHING
        assert result == case["expected"]
        if isinstance(case["expected"], bool):
            assert isinstance(result, bool)


def test_there_are_vectors_of_every_kind():
    assert {case.values[0] for case in CASES} == set(RUNNERS)
