from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from airflow_allma.flow import STEP_MODELS, json_schema, load_file

HERE = Path(__file__).parent
EXAMPLES = [json.loads(line)["step"] for line in (HERE / "step_examples.jsonl").read_text().splitlines()]
VECTORS = HERE.parent / "conformance" / "vectors" / "flow.jsonl"
VALIDATOR = Draft202012Validator(json_schema())

# What no schema of single fields can see.
ONLY_THE_LOADER_SEES = {
    *("api_call_expressions", "flow_default_fallback_unknown", "flow_id_control_character"),
    *("flow_id_too_long", "flow_start_unknown", "flow_steps_empty", "fork_branch_condition"),
    *("fork_branch_ids_repeat", "fork_branch_start_unknown", "fork_branch_two_starts", "fork_custom_module"),
    *("fork_items_no_path", "fork_without_items", "mail_start_point"),
    *("module_config_bad_template", "module_not_for_step", "step_both_offload_flags", "step_condition_bad"),
    *("step_definition_unknown", "step_delay_both", "step_delay_half", "step_delay_swapped"),
    *("step_id_control_character", "step_id_trailing_space", "step_input_mapping_bad_path"),
    *("step_input_mapping_bad_target", "step_input_mapping_no_path", "step_key_disagrees"),
    *("step_literals_bad_path", "step_literals_bad_template", "step_output_mapping_bad_target"),
    *("step_required_field_no_path", "step_targets_unknown", "flow_execution_without_flow"),
    *("messaging_without_module", "sqs_without_queue"),
}


def errors(flow):
    return [error.json_path for error in VALIDATOR.iter_errors(flow)]


def flow_of(step):
    return {"id": "x", "startStepInstanceId": "a", "steps": {"a": step}}


def test_the_schema_is_valid():
    Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("step", EXAMPLES, ids=lambda step: step.get("stepType", "inherited"))
def test_the_schema_accepts_the_examples(step):
    assert errors(flow_of(step)) == []


def test_the_schema_accepts_the_flows_of_the_recorded_runs():
    for line in VECTORS.read_text().splitlines():
        assert errors(json.loads(line)["given"]["flow"]) == []


def test_the_schema_accepts_own_steps_as_a_list_and_as_a_map():
    for own in ([{"stepInstanceId": "x", "stepType": "NO_OP"}], {"x": {"stepType": "NO_OP"}}):
        branch = {"branchId": "b", "stepInstanceId": "x", "steps": own}
        fork = {"stepType": "PARALLEL_FORK_MANAGER", "itemsPath": "$.x", "parallelBranches": [branch]}
        assert errors(flow_of(fork)) == []


def broken_flows():
    for path in sorted((HERE / "broken").glob("*.json")):
        loaded = load_file(path)
        if (
            path.stem.startswith(("export_", "json_", "other_", "prompt_"))
            or path.stem in ONLY_THE_LOADER_SEES
        ):
            continue
        if loaded.has_errors:
            yield pytest.param(path, id=path.stem)


@pytest.mark.parametrize("path", list(broken_flows()))
def test_the_schema_finds_wrong_types_missing_fields_and_unknown_values(path):
    assert errors(json.loads(path.read_text()))


@pytest.mark.parametrize("name", sorted(ONLY_THE_LOADER_SEES))
def test_the_schema_does_not_find_what_only_the_loader_checks(name):
    assert errors(json.loads((HERE / "broken" / f"{name}.json").read_text())) == []


def test_an_error_in_a_step_is_found_at_its_field_and_not_at_the_step():
    step = {"stepType": "API_CALL", "apiHttpMethod": "get", "apiUrlTemplate": {"template": "https://x.test"}}
    assert errors(flow_of(step)) == ["$.steps.a.apiHttpMethod"]


def test_every_field_has_a_description():
    definitions = json_schema()["$defs"]
    for model in STEP_MODELS.values():
        assert definitions[model.__name__]["description"]
        for name, field in definitions[model.__name__]["properties"].items():
            assert name == "stepType" or field.get("description"), f"{model.__name__}.{name}"
