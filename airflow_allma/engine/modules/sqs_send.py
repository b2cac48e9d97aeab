"""``system/sqs-send``: sends one message to a queue."""

from __future__ import annotations

from typing import Any, Final

from airflow_allma.engine.modules.definition import ModuleContext
from airflow_allma.engine.modules.message_input import (
    KIB,
    MessageInput,
    check_size,
    encode_body,
    fifo_fields,
)
from airflow_allma.engine.modules.sqs_queue import QueueUrlText, queue_of
from airflow_allma.exceptions import PermanentStepError

__all__ = ["SqsSendInput", "send_to_queue"]

MAX_SQS_BYTES: Final = 1024 * KIB
MAX_SQS_ATTRIBUTES: Final = 10


class SqsSendInput(MessageInput):
    """Input of ``system/sqs-send``."""

    queue_url: QueueUrlText


def send_to_queue(inputs: SqsSendInput, context: ModuleContext) -> dict[str, Any]:
    """Send the payload as JSON and return ``{"sqsMessageId"}``.

    Raises:
        StepError: SQS cannot accept the message, rejected it or did not respond.
    """
    queue, url = queue_of(inputs.queue_url, context)
    body, attributes = encode_body(inputs.payload), inputs.attributes
    if len(attributes) > MAX_SQS_ATTRIBUTES:
        raise PermanentStepError(
            f"$.messageAttributes has {len(attributes)} attributes, and SQS accepts {MAX_SQS_ATTRIBUTES}. "
            "Put the others into the payload."
        )
    check_size("SQS", body, attributes, MAX_SQS_BYTES)
    fields = fifo_fields(inputs, body, is_fifo=url.is_fifo, resource=f"SQS queue {url.name!r}")
    if attributes:
        fields["MessageAttributes"] = attributes
    sent = queue.call(context, "send_message", QueueUrl=inputs.queue_url, MessageBody=body, **fields)
    return {"sqsMessageId": sent["MessageId"], "_meta": {"status": "SUCCESS"}}
