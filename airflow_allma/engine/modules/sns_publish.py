"""``system/sns-publish``: publishes one message to a topic."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from airflow_allma.common.aws_names import region_of_arn
from airflow_allma.engine.modules.aws_call import AwsResource
from airflow_allma.engine.modules.definition import ModuleContext
from airflow_allma.engine.modules.message_input import (
    KIB,
    MessageInput,
    check_size,
    encode_body,
    fifo_fields,
)

__all__ = ["SnsPublishInput", "publish_to_topic"]

MAX_SNS_BYTES: Final = 256 * KIB
_TOPIC_ARN: Final = re.compile(r"arn:aws[a-z0-9-]*:sns:[a-z0-9-]+:\d+:[A-Za-z0-9_-]{1,256}(?:\.fifo)?")


def _check_arn(value: str) -> str:
    if not _TOPIC_ARN.fullmatch(value):
        raise ValueError("must be the ARN of a topic, arn:aws:sns:<region>:<account>:<topic>")
    return value


class SnsPublishInput(MessageInput):
    """Input of ``system/sns-publish``."""

    topic_arn: Annotated[str, AfterValidator(_check_arn)]


def publish_to_topic(inputs: SnsPublishInput, context: ModuleContext) -> dict[str, Any]:
    """Publish the payload as JSON and return ``{"snsMessageId"}``.

    Raises:
        StepError: SNS cannot accept the message, rejected it or did not respond.
    """
    arn = inputs.topic_arn
    topic = AwsResource("sns", "SNS topic", "topicArn", arn, region_of_arn(arn))
    body, attributes = encode_body(inputs.payload), inputs.attributes
    check_size("SNS", body, attributes, MAX_SNS_BYTES)
    name = arn.rpartition(":")[2]
    fields = fifo_fields(inputs, body, is_fifo=name.endswith(".fifo"), resource=f"SNS topic {name!r}")
    if attributes:
        fields["MessageAttributes"] = attributes
    sent = topic.call(context, "publish", TopicArn=arn, Message=body, **fields)
    return {"snsMessageId": sent["MessageId"], "_meta": {"status": "SUCCESS"}}
