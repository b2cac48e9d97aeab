"""``system/sqs-receive-messages``: receives up to ten messages of a queue, and deletes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from airflow_allma.common.base64_text import to_base64
from airflow_allma.engine.modules.aws_call import AwsResource
from airflow_allma.engine.modules.definition import JsonInt, ModuleContext, ModuleInput
from airflow_allma.engine.modules.sqs_queue import QueueUrlText, queue_of

__all__ = ["SqsReceiveInput", "receive_messages"]

_MAX_DIGITS: Final = 10


def _from_string(value: Any) -> Any:
    # A template renders to a string, and these two are often templates.
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value.strip()[:_MAX_DIGITS])
    return value


class SqsReceiveInput(ModuleInput):
    """Input of ``system/sqs-receive-messages``."""

    queue_url: QueueUrlText
    max_number_of_messages: Annotated[JsonInt, Field(ge=1, le=10), BeforeValidator(_from_string)] = 10
    wait_time_seconds: Annotated[JsonInt, Field(ge=0, le=20), BeforeValidator(_from_string)] = 0
    delete_messages: bool = True


def receive_messages(inputs: SqsReceiveInput, context: ModuleContext) -> dict[str, Any]:
    """Receive messages once and return ``{"messages", "messageCount"}``.

    With ``deleteMessages`` the messages are deleted before the step ends: a flow that fails later has lost
    them. A message that cannot be deleted (its receipt has expired) is returned too, and comes again.

    Raises:
        StepError: SQS rejected a call or did not respond. Messages that were received before come again after
            the queue's visibility timeout.
    """
    queue, _ = queue_of(inputs.queue_url, context)
    received = queue.call(
        context,
        "receive_message",
        QueueUrl=inputs.queue_url,
        MaxNumberOfMessages=inputs.max_number_of_messages,
        WaitTimeSeconds=inputs.wait_time_seconds,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
    ).get("Messages", [])
    not_deleted = _delete(queue, received, context) if received and inputs.delete_messages else 0
    return {
        "messages": [_message(message) for message in received],
        "messageCount": len(received),
        "_meta": {"status": "SUCCESS", "notDeleted": not_deleted},
    }


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    output = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
    }
    if own := message.get("MessageAttributes"):
        output["messageAttributes"] = {name: _attribute(value) for name, value in own.items()}
    return output


def _attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    if "BinaryValue" in attribute:
        return {"DataType": attribute["DataType"], "BinaryValue": to_base64(attribute["BinaryValue"])}
    return {"DataType": attribute["DataType"], "StringValue": attribute.get("StringValue", "")}


def _delete(queue: AwsResource, messages: Sequence[Mapping[str, Any]], context: ModuleContext) -> int:
    """Delete messages; return how many could not be deleted."""
    entries = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
        for number, message in enumerate(messages)
    ]
    # If the engine repeated the step, it would receive other messages, and not see these for a while.
    response = queue.call(context, "delete_message_batch", retries=True, QueueUrl=queue.name, Entries=entries)
    failed = response.get("Failed", [])
    for failure in failed:
        context.log.warning(
            "%s: message %s is not deleted and will be received again: %s",
            failure.get("Code", "unknown error"),
            messages[int(failure["Id"])]["MessageId"],
            failure.get("Message", "no reason given"),
        )
    return len(failed)
