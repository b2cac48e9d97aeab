"""``system/sqs-receive-messages`` and ``system/sqs-get-queue-attributes``."""

from __future__ import annotations

import itertools
import logging

import pytest
from botocore.exceptions import ClientError

from airflow_allma.engine.modules import ModuleContext, run_module
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.storage import MemoryStore
from tests.support.engine import compose, fork, run, then
from tests.support.moto import EndpointClients

_numbers = itertools.count()


@pytest.fixture
def clients(moto_endpoint):
    return EndpointClients(moto_endpoint)


@pytest.fixture
def queue(clients):
    """The URL of a queue with twelve messages."""
    sqs = clients.client("sqs")
    url = sqs.create_queue(QueueName=f"received-{next(_numbers)}")["QueueUrl"]
    attribute = {
        "n": {"DataType": "Number", "StringValue": "1"},
        "b": {"DataType": "Binary", "BinaryValue": b"\xff"},
    }
    for number in range(12):
        sqs.send_message(
            QueueUrl=url, MessageBody=f'{{"n": {number}}}', MessageAttributes=attribute if number == 0 else {}
        )
    return url


def receive(clients, queue, **inputs):
    return run_module(
        "system/sqs-receive-messages", {"queueUrl": queue, **inputs}, ModuleContext(aws=clients)
    )


def remaining(clients, queue):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = clients.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return tuple(int(found[name]) for name in names)


def test_messages_are_received_and_deleted(clients, queue):
    output = receive(clients, queue)
    assert output["messageCount"] == len(output["messages"]) == 10
    first = output["messages"][0]
    assert first.keys() == {"messageId", "receiptHandle", "body", "attributes", "messageAttributes"}
    assert first["body"] == '{"n": 0}'
    assert first["attributes"]["ApproximateReceiveCount"] == "1"
    assert first["messageAttributes"]["b"] == {"DataType": "Binary", "BinaryValue": "/w=="}
    assert "messageAttributes" not in output["messages"][1]
    assert remaining(clients, queue) == (2, 0)
    assert receive(clients, queue)["messageCount"] == 2
    assert receive(clients, queue) == {
        "messages": [],
        "messageCount": 0,
        "_meta": {"status": "SUCCESS", "notDeleted": 0},
    }


def test_messages_that_are_not_deleted_come_again(clients, queue):
    assert receive(clients, queue, deleteMessages=False, maxNumberOfMessages=3)["messageCount"] == 3
    assert remaining(clients, queue) == (9, 3)


def test_numbers_may_come_from_templates(clients, queue):
    step = {
        "stepType": "DATA_LOAD",
        "moduleIdentifier": "system/sqs-receive-messages",
        "customConfig": {"queueUrl": "{{q}}", "maxNumberOfMessages": "{{n}}", "waitTimeSeconds": " 1 "},
    }
    ran = run({"take": step}, {"q": queue, "n": 4}, aws=clients)
    assert ran.outputs["take"]["messageCount"] == 4
    operations = [(call.operation, call.resource) for call in ran.fakes.record("take").calls.last]
    assert operations == [("ReceiveMessage", queue), ("DeleteMessageBatch", queue)]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"maxNumberOfMessages": 11}, "$.maxNumberOfMessages: input should be less than or equal to 10"),
        ({"maxNumberOfMessages": "11"}, "$.maxNumberOfMessages: input should be less than or equal to 10"),
        ({"maxNumberOfMessages": "9" * 5000}, "$.maxNumberOfMessages"),
        ({"maxNumberOfMessages": 0}, "$.maxNumberOfMessages"),
        ({"maxNumberOfMessages": True}, "$.maxNumberOfMessages"),
        ({"maxNumberOfMessages": "ten"}, "$.maxNumberOfMessages"),
        ({"maxNumberOfMessages": "²"}, "$.maxNumberOfMessages"),
        ({"waitTimeSeconds": 21}, "$.waitTimeSeconds"),
        ({"waitTimeSeconds": -1}, "$.waitTimeSeconds"),
        ({"deleteMessages": "false"}, "$.deleteMessages"),
        ({"queueUrl": "orders"}, "$.queueUrl: is not a URL"),
    ],
)
def test_settings_that_sqs_refuses_are_errors_before_the_call(inputs, message):
    with pytest.raises(PermanentStepError) as caught:
        receive(
            None,
            **{
                "queue": "http://127.0.0.1:1/1/q",
                **({"queue": inputs.pop("queueUrl")} if "queueUrl" in inputs else {}),
                **inputs,
            },
        )
    assert message in caught.value.message


class ExpiredReceipt:
    """A queue with two messages, of which the second cannot be deleted."""

    connection = "test connection 'expired'"

    def client(self, service, region=None, *, retries=True):
        return self

    class meta:  # noqa: N801 - as boto3 calls it
        endpoint_url = "http://127.0.0.1:1"

        class events:  # noqa: N801
            register = staticmethod(lambda *_: None)

    def receive_message(self, **_):
        return {"Messages": [{"MessageId": f"m{n}", "ReceiptHandle": f"r{n}", "Body": ""} for n in range(2)]}

    def delete_message_batch(self, *, Entries, **_):  # noqa: N803
        assert [entry["ReceiptHandle"] for entry in Entries] == ["r0", "r1"]
        failed = {"Id": "1", "Code": "ReceiptHandleIsInvalid", "Message": "The receipt handle has expired"}
        return {"Successful": [{"Id": "0"}], "Failed": [failed]}


def test_a_receipt_that_has_expired_is_a_warning_and_the_message_is_returned(caplog):
    with caplog.at_level(logging.WARNING):
        output = receive(ExpiredReceipt(), "http://127.0.0.1:1/1/q")
    assert [message["messageId"] for message in output["messages"]] == ["m0", "m1"]
    assert output["_meta"]["notDeleted"] == 1
    assert "ReceiptHandleIsInvalid: message m1 is not deleted and will be received again" in caplog.text


def test_an_unknown_queue_names_queue_connection_and_setting(clients):
    url = "http://127.0.0.1/123456789012/none"
    for module, inputs in (
        ("system/sqs-receive-messages", {}),
        ("system/sqs-get-queue-attributes", {"attributeNames": ["All"]}),
    ):
        with pytest.raises(PermanentStepError) as caught:
            run_module(module, {"queueUrl": url, **inputs}, ModuleContext(aws=clients))
        assert caught.value.error_name == "QueueDoesNotExist"
        for part in (url, "test connection 'moto'", "`queueUrl`", "[allma] aws_conn_id"):
            assert part in caught.value.message


def test_throttling_while_messages_are_deleted_is_transient():
    class Throttled(ExpiredReceipt):
        def delete_message_batch(self, **_):
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow"}}, "Delete")

    step = {
        "stepType": "DATA_LOAD",
        "moduleIdentifier": "system/sqs-receive-messages",
        "customConfig": {"queueUrl": "http://127.0.0.1:1/1/q"},
    }
    ran = run({"take": step}, aws=Throttled())
    assert (ran.error["errorName"], ran.fakes.record("take").tries) == ("TransientStepError", 5)


def test_numeric_attributes_are_numbers(clients):
    sqs = clients.client("sqs")
    url = sqs.create_queue(
        QueueName=f"attributes-{next(_numbers)}.fifo",
        Attributes={"FifoQueue": "true", "VisibilityTimeout": "45", "ContentBasedDeduplication": "true"},
    )["QueueUrl"]
    inputs = {"queueUrl": url, "attributeNames": ["All"]}
    found = run_module("system/sqs-get-queue-attributes", inputs, ModuleContext(aws=clients))["attributes"]
    assert found["VisibilityTimeout"] == 45
    assert isinstance(found["VisibilityTimeout"], int)
    assert found["FifoQueue"] == "true"
    assert found["QueueArn"].startswith("arn:aws:sqs:")
    one = {"queueUrl": url, "attributeNames": ["DelaySeconds"]}
    output = run_module("system/sqs-get-queue-attributes", one, ModuleContext(aws=clients))
    assert output == {"attributes": {"DelaySeconds": 0}, "_meta": {"status": "SUCCESS"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("", 0),
        ("1.5", 1.5),
        ("-3", -3),
        ("true", "true"),
        ('{"a":1}', '{"a":1}'),
        ("Infinity", "Infinity"),
        ("123456789012345678901", "123456789012345678901"),
    ],
)
def test_what_looks_like_a_number_is_one(text, value):
    class Attributes(ExpiredReceipt):
        def get_queue_attributes(self, **_):
            return {"Attributes": {"Policy": text}}

    inputs = {"queueUrl": "http://127.0.0.1:1/1/q", "attributeNames": ["Policy"]}
    output = run_module("system/sqs-get-queue-attributes", inputs, ModuleContext(aws=Attributes()))
    assert output["attributes"]["Policy"] == value
    assert type(output["attributes"]["Policy"]) is type(value)


@pytest.mark.parametrize("names", [[], ["Size"], "All", None])
def test_unknown_attribute_names_are_refused(names):
    with pytest.raises(PermanentStepError, match=r"\$\.attributeNames"):
        run_module(
            "system/sqs-get-queue-attributes",
            {"queueUrl": "http://h/1/q", "attributeNames": names},
            ModuleContext(),
        )


def test_what_was_received_can_be_the_manifest_of_a_fork(clients, queue):
    store = MemoryStore()
    steps = {
        "take": {
            "stepType": "DATA_LOAD",
            "moduleIdentifier": "system/sqs-receive-messages",
            "customConfig": {"queueUrl": "{{q}}"},
            **then("keep"),
        },
        "keep": {
            "stepType": "DATA_SAVE",
            "moduleIdentifier": "system/s3-data-saver",
            "customConfig": {"destinationS3UriTemplate": "s3://lake/{{flowExecutionId}}.json"},
            "inputMappings": {"contentToSave": "$.steps_output.take.messages"},
            "outputMappings": {"$.manifest.bucket": "$.bucket", "$.manifest.key": "$.key"},
            **then("each"),
        },
        "each": fork("work", "$.manifest"),
        "work": compose(inputMappings={"id": "$.currentItem.messageId", "body": "$.currentItem.body"}),
    }
    ran = run(steps, {"q": queue}, aws=clients, store=store)
    assert ran.status == "COMPLETED", ran.error
    bodies = [item["body"] for item in ran.outputs["each"]["aggregatedData"]]
    assert bodies == [f'{{"n": {n}}}' for n in range(10)]
