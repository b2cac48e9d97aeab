"""Steps that call AWS have the same result on the command line, as a task, in mapped tasks and in a chunk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from demo.servers import aws_connection
from tests.airflow.flows import branch, flow, fork
from tests.support.aws_setup import make_table
from tests.support.cli import run_cli, write_file
from tests.support.fake_lambda import running_lambda
from tests.support.moto import REGION, EndpointClients

pytestmark = pytest.mark.airflow

SOME = 60
MANY = 1000
IDS = {"correlationId", "mark", "messageId", "receiptHandle", "snsMessageId", "sqsMessageId"}
MESSAGES = 12
Json = dict[str, Any]


@dataclass(frozen=True)
class Resources:
    """What the steps call; the names of one test session."""

    clients: EndpointClients
    lambda_url: str
    queue: str
    full_queue: str
    idle_queue: str
    topic: str
    table: str

    @property
    def payload(self) -> Json:
        return {
            "queue": self.queue,
            "fullQueue": self.full_queue,
            "idleQueue": self.idle_queue,
            "topic": self.topic,
            "table": self.table,
        }

    def waiting(self, queue: str) -> int:
        """Return how many messages a queue has."""
        names = ["ApproximateNumberOfMessages"]
        found = self.clients.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)
        return int(found["Attributes"][names[0]])


@dataclass(frozen=True)
class Case:
    """A step that is run for items ``{"n": number}``, and its output."""

    step: Json
    output: Callable[[int], Json]


MESSAGE = {"messageId": "*", "receiptHandle": "*", "body": "work", "attributes": "*"}
CASES = {
    "SQS_SEND": Case(
        {
            "stepType": "SQS_SEND",
            "moduleIdentifier": "system/sqs-send",
            "customConfig": {"queueUrl": "{{queue}}"},
            "literals": {"payload.kind": "bill"},
            "inputMappings": {"payload.no": "$.currentItem.n"},
        },
        lambda n: {"sqsMessageId": "*"},
    ),
    "SNS_PUBLISH": Case(
        {
            "stepType": "MESSAGING",
            "moduleIdentifier": "system/sns-publish",
            "payload": {"kind": "bill"},
            "inputMappings": {"topicArn": "$.topic", "payload.no": "$.currentItem.n"},
        },
        lambda n: {"snsMessageId": "*"},
    ),
    "CUSTOM_LAMBDA_INVOKE": Case(
        {
            "stepType": "CUSTOM_LAMBDA_INVOKE",
            "lambdaFunctionArnTemplate": "arn:aws:lambda:eu-central-1:000011112222:function:quote",
            "payloadTemplate": {"no": "$.currentItem.n"},
        },
        lambda n: {"echo": {"no": n, "correlationId": "*"}},
    ),
    "sqs-receive-messages": Case(
        {
            "stepType": "DATA_LOAD",
            "moduleIdentifier": "system/sqs-receive-messages",
            "customConfig": {"queueUrl": "{{fullQueue}}", "maxNumberOfMessages": 1},
        },
        lambda n: {"messages": [MESSAGE], "messageCount": 1},
    ),
    "sqs-get-queue-attributes": Case(
        {
            "stepType": "DATA_LOAD",
            "moduleIdentifier": "system/sqs-get-queue-attributes",
            "customConfig": {"queueUrl": "$.idleQueue", "attributeNames": ["DelaySeconds"]},
        },
        lambda n: {"attributes": {"DelaySeconds": 0}},
    ),
    "dynamodb-update-item": Case(
        {
            "stepType": "DATA_SAVE",
            "moduleIdentifier": "system/dynamodb-update-item",
            "customConfig": {
                "tableName": "{{table}}",
                "key": {"id": "i-{{currentItem.k}}"},
                "updateExpression": "SET mark = :m",
            },
            # moto returns only what has changed
            "literals": {"expressionAttributeValues.:m": "{{flowExecutionId}} {{currentItem.n}}"},
        },
        lambda n: {"updatedAttributes": {"mark": "*"}},
    ),
    "dynamodb-query-and-update": Case(
        {
            "stepType": "DATA_SAVE",
            "moduleIdentifier": "system/dynamodb-query-and-update",
            "customConfig": {
                "query": {
                    "tableName": "{{table}}",
                    "keyConditionExpression": "id = :id",
                    "expressionAttributeValues": {":id": "i-{{currentItem.k}}"},
                    "keyAttributes": ["id"],
                },
                "update": {
                    "updateExpression": "SET #s = :c",
                    "expressionAttributeNames": {"#s": "state"},
                    "expressionAttributeValues": {":c": "busy"},
                },
            },
        },
        lambda n: {"updatedItemCount": 1, "items": [{"id": f"i-{n % 10}", "state": "busy", "mark": "*"}]},
    ),
}


@pytest.fixture(scope="module")
def resources(moto_endpoint):
    mark = uuid4().hex[:8]
    with running_lambda() as functions:
        clients = EndpointClients(moto_endpoint)
        sqs = clients.client("sqs")
        queue, full, idle = (
            sqs.create_queue(QueueName=f"{name}-{mark}")["QueueUrl"] for name in ("some", "full", "idle")
        )
        for _ in range(MESSAGES):
            sqs.send_message(QueueUrl=full, MessageBody="work")
        topic = clients.client("sns").create_topic(Name=f"some-{mark}")["TopicArn"]
        table = f"some-{mark}"
        make_table(clients, table, [{"id": f"i-{n}", "state": "new", "mark": "0"} for n in range(10)])
        yield Resources(clients, functions.url, queue, full, idle, topic, table)


@pytest.fixture
def environment(resources, monkeypatch):
    """The connection of Dags, and the environment of the command line."""
    connection = aws_connection(resources.clients.endpoint)
    connection["extra"]["service_config"] = {"lambda": {"endpoint_url": resources.lambda_url}}
    for name, value in {
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
        "AWS_ENDPOINT_URL": resources.clients.endpoint,
        "AWS_ENDPOINT_URL_LAMBDA": resources.lambda_url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)


def without_ids(value: Any) -> Any:
    """Return an output with a star in place of what differs from run to run."""
    if isinstance(value, dict):
        ids = IDS | {"attributes"} if "messageId" in value else IDS
        return {key: "*" if key in ids and item else without_ids(item) for key, item in value.items()}
    return [without_ids(item) for item in value] if isinstance(value, list) else value


def on_command_line(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del run
    file = write_file(tmp_path, "flow.json", flow("once", {"w": step}))
    ended = run_cli("run", file, "--payload", json.dumps({**payload, "currentItem": {"n": 0, "k": 0}}))
    assert ended.code == 0, ended.out
    return [ended.json["context"]["steps_output"]["w"]]


def as_a_task(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del tmp_path
    ended = run({"w": step}, {**payload, "currentItem": {"n": 0, "k": 0}})
    assert ended.state == "success"
    return [ended.xcom("w")]


def over(count: int, step: Json, payload: Json, run: Any, **options: Any) -> list[Any]:
    steps = {"f": fork(branch("w")), "w": step}
    items = [{"n": n, "k": n % 10} for n in range(count)]
    ended = run(steps, {**payload, "items": items}, airflow=options)
    assert ended.state == "success"
    chunked = options.get("maxInMemoryItems") == 1
    assert ended.task("f.chunk", 0 if chunked else -1).state == ("success" if chunked else "skipped")
    aggregated: list[Any] = ended.xcom("f.aggregate")["aggregatedData"]
    return aggregated


def in_mapped_tasks(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del tmp_path
    return over(2, step, payload, run)


def in_a_chunk(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del tmp_path
    return over(SOME, step, payload, run, maxInMemoryItems=1, maxChunks=1, chunkConcurrency=8)


def in_a_large_chunk(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del tmp_path
    return over(MANY, step, payload, run, maxInMemoryItems=1, maxChunks=1, chunkConcurrency=8)


@pytest.mark.parametrize(
    "way",
    [
        on_command_line,
        as_a_task,
        in_mapped_tasks,
        in_a_chunk,
        pytest.param(in_a_large_chunk, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("environment")
def test_a_step_has_the_same_result_in_each_way_to_run(name, way, resources, run, tmp_path):
    case = CASES[name]
    sent, left = resources.waiting(resources.queue), resources.waiting(resources.full_queue)
    outputs = [without_ids(output) for output in way(case.step, resources.payload, tmp_path, run)]
    expected = [case.output(n) for n in range(len(outputs))]
    if name == "sqs-receive-messages" and way in {in_a_chunk, in_a_large_chunk}:
        # Which calls get the messages that are left is up to the queue.
        expected = expected[:left] + [{"messages": [], "messageCount": 0}] * (len(outputs) - left)
        outputs.sort(key=lambda output: -output["messageCount"])
    assert outputs == expected
    assert resources.waiting(resources.queue) - sent == (len(outputs) if name == "SQS_SEND" else 0)
