from __future__ import annotations

import pytest

from airflow_allma.flow import STEP_MODELS, Flow, FlowChecks, parse_flow
from airflow_allma.flow.expression_fields import _BY_TYPE, _EVERY_STEP, _FLOW
from airflow_allma.flow.validation import check_flow
from tests.support.flow_checks import BracketChecks

BAD_PATH, BAD_TEMPLATE, NO_PATH, BAD_CONDITION = "$.a[", "{{a", "plain", "plain"


def json_names(model):
    return {field.alias or name for name, field in model.model_fields.items()}


def found(fields, kind, **flow):
    step = {"stepType": kind, **fields}
    raw = {"id": "x", "startStepInstanceId": "a", "steps": {"a": step}, **flow}
    diagnostics = check_flow(raw, checks=FlowChecks(BracketChecks())).diagnostics
    return [
        ".".join(map(str, one.path))
        for one in diagnostics
        if "not a valid" in one.message or "not a JSONPath" in one.message
    ]


@pytest.mark.parametrize(("kind", "rows"), _BY_TYPE.items(), ids=list(_BY_TYPE))
def test_every_field_of_the_table_is_a_field_of_its_step(kind, rows):
    assert {row.pattern[0] for row in rows} <= json_names(STEP_MODELS[kind])


def test_every_common_field_of_the_table_is_a_field():
    assert {row.pattern[0] for row in _EVERY_STEP} <= json_names(STEP_MODELS["NO_OP"])
    assert {row.pattern[0] for row in _FLOW} <= json_names(Flow)


FIELDS = [
    ("NO_OP", {"inputMappings": {"a": BAD_PATH}}, "inputMappings.a"),
    ("NO_OP", {"inputMappings": {"a..b": "$.a"}}, "inputMappings.a..b"),
    ("NO_OP", {"literals": {"a..b": 1}}, "literals.a..b"),
    ("NO_OP", {"literals": {"a": [{"b": BAD_TEMPLATE}]}}, "literals.a.0.b"),
    ("NO_OP", {"outputMappings": {"$.a": NO_PATH}}, "outputMappings.$.a"),
    ("NO_OP", {"outputMappings": {BAD_PATH: "$"}}, "outputMappings.$.a["),
    (
        "NO_OP",
        {"outputValidation": {"requiredFields": ["$.a", BAD_PATH]}},
        "outputValidation.requiredFields.1",
    ),
    (
        "NO_OP",
        {"transitions": [{"condition": BAD_CONDITION, "nextStepInstanceId": "a"}]},
        "transitions.0.condition",
    ),
    ("CUSTOM_LAMBDA_INVOKE", {"lambdaFunctionArnTemplate": BAD_TEMPLATE}, "lambdaFunctionArnTemplate"),
    ("CUSTOM_LAMBDA_INVOKE", {"payloadTemplate": {"a": NO_PATH}}, "payloadTemplate.a"),
    ("DATA_LOAD", {"moduleIdentifier": "system/x", "customConfig": {"a": BAD_PATH}}, "customConfig.a"),
    ("FILE_DOWNLOAD", {"sourceUrlTemplate": BAD_TEMPLATE}, "sourceUrlTemplate"),
    ("FILE_DOWNLOAD", {"destinationKeyTemplate": BAD_TEMPLATE}, "destinationKeyTemplate"),
    ("FILE_DOWNLOAD", {"headersTemplate": {"X": BAD_PATH}}, "headersTemplate.X"),
    ("LLM_INVOCATION", {"llmProvider": BAD_TEMPLATE}, "llmProvider"),
    ("LLM_INVOCATION", {"modelId": BAD_PATH}, "modelId"),
    ("LLM_INVOCATION", {"fallbacks": [{"modelId": BAD_TEMPLATE}]}, "fallbacks.0.modelId"),
    (
        "LLM_INVOCATION",
        {"templateContextMappings": {"v": {"sourceJsonPath": NO_PATH}}},
        "templateContextMappings.v.sourceJsonPath",
    ),
    ("LLM_INVOCATION", {"toolsPath": NO_PATH}, "toolsPath"),
    ("LLM_INVOCATION", {"mediaAttachmentsPath": BAD_PATH}, "mediaAttachmentsPath"),
    ("LLM_INVOCATION", {"customConfig": {"x": BAD_TEMPLATE}}, "customConfig.x"),
    ("API_CALL", {"apiUrlTemplate": {"template": BAD_TEMPLATE}}, "apiUrlTemplate.template"),
    (
        "API_CALL",
        {"apiUrlTemplate": {"contextMappings": {"v": {"itemTemplate": BAD_TEMPLATE}}}},
        "apiUrlTemplate.contextMappings.v.itemTemplate",
    ),
    (
        "API_CALL",
        {"requestBodyTemplate": {"v": {"sourceJsonPath": NO_PATH}}},
        "requestBodyTemplate.v.sourceJsonPath",
    ),
    ("API_CALL", {"customConfig": {"requestBodyPath": NO_PATH}}, "customConfig.requestBodyPath"),
    (
        "POLL_EXTERNAL_API",
        {"apiCallDefinition": {"apiHeadersTemplate": {"X": BAD_TEMPLATE}}},
        "apiCallDefinition.apiHeadersTemplate.X",
    ),
    (
        "POLL_EXTERNAL_API",
        {"exitConditions": {"failureCondition": BAD_CONDITION}},
        "exitConditions.failureCondition",
    ),
    ("PARALLEL_FORK_MANAGER", {"itemsPath": NO_PATH}, "itemsPath"),
    ("PARALLEL_FORK_MANAGER", {"itemsPath": "$.x", "itemLabelPath": BAD_PATH}, "itemLabelPath"),
    (
        "PARALLEL_FORK_MANAGER",
        {"itemsPath": "$.x", "aggregationConfig": {"dataPath": NO_PATH}},
        "aggregationConfig.dataPath",
    ),
    *(
        ("PARALLEL_FORK_MANAGER", {"itemsPath": "$.x", owner: {name: NO_PATH}}, f"{owner}.{name}")
        for owner, name in (
            ("itemReader", "maxItems"),
            ("aggregationConfig", "maxConcurrency"),
            ("aggregationConfig", "toleratedFailurePercentage"),
            ("aggregationConfig", "toleratedFailureCount"),
        )
    ),
    (
        "PARALLEL_FORK_MANAGER",
        {"parallelBranches": [{"inputMappingsToSubFlow": {"a": NO_PATH}}]},
        "parallelBranches.0.inputMappingsToSubFlow.a",
    ),
    ("START_SUB_FLOW", {"inputMappingsToSubFlow": {"a..b": "$.x"}}, "inputMappingsToSubFlow.a..b"),
    ("START_FLOW_EXECUTION", {"flowDefinitionId": BAD_TEMPLATE}, "flowDefinitionId"),
    ("WAIT_FOR_EXTERNAL_EVENT", {"correlationKeyTemplate": BAD_TEMPLATE}, "correlationKeyTemplate"),
    (
        "WAIT_FOR_EXTERNAL_EVENT",
        {"promptUserMessageTemplate": {"t": BAD_TEMPLATE}},
        "promptUserMessageTemplate.t",
    ),
    ("SQS_SEND", {"customConfig": {"queueUrl": BAD_TEMPLATE}}, "customConfig.queueUrl"),
    ("EMAIL", {"subject": BAD_TEMPLATE}, "subject"),
    ("EMAIL", {"to": ["a@x.test", BAD_PATH]}, "to.1"),
    ("EMAIL", {"attachmentsPath": NO_PATH}, "attachmentsPath"),
    ("EMAIL_START_POINT", {"emailAddress": BAD_TEMPLATE}, "emailAddress"),
    ("SCHEDULE_START_POINT", {"scheduleExpression": BAD_TEMPLATE}, "scheduleExpression"),
    ("SCHEDULE_START_POINT", {"payloadTemplate": {"m": BAD_PATH}}, "payloadTemplate.m"),
]


@pytest.mark.parametrize(
    ("kind", "fields", "path"), FIELDS, ids=[f"{kind}-{path}" for kind, _, path in FIELDS]
)
def test_an_invalid_expression_is_found_in_its_field(kind, fields, path):
    assert found(fields, kind) == [f"steps.a.{path}"]


FLOW_FIELDS = [
    ({"onCompletionActions": [{"condition": BAD_CONDITION}]}, "onCompletionActions.0.condition"),
    (
        {"onCompletionActions": [{"payloadTemplate": {"a": NO_PATH}}]},
        "onCompletionActions.0.payloadTemplate.a",
    ),
    (
        {"defaultStepConfig": {"defaultCustomConfig": {"a": BAD_TEMPLATE}}},
        "defaultStepConfig.defaultCustomConfig.a",
    ),
]


@pytest.mark.parametrize(("fields", "path"), FLOW_FIELDS, ids=[path for _, path in FLOW_FIELDS])
def test_an_invalid_expression_of_the_flow_itself_is_found_in_its_field(fields, path):
    assert found({}, "NO_OP", **fields) == [path]


@pytest.mark.parametrize("kind", ["CUSTOM_LOGIC", "DATA_LOAD"])
def test_what_modules_of_ones_own_get_is_rendered_too(kind):
    step = {"moduleIdentifier": "acme/x", "customConfig": {"a": BAD_TEMPLATE}}
    assert found(step, kind) == ["steps.a.customConfig.a"]


def test_static_headers_and_flow_variables_are_data():
    fields = {"apiStaticHeaders": {"X": BAD_TEMPLATE}}
    assert found(fields, "API_CALL", flowVariables={"a": BAD_TEMPLATE}) == []


def test_both_spellings_of_the_whole_context_are_paths():
    step = {"stepType": "NO_OP", "outputMappings": {"$": "$.", "$.a": "$"}}
    raw = {"id": "x", "startStepInstanceId": "a", "steps": {"a": step}}
    assert parse_flow(raw, checks=FlowChecks(BracketChecks()))


def test_a_message_never_shows_a_template():
    step = {
        "stepType": "API_CALL",
        "apiHttpMethod": "GET",
        "apiUrlTemplate": {"template": "https://x.test"},
        "apiHeadersTemplate": {"Authorization": "Bearer s3cr3t {{a"},
    }
    raw = {"id": "x", "startStepInstanceId": "a", "steps": {"a": step}}
    diagnostics = check_flow(raw, checks=FlowChecks(BracketChecks())).diagnostics
    assert diagnostics
    assert "s3cr3t" not in "".join(one.message for one in diagnostics)
