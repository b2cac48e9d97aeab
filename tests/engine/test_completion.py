"""The actions after a run: when they run, what each type sends, and what its failure changes."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from airflow_allma.engine import RunState
from airflow_allma.engine.completion import (
    ActionStatus,
    FinalStatus,
    RunEnd,
    completion_actions,
    run_action,
)
from airflow_allma.engine.http_fake import json_response
from airflow_allma.engine.own_modules import OwnModules
from airflow_allma.storage import MemoryStore, Pointer
from tests.support.engine import INFO, Fakes, flow_of, noop
from tests.support.moto import EndpointClients

URL = "https://hooks.test/done"
POST = {"actionType": "API_CALL", "target": URL, "apiHttpMethod": "POST", "executeOnStatus": "ANY"}
CONTEXT = {"order": {"id": 7, "tags": ["a", "b"]}, "steps_output": {}, "flow_variables": {"stage": "test"}}
ERROR = {"errorName": "PermanentStepError", "errorMessage": "no", "errorDetails": {}, "isRetryable": False}
COMPLETED = RunEnd(FinalStatus.COMPLETED, "2026-03-01T00:01:00.000Z")
FAILED = RunEnd(FinalStatus.FAILED, "2026-03-01T00:01:00.000Z", 2, ERROR)


def do(*actions, end=COMPLETED, context=CONTEXT, fakes=None, **services):
    """Run the actions of a flow after a run; return their results and the fakes."""
    flow = flow_of({"a": noop()}, onCompletionActions=list(actions))
    fakes = fakes or Fakes()
    state = RunState(None, dict(context))

    async def all_of_them():
        made = fakes.services(**services)
        return [await run_action(one, state, INFO, end, made) for one in completion_actions(flow)]

    results = asyncio.run(all_of_them())
    assert state.context == context
    return results, fakes


def posted(action=POST, **arguments):
    fakes = Fakes()
    fakes.http.route("POST", "http*", json_response({"ok": True}))
    ((result,), _) = do(action, fakes=fakes, **arguments)
    assert result.status is ActionStatus.DONE, result
    (request,) = fakes.http.requests
    return request


def statuses(**fields):
    return [
        do({"actionType": "LOG_ONLY", **fields}, end=RunEnd(status, "2026-03-01T00:01:00.000Z"))[0][0].status
        for status in FinalStatus
    ]


DONE, SKIPPED = ActionStatus.DONE, ActionStatus.SKIPPED


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [DONE, SKIPPED, SKIPPED, SKIPPED]),
        ({"executeOnStatus": "COMPLETED"}, [DONE, SKIPPED, SKIPPED, SKIPPED]),
        ({"executeOnStatus": "FAILED"}, [SKIPPED, DONE, DONE, DONE]),
        ({"executeOnStatus": "ANY"}, [DONE, DONE, DONE, DONE]),
        (
            {"executeOnStatus": "ANY", "condition": "$.status == 'TIMED_OUT'"},
            [SKIPPED, SKIPPED, DONE, SKIPPED],
        ),
    ],
)
def test_an_action_runs_for_its_status_and_if_its_condition_is_true(fields, expected):
    assert statuses(**fields) == expected


def test_a_payload_is_made_of_the_final_data_and_of_the_state():
    paths = {
        "order": "$.order",
        "run": "$.flowExecutionId",
        "state": "$.status",
        "why": "$.errorInfo.errorName",
        "at": "$.endTime",
        "none": "$.nothing",
        "data": "$.currentContextData.order.id",
    }
    request = posted({**POST, "payloadTemplate": paths}, end=FAILED)
    assert json.loads(request.body) == {
        "order": {"id": 7, "tags": ["a", "b"]},
        "run": "run-1",
        "state": "FAILED",
        "why": "PermanentStepError",
        "at": "2026-03-01T00:01:00.000Z",
        "data": 7,
    }


def test_data_comes_before_the_state_of_the_same_name():
    request = posted({**POST, "payloadTemplate": {"s": "$.status"}}, context={**CONTEXT, "status": "shipped"})
    assert json.loads(request.body) == {"s": "shipped"}


def test_a_request_without_a_payload_has_no_body():
    assert posted().body is None


def test_each_action_has_an_id_of_run_end_and_index():
    fakes = Fakes()
    fakes.http.route("POST", "http*", json_response({}))
    do(POST, {"actionType": "LOG_ONLY"}, POST, end=FAILED, fakes=fakes)
    assert [one.headers["Idempotency-Key"] for one in fakes.http.requests] == ["run-1-2-0", "run-1-2-2"]


def test_placeholders_of_a_target_become_empty():
    assert posted({**POST, "target": f"{URL}?id={{{{order.id}}}}"}).url == f"{URL}?id="


def test_transient_failures_are_retried_and_others_are_the_result():
    fakes = Fakes()
    fakes.http.route("POST", "http*", *[json_response({}, status=503)] * 3, json_response({}))
    ((result,), _) = do(POST, fakes=fakes)
    assert (result.status, len(fakes.http.requests)) == (DONE, 4)
    assert len({one.headers["Idempotency-Key"] for one in fakes.http.requests}) == 1

    fakes = Fakes()
    fakes.http.route("POST", "http*", json_response({}, status=404))
    ((result, after), _) = do(POST, {"actionType": "LOG_ONLY"}, fakes=fakes)
    assert (result.status, result.error.retryable, after.status) == (ActionStatus.FAILED, False, DONE)
    assert "404" in str(result.error)
    assert fakes.record("onCompletionActions[0]").error["errorName"] == "PermanentStepError"


def test_a_log_only_action_writes_its_payload(caplog):
    with caplog.at_level(logging.INFO, "airflow_allma.engine"):
        do({"actionType": "LOG_ONLY", "payloadTemplate": {"id": "$.order.id"}})
    assert 'onCompletionActions[0]: {"id":7}' in caplog.text


@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("kind", ["SQS_SEND", "SQS_SEND by ARN", "SNS_SEND"])
def test_messages_have_the_payload_the_attributes_and_the_id(moto_endpoint, kind, fifo):
    clients = EndpointClients(moto_endpoint)
    sqs, name = clients.client("sqs"), f"end-{kind.replace(' ', '-')}{'.fifo' if fifo else ''}"
    queue = sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"} if fifo else {})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    target = arn if "ARN" in kind else queue
    if kind == "SNS_SEND":
        sns = clients.client("sns")
        target = sns.create_topic(Name=name, Attributes={"FifoTopic": "true"} if fifo else {})["TopicArn"]
        sns.subscribe(
            TopicArn=target, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
        )
    action = {
        "actionType": kind.partition(" ")[0],
        "target": target,
        "payloadTemplate": {"id": "$.order.id", "state": "$.status"},
        "messageAttributesTemplate": {
            "n": "$.order.id",
            "tags": "$.order.tags",
            "stage": "$.flow_variables.stage",
        },
    }
    # Twice, as a worker that dies after sending does it.
    for _ in range(2):
        ((result,), _) = do(action, aws=clients)
        assert result.status is DONE, result.error
    got = sqs.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=0
    )["Messages"]
    assert len(got) == (1 if fifo else 2)
    assert json.loads(got[0]["Body"]) == {"id": 7, "state": "COMPLETED"}
    attributes = {
        key: (value["DataType"], value["StringValue"]) for key, value in got[0]["MessageAttributes"].items()
    }
    assert attributes == {
        "Idempotency-Key": ("String", "run-1-0-0"),
        "n": ("Number", "7"),
        "tags": ("String.Array", '["a","b"]'),
        "stage": ("String", "test"),
    }


def test_a_function_gets_an_event_that_nobody_waits_for(fake_lambda):
    action = {
        "actionType": "CUSTOM_LAMBDA_INVOKE",
        "target": "done",
        "payloadTemplate": {"id": "$.order.id", "a b": "$.order.tags"},
    }
    ((result,), _) = do(action, aws=EndpointClients(fake_lambda.url))
    assert result.status is DONE, result.error
    ((name, _, headers, payload),) = fake_lambda.requests
    assert (name, headers["X-Amz-Invocation-Type"]) == ("done", "Event")
    assert json.loads(payload) == {
        "correlationId": "run-1",
        "idempotencyKey": "run-1-0-0",
        "id": 7,
        "a b": ["a", "b"],
    }


def test_data_is_saved_by_a_module_with_rendered_settings():
    store = MemoryStore()
    action = {
        "actionType": "DATA_SAVE",
        "moduleIdentifier": "system/s3-data-saver",
        "customConfig": {"destinationS3UriTemplate": "s3://ends/{{status}}/{{flowExecutionId}}.json"},
        "payloadTemplate": {"contentToSave": "$.order"},
        "executeOnStatus": "FAILED",
    }
    ((result,), fakes) = do(action, end=FAILED, store=store)
    assert result.status is DONE, result.error
    record = fakes.record("onCompletionActions[0]")
    assert (record.step_type, record.output["bucket"], record.meta["status"]) == (
        "DATA_SAVE",
        "ends",
        "SUCCESS",
    )
    assert record.seconds < 60
    assert json.loads(store.read(Pointer("ends", "FAILED/run-1.json"), 0, 1000)) == CONTEXT["order"]


def test_data_can_be_saved_by_a_module_of_the_installation(fake_lambda):
    modules = OwnModules(json.dumps({"acme/archive": {"lambdaArn": "archive"}}))
    action = {
        "actionType": "DATA_SAVE",
        "moduleIdentifier": "acme/archive",
        "payloadTemplate": {"o": "$.order"},
    }
    from airflow_allma.flow import Flow

    flow = Flow.model_validate(
        {
            "id": "shop",
            "startStepInstanceId": "a",
            "steps": {"a": noop()},
            "onCompletionActions": [action],
        }
    )
    services = Fakes().services(aws=EndpointClients(fake_lambda.url), own_modules=modules)
    (compiled,) = completion_actions(flow)
    result = asyncio.run(run_action(compiled, RunState(None, CONTEXT), INFO, COMPLETED, services))
    assert result.status is DONE, result.error
    (sent,) = fake_lambda.payloads("archive")
    assert sent["stepInput"] == {"idempotencyKey": "run-1-0-0", "o": CONTEXT["order"]}
