"""All paths and conditions of a file together, and the depth of one target, have limits."""

from __future__ import annotations

import json

import pytest

from airflow_allma.expressions.targets import MAX_KEYS
from airflow_allma.flow.expression_budget import MAX_EXPRESSION_CHARACTERS
from airflow_allma.loading import load_flow_file

PATH = "$." + "a" * 7_998
FITTING = MAX_EXPRESSION_CHARACTERS // len(PATH) - 1


def problems(tmp_path, step, **document):
    flow = {"id": "f", "startStepInstanceId": "s", "steps": {"s": {"stepType": "NO_OP", **step}}}
    file = tmp_path / "f.json"
    file.write_text(
        json.dumps(flow | document if not document else document | {"flows": [flow, {**flow, "id": "g"}]})
    )
    return [problem for problem in load_flow_file(file).problems if problem.is_error]


def mappings(count):
    return {"inputMappings": {f"k{n}": PATH for n in range(count)}}


def conditions(count):
    condition = "$.a == '" + "a" * (len(PATH) - 9) + "'"
    return {"transitions": [{"condition": condition, "nextStepInstanceId": "s"} for _ in range(count)]}


@pytest.mark.parametrize("step", [mappings, conditions])
def test_expressions_beyond_the_limit_of_a_file_are_located_problems(tmp_path, step):
    assert problems(tmp_path, step(FITTING)) == []
    found = problems(tmp_path, step(FITTING + 3))
    assert found
    assert all(f"have more than {MAX_EXPRESSION_CHARACTERS} characters" in one.message for one in found)
    assert found[0].path.startswith("$.steps.s.")


def test_the_flows_of_an_export_share_the_limit(tmp_path):
    found = problems(tmp_path, mappings(FITTING), formatVersion="1.0")
    assert {one.path.split(".")[1] for one in found} == {"flows[1]"}


@pytest.mark.parametrize(("keys", "is_valid"), [(MAX_KEYS, True), (MAX_KEYS + 1, False), (4_000, False)])
def test_a_target_has_a_maximum_depth(tmp_path, keys, is_valid):
    found = problems(tmp_path, {"literals": {".".join("a" * keys): 1}})
    assert ["at most 100 names" in one.message for one in found] == ([] if is_valid else [True])
