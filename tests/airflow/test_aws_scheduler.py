"""All steps that call AWS in one flow on a real scheduler: the main path, mapped tasks and a chunk."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from demo.servers import aws_connection
from tests.airflow.finished_run import FinishedRun
from tests.airflow.flows import branch, flow, fork
from tests.support.aws_setup import make_table
from tests.support.fake_lambda import function_error
from tests.support.moto import EndpointClients

pytestmark = pytest.mark.scheduler

CHUNKED = 50
MAPPED = 2


def call_steps(prefix, after=None):
    """Return one step of each kind, each followed by the next one; ``after`` follows the last one."""
    steps = {
        "send": {
            "stepType": "SQS_SEND",
            "customConfig": {"queueUrl": "{{queue}}"},
            "inputMappings": {"payload.n": "$.currentItem.n"},
        },
        "publish": {
            "stepType": "SNS_SEND",
            "inputMappings": {"topicArn": "$.topic", "payload": {"n": "$.currentItem.n"}},
        },
        "quote": {
            "stepType": "CUSTOM_LAMBDA_INVOKE",
            "lambdaFunctionArnTemplate": "quote",
            "payloadTemplate": {"n": "$.currentItem.n"},
        },
        "depth": {
            "stepType": "DATA_LOAD",
            "moduleIdentifier": "system/sqs-get-queue-attributes",
            "customConfig": {"queueUrl": "{{empty}}", "attributeNames": ["DelaySeconds"]},
        },
        "take": {
            "stepType": "DATA_LOAD",
            "moduleIdentifier": "system/sqs-receive-messages",
            "customConfig": {"queueUrl": "{{empty}}"},
        },
        "mark": {
            "stepType": "DATA_SAVE",
            "moduleIdentifier": "system/dynamodb-update-item",
            "customConfig": {"tableName": "{{table}}", "updateExpression": "ADD seen :one"},
            "literals": {"key.id": "i-{{currentItem.n}}", "expressionAttributeValues": {":one": 1}},
        },
        "claim": {
            "stepType": "DATA_SAVE",
            "moduleIdentifier": "system/dynamodb-query-and-update",
            "customConfig": {
                "query": {
                    "tableName": "{{table}}",
                    "keyConditionExpression": "id = :id",
                    "expressionAttributeValues": {":id": "i-{{currentItem.n}}"},
                },
                "update": {
                    "updateExpression": "SET #s = :c",
                    "expressionAttributeNames": {"#s": "state"},
                    "expressionAttributeValues": {":c": "busy"},
                },
            },
        },
    }
    names = [f"{prefix}{name}" for name in steps]
    following = [*names[1:], after]
    return {
        name: {**step, **({"defaultNextStepInstanceId": target} if target else {})}
        for name, step, target in zip(names, steps.values(), following, strict=True)
    }


def test_all_steps_of_aws_run_on_the_main_path_in_mapped_tasks_and_in_a_chunk(
    airflow_client, deploy, moto_endpoint, fake_lambda
):
    mark = uuid4().hex[:8]
    clients = EndpointClients(moto_endpoint)
    sqs = clients.client("sqs")
    queue, empty = (sqs.create_queue(QueueName=f"{name}-{mark}")["QueueUrl"] for name in ("all", "empty"))
    topic = clients.client("sns").create_topic(Name=f"all-{mark}")["TopicArn"]
    make_table(clients, f"all-{mark}", [])
    fake_lambda.answer("rejected", function_error({"errorType": "OrderRejected", "errorMessage": "no stock"}))
    connection = aws_connection(moto_endpoint)
    connection["extra"]["service_config"] = {"lambda": {"endpoint_url": fake_lambda.url}}
    airflow_client.call(
        "POST",
        "connections",
        body={
            "connection_id": f"aws_{mark}",
            "conn_type": "aws",
            "login": connection["login"],
            "password": connection["password"],
            "extra": json.dumps(connection["extra"]),
        },
    )
    rejected = {
        "stepType": "CUSTOM_LAMBDA_INVOKE",
        "lambdaFunctionArnTemplate": "rejected",
        "onError": {
            "retries": {"count": 1, "intervalSeconds": 1, "errorEquals": ["OrderRejected"]},
            "continueOnFailure": True,
        },
    }
    steps = {
        **call_steps("", "mapped"),
        "mapped": fork(branch("b_send"), items="$.few", to="chunked"),
        "chunked": fork(branch("b_send"), items="$.many", to="rejected"),
        "rejected": rejected,
        **call_steps("b_"),
    }
    options = {
        "awsConnId": f"aws_{mark}",
        "branchGranularity": "branch",
        "maxInMemoryItems": 10,
        "maxChunks": 1,
        "chunkConcurrency": 8,
    }
    deploy(flow("all-of-aws", steps, airflow=options))
    payload = {"queue": queue, "empty": empty, "topic": topic, "table": f"all-{mark}"}
    ran = FinishedRun(
        airflow_client,
        "all-of-aws",
        {
            **payload,
            "currentItem": {"n": 0},
            "few": [{"n": n} for n in range(MAPPED)],
            "many": [{"n": n} for n in range(CHUNKED)],
        },
    )
    assert ran.state == "success"
    assert ran.states("chunked.chunk") == {0: "success"}
    assert ran.states("mapped.chunk") == {-1: "skipped"}
    expected = [{"updatedItemCount": 1, "items": [{"id": f"i-{n}", "state": "busy"}]} for n in range(CHUNKED)]
    for task, count in (("mapped.aggregate", MAPPED), ("chunked.aggregate", CHUNKED)):
        outputs = ran.xcom(task)["aggregatedData"]
        for output in outputs:
            for item in output["items"]:
                del item["seen"]
        assert outputs == expected[:count]
    calls = 1 + MAPPED + CHUNKED
    assert len(fake_lambda.payloads("quote")) == calls
    names = ["ApproximateNumberOfMessages"]
    sent = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    assert sent == {names[0]: str(calls)}
    seen = clients.client("dynamodb").scan(TableName=f"all-{mark}")["Items"]
    assert sum(int(item["seen"]["N"]) for item in seen) == calls
    # Airflow's own retry, because `errorEquals` names the error of the function.
    assert ran.try_numbers("rejected") == {-1: 2}
    assert len(fake_lambda.payloads("rejected")) == 2
    assert ran.xcom("rejected")["errorName"] == "OrderRejected"
    log = ran.logs("send")
    assert "sqs SendMessage" in log
    assert queue in log
