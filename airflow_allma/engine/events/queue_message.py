"""A message of a queue as an asset event records it, and as a flow reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from airflow_allma.common.base64_text import to_base64
from airflow_allma.engine.events.s3_notices import decoded, s3_objects, unwrap

__all__ = ["QueueMessage", "recorded_message"]


def recorded_message(received: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the asset event of a message records: JSON that every database stores.

    The body stays the string that it is. SQS accepts no characters that a database refuses, but the JSON in a
    body can name them, such as U+0000.

    Args:
        received: a message as boto3 returns it.
    """
    recorded: dict[str, Any] = {"messageId": received["MessageId"], "body": received["Body"]}
    if own := received.get("MessageAttributes"):
        recorded["attributes"] = {name: _attribute(value) for name, value in own.items()}
    system = received.get("Attributes", {})
    if sent := system.get("SentTimestamp"):
        recorded["sentTimestamp"] = int(sent)
    if group := system.get("MessageGroupId"):
        recorded["messageGroupId"] = group
    return recorded


def _attribute(attribute: Mapping[str, Any]) -> str:
    if "BinaryValue" in attribute:
        return to_base64(attribute["BinaryValue"])
    return str(attribute.get("StringValue", ""))


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message as flows see it.

    Attributes:
        message_id: SQS's id, the same when the message is delivered again.
        body: the body's JSON, without the envelope of SNS; the string itself if it is not JSON.
        recorded: what the asset event has, with the body as it was sent.
        objects: the objects that S3 reports in the body.
    """

    message_id: str
    body: Any
    recorded: Mapping[str, Any]
    objects: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Self:
        """Return the message that ``recorded_message`` recorded."""
        body = unwrap(decoded(recorded["body"]))
        return cls(str(recorded["messageId"]), body, recorded, tuple(s3_objects(body)))

    @property
    def extra(self) -> dict[str, Any]:
        """The ``extra`` of its event in a payload's ``assetEvents``.

        All that was recorded as ``rawBody`` and so on, the body's JSON as ``body``, and ``s3Objects`` if S3
        reports some.
        """
        extra = {**self.recorded, "body": self.body, "rawBody": self.recorded["body"]}
        return {**extra, "s3Objects": list(self.objects)} if self.objects else extra
