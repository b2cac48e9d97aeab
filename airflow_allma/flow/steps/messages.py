"""Steps that send a message: SQS, SNS, e-mail."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from airflow_allma.flow.model_base import AnyJson, JsonObject, Model, NonEmptyStr, StringOrStrings, shape
from airflow_allma.flow.steps.step_base import HasConnection, Step, StepType

__all__ = ["MESSAGE_FIELDS", "EmailAttachment", "EmailHeader", "EmailStep", "SnsPublishStep", "SqsSendStep"]


class MessageFields(Model):
    """The fields of any message. Each value can also come from customConfig or the input."""

    payload: Annotated[JsonObject | None, Field(description="The message; sent as JSON.")] = None
    message_attributes: Annotated[
        dict[str, AnyJson] | None, Field(description="Name <- {DataType, StringValue or BinaryValue}.")
    ] = None
    message_group_id: Annotated[str | None, Field(description="Message group of a FIFO queue or topic.")] = (
        None
    )
    message_deduplication_id: Annotated[
        str | None,
        Field(description="Deduplication id of a FIFO queue or topic; absent: the SHA-256 of the message."),
    ] = None


class SqsSendStep(MessageFields, Step):
    """Sends one message to a queue."""

    step_type: Literal[StepType.SQS_SEND]
    queue_url: Annotated[str | None, Field(description="URL of the queue.")] = None

    @property
    def message_fields(self) -> dict[str, Any]:
        """Name -> value of the fields that can also be in customConfig or the input."""
        return {"queueUrl": self.queue_url, **_message_fields(self)}


class SnsPublishStep(MessageFields, Step):
    """Publishes one message to a topic."""

    step_type: Literal[StepType.SNS_PUBLISH]
    topic_arn: Annotated[str | None, Field(description="ARN of the topic.")] = None

    @property
    def message_fields(self) -> dict[str, Any]:
        """Name -> value of the fields that can also be in customConfig or the input."""
        return {"topicArn": self.topic_arn, **_message_fields(self)}


def _message_fields(step: MessageFields) -> dict[str, Any]:
    return {field.alias or name: getattr(step, name) for name, field in MessageFields.model_fields.items()}


MESSAGE_FIELDS: Final = (
    "queueUrl",
    "topicArn",
    *(field.alias or name for name, field in MessageFields.model_fields.items()),
)
"""The fields of messages that can also be in customConfig or the input, by their names in JSON."""


class EmailAttachment(Model):
    """A file to attach, from S3."""

    filename: Annotated[NonEmptyStr, Field(description="File name that the recipient sees.")]
    s3_pointer: Annotated[
        JsonObject | str,
        shape("an object {bucket, key}, or a JSONPath to one", lambda value: isinstance(value, dict | str)),
        Field(alias="s3Pointer", description="{bucket, key}, or a JSONPath to one."),
    ]


class EmailHeader(Model):
    """One header."""

    name: Annotated[NonEmptyStr, Field(description="The header's name.")]
    value: Annotated[str, Field(description="The header's value.")]


def _is_headers(value: Any) -> bool:
    return value is None or isinstance(value, str | list | tuple)


class EmailStep(HasConnection, Step):
    """Sends an e-mail. Every string can be a template or a JSONPath."""

    step_type: Literal[StepType.EMAIL]
    from_: Annotated[NonEmptyStr, Field(alias="from", description="The sender's address.")]
    from_name: Annotated[str | None, Field(description="The sender's name.")] = None
    subject: Annotated[str, Field(description="The subject.")]
    body: Annotated[str, Field(description="The body, as HTML.")]
    to: Annotated[StringOrStrings, Field(description="Recipients.")]
    cc: Annotated[StringOrStrings | None, Field(description="Recipients of a copy.")] = None
    bcc: Annotated[StringOrStrings | None, Field(description="Recipients of a blind copy.")] = None
    reply_to: Annotated[StringOrStrings | None, Field(description="Addresses for replies.")] = None
    custom_headers: Annotated[
        str | tuple[EmailHeader, ...] | None,
        shape("a string or a list of {name, value}", _is_headers),
        Field(description="Additional headers."),
    ] = None
    attachments: Annotated[tuple[EmailAttachment, ...] | None, Field(description="Files.")] = None
    attachments_path: Annotated[str | None, Field(description="JSONPath to a list of attachments.")] = None
