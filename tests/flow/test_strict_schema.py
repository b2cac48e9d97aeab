from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from airflow_allma.flow.schema import json_schema
from airflow_allma.flow.schema_files import read_schema, schema_text
from airflow_allma.flow.strict_schema import strict_json_schema

HERE = Path(__file__).parent
EXAMPLES = [json.loads(line)["step"] for line in (HERE / "step_examples.jsonl").read_text().splitlines()]
VECTORS = HERE.parent / "conformance" / "vectors" / "flow.jsonl"
VALIDATOR = Draft202012Validator(strict_json_schema())


def errors(flow):
    return [error.json_path for error in VALIDATOR.iter_errors(flow)]


def flow_of(step, **fields):
    return {"id": "x", "startStepInstanceId": "a", "steps": {"a": step}, **fields}


def test_the_strict_schema_is_valid():
    Draft202012Validator.check_schema(strict_json_schema())


@pytest.mark.parametrize(("strict", "make"), [(False, json_schema), (True, strict_json_schema)])
def test_the_shipped_schemas_are_those_of_the_models(strict, make):
    assert read_schema(strict=strict) == schema_text(make()), "the models have changed: run `make schemas`"


def test_each_schema_has_its_own_stable_id():
    assert json_schema()["$id"] == "urn:airflow-allma:schema:flow"
    assert strict_json_schema()["$id"] == "urn:airflow-allma:schema:flow-strict"


@pytest.mark.parametrize("folder", ["dags", "airflow_allma/example_dags"])
def test_the_strict_schema_accepts_the_bundled_flows(repository, folder):
    files = sorted((repository / folder).glob("*.json"))
    assert files
    for file in files:
        assert errors(json.loads(file.read_text())) == []


def test_the_strict_schema_accepts_the_flows_of_the_documentation(repository):
    flows = []
    for page in (repository / "README.md", *sorted((repository / "docs").glob("*.md"))):
        for block in re.findall(r"^```json\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            try:
                document = json.loads(block)
            except ValueError:
                continue  # an excerpt
            if isinstance(document, dict) and "startStepInstanceId" in document:
                flows.append(document)
    assert len(flows) > 3
    assert [errors(flow) for flow in flows if errors(flow)] == []


@pytest.mark.parametrize("step", EXAMPLES, ids=lambda step: step.get("stepType", "inherited"))
def test_the_strict_schema_accepts_the_examples(step):
    assert errors(flow_of(step)) == []


FORK = {
    "stepType": "PARALLEL_FORK_MANAGER",
    "itemsPath": "$.x",
    "parallelBranches": [{"branchId": "b", "stepInstanceId": "y", "icon": "star"}],
}
API = {"stepType": "API_CALL", "apiHttpMethod": "GET", "apiUrlTemplate": {"template": "https://x.test"}}


def noop(**fields):
    return flow_of({"stepType": "NO_OP", **fields})


def api(**fields):
    return flow_of({**API, **fields})


@pytest.mark.parametrize(
    "flow",
    [
        flow_of(FORK, **{"$schema": "./flow-strict.schema.json"}),
        flow_of({"stepDefinitionId": "system-noop"}),
        flow_of({"stepDefinitionId": "shop-call", "stepType": "API_CALL"}),
        flow_of({**API, "stepDefinitionId": None}),
        flow_of({"stepType": "NO_OP", "inputMappings": {"a.b[0]": "$"}, "outputMappings": {"$.a": "$.b"}}),
        flow_of({**API, "customConfig": {"requestBodyPath": "$.a", "timeoutMs": 5}}),
    ],
)
def test_what_is_part_of_the_language_is_accepted(flow):
    assert errors(flow) == []


@pytest.mark.parametrize(
    ("flow", "path"),
    [
        (flow_of({"stepType": "NO_OP"}, comment="x"), "$"),
        (flow_of({"stepType": "NO_OP", "note": "x"}), "$.steps.a"),
        (flow_of({"stepType": "NO_OP", "itemsPath": "$.x"}), "$.steps.a"),
        (flow_of({"stepType": "NO_OP", "onError": {"retry": 3}}), "$.steps.a.onError"),
        (flow_of({"stepDefinitionId": "shop-call", "stepType": "API_CALL", "note": "x"}), "$.steps.a"),
        (flow_of({"stepDefinitionId": "shop-call", "note": "x"}), "$.steps.a"),
        (flow_of({"stepType": "API_CALL", "apiHttpMethod": "GET"}), "$.steps.a"),
        (flow_of({**API, "stepDefinitionId": "x", "apiHttpMethod": "get"}), "$.steps.a.apiHttpMethod"),
        (flow_of({**FORK, "itemsPath": "x"}), "$.steps.a.itemsPath"),
        (flow_of({**FORK, "aggregationConfig": {"dataPath": "a.b"}}), "$.steps.a.aggregationConfig.dataPath"),
        (flow_of({**FORK, "airflow": {"pools": "x"}}), "$.steps.a.airflow"),
        (flow_of({"stepType": "NO_OP", "inputMappings": {"a": "b"}}), "$.steps.a.inputMappings.a"),
        (flow_of({"stepType": "NO_OP", "inputMappings": {"$.a": "$.b"}}), "$.steps.a.inputMappings"),
        (flow_of({"stepType": "NO_OP", "literals": {"a.": 1}}), "$.steps.a.literals"),
        (flow_of({"stepType": "NO_OP", "outputMappings": {"a": "$.b"}}), "$.steps.a.outputMappings"),
        (flow_of({"stepType": "NO_OP", "outputMappings": {"$": "$.b"}}), "$.steps.a.outputMappings"),
        # In an optional object, an error is reported at the object.
        (noop(outputValidation={"requiredFields": ["a"]}), "$.steps.a.outputValidation"),
        (api(requestBodyTemplate={"a": {"sourceJsonPath": "a"}}), "$.steps.a.requestBodyTemplate"),
        (api(customConfig={"requestBodyPath": "a"}), "$.steps.a.customConfig.requestBodyPath"),
        (api(customConfig={"requestBodyPath": 1}), "$.steps.a.customConfig.requestBodyPath"),
        (
            flow_of({"stepType": "MESSAGING", "moduleIdentifier": "system/sqs-send", "note": 1}),
            "$.steps.a",
        ),
    ],
)  # fmt: skip
def test_unknown_fields_and_strings_that_are_no_paths_are_found(flow, path):
    assert path in errors(flow)
    assert not [error for error in errors(flow) if not error.startswith(path)]


def test_the_strict_schema_accepts_the_recorded_flows_that_use_the_language_alone():
    flows = [json.loads(line)["given"]["flow"] for line in VECTORS.read_text().splitlines()]
    refused = [flow for flow in flows if errors(flow)]
    assert [(errors(flow), flow) for flow in refused] == []
