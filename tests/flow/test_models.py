from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from airflow_allma.exceptions import FlowError
from airflow_allma.flow import (
    STEP_MODELS,
    AggregationStrategy,
    DelayPosition,
    Flow,
    FlowChecks,
    ParallelForkManagerStep,
    StepType,
    parse_flow,
)
from tests.support.flow_checks import BracketChecks

EXAMPLES = [
    json.loads(line) for line in (Path(__file__).parent / "step_examples.jsonl").read_text().splitlines()
]
VECTORS = Path(__file__).parents[1] / "conformance" / "vectors" / "flow.jsonl"


def flow_of(step, **fields):
    steps = {"first": step, "next": {"stepType": "NO_OP"}}
    return {"id": "shop", "startStepInstanceId": "first", "steps": steps, **fields}


def parse(step, **fields):
    return parse_flow(flow_of(step, **fields), checks=FlowChecks(BracketChecks()))


def first(step, **fields):
    return parse(step, **fields).steps["first"]


def test_the_examples_cover_every_step_type():
    assert {e.get("becomes", e["step"].get("stepType")) for e in EXAMPLES} == {str(kind) for kind in StepType}
    assert len(STEP_MODELS) == len(StepType) == 21


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e["step"].get("stepType", "inherited"))
def test_an_example_of_a_step_type_becomes_its_model(example):
    step = first(example["step"])
    kind = StepType(example.get("becomes", example["step"].get("stepType")))
    assert step.step_type is kind
    assert type(step) is STEP_MODELS[kind]
    assert not step.model_extra


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e["step"].get("stepType", "inherited"))
def test_a_model_has_the_values_of_its_example(example):
    written = first(example["step"]).model_dump(by_alias=True, mode="json", exclude_unset=True)
    given = {"stepType": written["stepType"], **example["step"], "stepInstanceId": "first"}
    assert {key: written[key] for key in given if key != "stepType"} == {
        key: value for key, value in given.items() if key != "stepType"
    }


@pytest.mark.parametrize(
    "flow",
    [json.loads(line)["given"]["flow"] for line in VECTORS.read_text().splitlines()],
    ids=lambda flow: flow["id"],
)
def test_a_flow_of_the_recorded_runs_is_valid(flow):
    parsed = parse_flow(flow, checks=FlowChecks(BracketChecks()))
    assert list(parsed.steps) == list(flow["steps"])


def test_a_flow_has_defaults_for_all_optional_fields():
    flow = parse({"stepType": "NO_OP"})
    assert (flow.version, flow.is_published, flow.tags, flow.flow_variables) == (1, True, (), {})
    assert flow.airflow.schedule is None
    step = flow.steps["first"]
    assert step.step_instance_id == "first"
    assert step.output_mappings is None
    assert (step.input_mappings, step.literals, step.custom_config, step.transitions) == ({}, {}, {}, ())
    assert step.default_next_max_transitions == 5
    assert step.label == "first"


def test_an_empty_output_mapping_is_not_the_default_one():
    assert first({"stepType": "NO_OP", "outputMappings": {}}).output_mappings == {}


def test_a_fork_has_the_documented_defaults():
    fork = first({"stepType": "PARALLEL_FORK_MANAGER"})
    assert isinstance(fork, ParallelForkManagerStep)
    assert fork.aggregation_config.strategy is AggregationStrategy.COLLECT_ARRAY
    assert fork.aggregation_config.fail_on_branch_error is True
    assert fork.aggregation_config.max_concurrency == 0
    assert fork.branch_selection == "all"


def test_error_handling_has_the_documented_defaults():
    on_error = first(
        {
            "stepType": "NO_OP",
            "onError": {"retries": {}, "retryOnContentError": {}},
            "delay": {"milliseconds": 1},
        }
    ).on_error
    assert (on_error.retries.count, on_error.retries.interval_seconds, on_error.retries.backoff_rate) == (
        0,
        5,
        2,
    )
    assert on_error.retry_on_content_error.count == 1
    assert on_error.continue_on_failure is False
    assert first({"stepType": "NO_OP", "delay": {"milliseconds": 1}}).delay.position is DelayPosition.AFTER


def test_unknown_fields_of_flows_and_steps_are_kept():
    flow = parse({"stepType": "NO_OP", "myNote": [1]}, myTeam="blue")
    assert flow.model_extra == {"myTeam": "blue"}
    assert flow.steps["first"].model_extra == {"myNote": [1]}


def test_models_cannot_be_changed():
    flow = parse({"stepType": "NO_OP"})
    with pytest.raises(ValidationError):
        flow.id = "other"


def test_a_flow_survives_pickling():
    flow = parse(EXAMPLES[12]["step"])
    assert pickle.loads(pickle.dumps(flow)) == flow


def test_the_argument_is_not_changed():
    raw = flow_of({"stepDefinitionId": "system-noop"}, defaultStepConfig={"defaultErrorHandler": {}})
    before = json.dumps(raw)
    parse_flow(raw)
    assert json.dumps(raw) == before


def test_a_broken_flow_raises_an_error_with_one_line_for_each_problem():
    with pytest.raises(FlowError) as raised:
        parse_flow(flow_of({"stepType": "NO_OPP"}, version=0), source="shop flow")
    lines = str(raised.value).splitlines()
    assert "shop flow: error: $.version: must be above 0; 0 is not" in lines
    assert (
        "shop flow: error: $.steps.first.stepType: `NO_OPP` is not a step type; did you mean `NO_OP`?"
        in lines
    )


def test_python_names_are_not_names_of_json_fields():
    step = first({"stepType": "NO_OP", "display_name": "x"})
    assert step.display_name is None
    assert step.model_extra == {"display_name": "x"}


@pytest.mark.parametrize("field", ["stepInstanceId", "startStepInstanceId", "startStep"])
def test_each_of_three_fields_can_name_the_first_step_of_a_branch(field):
    fork = first(
        {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.x",
            "parallelBranches": [{"branchId": "b", field: "next"}],
        }
    )
    assert fork.parallel_branches[0].start == "next"


OWN = [{"stepInstanceId": "one", "stepType": "NO_OP"}, {"stepInstanceId": "two", "stepType": "END_FLOW"}]


@pytest.mark.parametrize("own", [OWN, {step["stepInstanceId"]: step for step in OWN}], ids=["list", "map"])
def test_own_steps_of_a_branch_may_be_a_list_or_a_map(own):
    branch = {"branchId": "b", "stepInstanceId": "one", "steps": own}
    flow = parse({"stepType": "PARALLEL_FORK_MANAGER", "itemsPath": "$.x", "parallelBranches": [branch]})
    model = flow.steps["first"].parallel_branches[0]
    assert list(flow.steps_of(model)) == ["one", "two"]
    assert flow.steps_of(model)["two"].step_type is StepType.END_FLOW


def test_a_branch_without_own_steps_goes_to_those_around_it():
    inner = {"branchId": "inner", "stepInstanceId": "two"}
    outward = {"branchId": "outward", "stepInstanceId": "next"}
    own = {
        "one": {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.x",
            "parallelBranches": [inner, outward],
        },
        "two": {"stepType": "NO_OP"},
    }
    outer = {"branchId": "outer", "startStep": "one", "steps": own}
    flow = parse(
        {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.x",
            "parallelBranches": [outer, {"branchId": "plain", "stepInstanceId": "next"}],
        }
    )
    first_branch, plain = flow.steps["first"].parallel_branches
    inside = first_branch.steps["one"].parallel_branches
    assert flow.steps_of(plain) is flow.steps
    assert flow.steps_of(inside[0]) is first_branch.steps
    assert flow.steps_of(inside[1]) is flow.steps


DEFAULTS = {
    "defaultCustomConfig": {"timeoutMs": 5, "nested": {"a": 1, "b": 2}},
    "defaultInferenceParameters": {"temperature": 0.1, "topK": 7},
    "defaultErrorHandler": {"retries": {"count": 3}, "fallbackStepInstanceId": "next"},
}


def test_a_steps_own_config_wins_over_the_default_field_by_field():
    step = first(
        {
            "stepType": "DATA_SAVE",
            "moduleIdentifier": "system/x",
            "customConfig": {"nested": {"a": 9}, "own": 1},
        },
        defaultStepConfig=DEFAULTS,
    )
    assert step.custom_config == {"timeoutMs": 5, "nested": {"a": 9}, "own": 1}


def test_steps_that_take_no_config_get_no_default_for_it():
    assert first({"stepType": "NO_OP"}, defaultStepConfig=DEFAULTS).custom_config == {}


def test_default_inference_parameters_apply_to_model_calls_only():
    model = {"stepType": "LLM_INVOCATION", "llmProvider": "GEMINI", "modelId": "m", "directPrompt": "x"}
    step = first({**model, "inferenceParameters": {"topK": 1}}, defaultStepConfig=DEFAULTS)
    assert (step.inference_parameters.temperature, step.inference_parameters.top_k) == (0.1, 1)


def test_the_default_error_handler_applies_to_steps_without_their_own():
    flow = parse({"stepType": "NO_OP"}, defaultStepConfig=DEFAULTS)
    assert flow.steps["first"].on_error.retries.count == 3
    assert flow.steps["first"].on_error.fallback_step_instance_id == "next"
    own = first({"stepType": "NO_OP", "onError": {"continueOnFailure": True}}, defaultStepConfig=DEFAULTS)
    assert own.on_error.retries is None


def test_the_default_fallback_step_does_not_fall_back_on_itself():
    flow = parse({"stepType": "NO_OP"}, defaultStepConfig=DEFAULTS)
    assert flow.steps["next"].on_error.fallback_step_instance_id is None
    assert flow.steps["next"].on_error.retries.count == 3


def test_the_default_fallback_does_not_lead_out_of_a_branchs_own_steps():
    branch = {"branchId": "b", "stepInstanceId": "one", "steps": OWN}
    flow = parse(
        {"stepType": "PARALLEL_FORK_MANAGER", "itemsPath": "$.x", "parallelBranches": [branch]},
        defaultStepConfig=DEFAULTS,
    )
    own = flow.steps["first"].parallel_branches[0].steps
    assert own["one"].on_error.fallback_step_instance_id is None


def test_the_same_flow_parsed_twice_is_equal():
    raw = flow_of(EXAMPLES[12]["step"], defaultStepConfig=DEFAULTS)
    assert parse_flow(raw) == parse_flow(raw) == Flow.model_validate(raw)


def test_airflow_options_keep_every_documented_key():
    options = {
        "schedule": "rate(1 hour)",
        "startDate": "2026-01-31",
        "timezone": "Europe/Berlin",
        "catchup": False,
        "tags": ["a"],
        "owner": "ops",
        "pool": "p",
        "queue": "q",
        "priorityWeight": 3,
        "maxActiveRuns": 1,
        "executionTimeoutSeconds": 1.5,
        "runTimeoutSeconds": 60.0,
        "branchGranularity": "branch",
        "inputSchema": {"type": "object"},
        "maxInMemoryItems": 10,
        "maxInMemoryBytes": 100,
        "maxWaitingTasks": 10,
        "chunkBytes": 1000,
        "maxChunks": 5,
        "chunkConcurrency": 8,
        "lostTaskRetries": 0,
        "retryLostSteps": True,
        "offloadLocation": "s3://bucket/prefix",
        "awsConnId": "aws",
        "dagDisplayName": "Nightly",
        "deadline": {"seconds": 60.0, "from": "queued", "notifier": "a.B", "args": {"text": "late"}},
        "notify": [{"on": ["failure"], "notifier": "a.B", "args": {}}],
    }
    airflow = parse({"stepType": "NO_OP"}, airflow=options).airflow
    # There is one schedule: these two exclude each other.
    assert airflow.model_dump(by_alias=True, mode="json") == {**options, "watch": None}
    watch = {"sqsQueueUrl": "https://sqs.eu-west-3.amazonaws.com/1/q", "connId": "a", "maxMessages": 2}
    airflow = parse({"stepType": "NO_OP"}, airflow={"watch": watch}).airflow
    assert airflow.model_dump(by_alias=True, mode="json", exclude_unset=True) == {"watch": watch}
