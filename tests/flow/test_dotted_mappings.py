"""Objects of paths in input mappings: another way to write dotted targets."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from airflow_allma.flow import Flow
from airflow_allma.flow.normalize import dotted_mappings
from airflow_allma.flow.schema import json_schema
from airflow_allma.flow.strict_schema import strict_json_schema
from airflow_allma.loading import load_flow_file
from tests.support.engine import compose, fork, run

FORMS = [
    ({"a": "$.x"}, {"a": "$.x"}),
    ({"a": {"b": "$.x"}}, {"a.b": "$.x"}),
    ({"a.b": {":x": "$.x", "#y": "$.y"}}, {"a.b.:x": "$.x", "a.b.#y": "$.y"}),
    ({"a": {"b": {"c": "$.x"}}, "d": "$.y"}, {"a.b.c": "$.x", "d": "$.y"}),
    ({"a": {}}, {}),
    ({"a": ["$.x"]}, {"a": ["$.x"]}),
]


@pytest.mark.parametrize(("written", "dotted"), FORMS)
@pytest.mark.parametrize("place", ["step", "branch", "step of a branch"])
def test_objects_become_dotted_targets_wherever_mappings_are(written, dotted, place):
    def flow(mappings):
        step, branch, inner = compose(), {"branchId": "b", "stepInstanceId": "s"}, compose()
        owner = {"step": step, "branch": branch, "step of a branch": inner}[place]
        owner["inputMappings"] = mappings
        branch["steps"] = {"s": inner}
        return {"id": "f", "steps": {"a": step, "f": {**fork(), "parallelBranches": [branch]}}}

    original = flow(written)
    before = json.dumps(original)
    converted = dotted_mappings(original)
    assert converted == flow(dotted)
    assert json.dumps(original) == before
    if written == dotted:
        assert converted is original


def test_the_input_is_that_of_the_dotted_form():
    mappings = {"query.values": {":s": "$.status", "deep": {"er": "$.n"}}}
    literal = {"query": {"table": "t"}}
    ran = run({"a": compose(inputMappings=mappings, literals=literal)}, {"status": "new", "n": 1})
    assert ran.outputs["a"] == {"query": {"table": "t", "values": {":s": "new", "deep": {"er": 1}}}}


def test_a_model_that_is_read_alone_has_the_dotted_form():
    steps = {"a": compose(inputMappings={"a": {"b": "$.x"}})}
    flow = Flow.model_validate({"id": "f", "startStepInstanceId": "a", "steps": steps})
    assert flow.steps["a"].input_mappings == {"a.b": "$.x"}


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ('"nope"', 6, "is not a JSONPath"),
        ("5", 6, "must be a string"),
        ('"$.x["', 6, "is not a valid JSONPath"),
        ("[1]", 6, "must be a string"),
    ],
)
def test_a_wrong_source_in_an_object_is_located(tmp_path, source, line, message):
    file = tmp_path / "f.json"
    file.write_text(
        '{"id": "f", "startStepInstanceId": "a", "steps": {"a": {\n'
        '"stepType": "NO_OP",\n'
        '"inputMappings": {\n'
        '"first": "$.x",\n'
        '"query.values": {\n'
        f'":s": {source}\n'
        "}}}}}"
    )
    (problem,) = load_flow_file(file).problems
    assert message in problem.message
    assert problem.line == line, problem
    assert problem.path == "$.steps.a.inputMappings['query.values.:s']"


def test_an_unknown_name_in_an_object_is_reported_as_in_the_dotted_form(tmp_path):
    file = tmp_path / "f.json"
    step = compose(inputMappings={"a": {"b": "$.steps_output.nobody.x"}})
    file.write_text(json.dumps({"id": "f", "startStepInstanceId": "a", "steps": {"a": step}}))
    (problem,) = load_flow_file(file).problems
    assert "is not a step" in problem.message


@pytest.mark.parametrize("schema", [json_schema, strict_json_schema])
def test_the_schemas_accept_objects_of_paths(schema):
    steps = {"a": compose(inputMappings={"a": {"b": "$.x"}, "c": "$.y"})}
    document = {"id": "f", "startStepInstanceId": "a", "steps": steps}
    assert list(Draft202012Validator(schema()).iter_errors(document)) == []
    steps["a"]["inputMappings"]["c"] = 5
    assert list(Draft202012Validator(schema()).iter_errors(document)) != []
