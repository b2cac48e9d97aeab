from __future__ import annotations

import pytest

from airflow_allma.engine.modules import MODULES, ModuleContext, module_problem, run_module
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import StepType

LOAD, SAVE, TRANSFORM = StepType.DATA_LOAD, StepType.DATA_SAVE, StepType.DATA_TRANSFORMATION
SQS, SNS = StepType.SQS_SEND, StepType.SNS_PUBLISH
STEP_TYPES = {
    "system/array-aggregator": {LOAD, TRANSFORM},
    "system/compose-object-from-input": {LOAD, TRANSFORM},
    "system/date-time-calculator": {LOAD, TRANSFORM},
    "system/ddb-query-to-s3-manifest": {LOAD},
    "system/dynamodb-data-loader": {LOAD},
    "system/dynamodb-query-and-update": {LOAD, SAVE},
    "system/dynamodb-update-item": {LOAD, SAVE},
    "system/flatten-array": {LOAD, TRANSFORM},
    "system/generate-array": {LOAD, TRANSFORM},
    "system/generate-uuid": {TRANSFORM},
    "system/join-data": {TRANSFORM},
    "system/s3-data-loader": {LOAD},
    "system/s3-data-saver": {LOAD, SAVE},
    "system/s3-list-files": {LOAD},
    "system/sns-publish": {SNS},
    "system/sqs-get-queue-attributes": {LOAD},
    "system/sqs-receive-messages": {LOAD},
    "system/sqs-send": {SQS},
}


def test_every_module_runs_in_its_documented_step_types_only():
    assert MODULES.keys() == STEP_TYPES.keys()
    for identifier, expected in STEP_TYPES.items():
        assert MODULES[identifier].identifier == identifier
        for step_type in (LOAD, SAVE, TRANSFORM, SQS, SNS):
            assert (module_problem(step_type, identifier) is None) == (step_type in expected), identifier


def test_only_compose_object_accepts_any_input():
    assert [m.identifier for m in MODULES.values() if m.input_model is None] == [
        "system/compose-object-from-input"
    ]


def test_modules_that_do_io_are_marked_as_blocking():
    assert {m.identifier for m in MODULES.values() if m.blocking} == {
        "system/ddb-query-to-s3-manifest",
        "system/dynamodb-data-loader",
        "system/dynamodb-query-and-update",
        "system/dynamodb-update-item",
        "system/s3-data-loader",
        "system/s3-list-files",
        "system/s3-data-saver",
        "system/sns-publish",
        "system/sqs-get-queue-attributes",
        "system/sqs-receive-messages",
        "system/sqs-send",
    }


@pytest.mark.parametrize(
    ("step_type", "identifier", "message"),
    [
        ("DATA_SAVE", "system/flatten-array", "set stepType to DATA_TRANSFORMATION"),
        ("DATA_LOAD", "system/join-data", "set stepType to DATA_TRANSFORMATION"),
        ("DATA_TRANSFORMATION", "system/s3-data-saver", "set stepType to DATA_SAVE"),
        ("DATA_SAVE", "system/s3-list-files", "set stepType to DATA_LOAD"),
        ("DATA_SAVE", "system/sqs-receive-messages", "set stepType to DATA_LOAD"),
        ("DATA_SAVE", "system/sqs-send", "set stepType to SQS_SEND"),
        ("DATA_LOAD", "system/start-flow-execution", "set stepType to START_FLOW_EXECUTION"),
        ("DATA_LOAD", "system/api-call", "set stepType to API_CALL"),
        ("DATA_TRANSFORMATION", "system/flaten-array", "did you mean 'system/flatten-array'?"),
        ("DATA_TRANSFORMATION", "system/zzz", "known modules: system/array-aggregator"),
        ("DATA_LOAD", "", "moduleIdentifier is missing"),
    ],
)
def test_the_problem_of_a_module_says_what_to_do(step_type, identifier, message):
    assert message in module_problem(step_type, identifier)


def test_step_types_can_be_members_of_the_enum():
    assert module_problem(StepType.DATA_LOAD, "system/s3-list-files") is None


def test_running_an_unknown_module_is_a_step_error():
    with pytest.raises(PermanentStepError, match="did you mean 'system/s3-list-files'"):
        run_module("system/s3-list-file", {})


def test_an_invalid_input_names_all_invalid_fields_without_their_values():
    with pytest.raises(PermanentStepError) as caught:
        run_module(
            "system/ddb-query-to-s3-manifest",
            {
                "query": {"tableName": "", "expressionAttributeValues": {":a": 1}},
                "destination": "hunter2",
                "enableItemOffloading": "true",
            },
            ModuleContext(),
        )
    message = caught.value.message
    assert "system/ddb-query-to-s3-manifest" in message
    for path in (
        "$.query.tableName",
        "$.query.keyConditionExpression",
        "$.destination",
        "$.enableItemOffloading",
    ):
        assert path in message
    assert "a JSONPath alone keeps the type" in message
    assert "hunter2" not in str(caught.value.as_dict())
    assert [problem["path"] for problem in caught.value.details["problems"]][:2] == [
        "$.query.tableName",
        "$.query.keyConditionExpression",
    ]


def test_the_path_of_an_unusual_key_is_quoted():
    with pytest.raises(PermanentStepError, match=r"\$\.query\.expressionAttributeNames\['#a b'\]"):
        run_module(
            "system/ddb-query-to-s3-manifest",
            {
                "query": {
                    "tableName": "t",
                    "keyConditionExpression": "a = :a",
                    "expressionAttributeValues": {},
                    "expressionAttributeNames": {"#a b": 1},
                },
                "destination": {"bucketName": "b", "key": "k"},
            },
        )


@pytest.mark.parametrize(
    ("identifier", "inputs", "message"),
    [
        ("system/s3-list-files", {"bucket": "b"}, "no store is configured"),
        ("system/dynamodb-data-loader", {"operation": "SCAN", "tableName": "t"}, "no AWS credentials"),
    ],
)
def test_a_missing_store_or_aws_connection_is_a_clear_error(identifier, inputs, message):
    with pytest.raises(PermanentStepError, match=message):
        run_module(identifier, inputs)
