"""``system/sqs-get-queue-attributes``: reads attributes of a queue."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from airflow_allma.engine.modules.definition import ModuleContext, ModuleInput
from airflow_allma.engine.modules.sqs_queue import QueueUrlText, queue_of
from airflow_allma.expressions.js_values import to_number

__all__ = ["SqsAttributesInput", "get_queue_attributes"]

_LARGEST_EXACT: Final = 2**53

_Name = Literal[
    "All",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "ContentBasedDeduplication",
    "CreatedTimestamp",
    "DeduplicationScope",
    "DelaySeconds",
    "FifoQueue",
    "FifoThroughputLimit",
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "LastModifiedTimestamp",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "Policy",
    "QueueArn",
    "ReceiveMessageWaitTimeSeconds",
    "RedriveAllowPolicy",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
]


class SqsAttributesInput(ModuleInput):
    """Input of ``system/sqs-get-queue-attributes``."""

    queue_url: QueueUrlText
    attribute_names: Annotated[list[_Name], Field(min_length=1)]


def get_queue_attributes(inputs: SqsAttributesInput, context: ModuleContext) -> dict[str, Any]:
    """Return ``{"attributes": {name: number or string}}``.

    Raises:
        StepError: SQS rejected the call or did not respond.
    """
    queue, _ = queue_of(inputs.queue_url, context)
    response = queue.call(
        context,
        "get_queue_attributes",
        QueueUrl=inputs.queue_url,
        AttributeNames=list(inputs.attribute_names),
    )
    attributes = response.get("Attributes", {})
    return {
        "attributes": {name: _typed(value) for name, value in attributes.items()},
        "_meta": {"status": "SUCCESS"},
    }


def _typed(value: str) -> str | int | float:
    number = to_number(value)
    if not math.isfinite(number) or abs(number) > _LARGEST_EXACT:
        return value
    return int(number) if number == int(number) else number
