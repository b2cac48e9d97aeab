"""What messages of SQS and SNS have in common: body, attributes, FIFO ids, and the limits of all of them."""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import Annotated, Any, Final, Self

import msgspec
from pydantic import BeforeValidator, Field, model_validator

from airflow_allma.common.base64_text import from_base64
from airflow_allma.engine.modules.definition import ModuleInput
from airflow_allma.engine.modules.plain_string import plain_string
from airflow_allma.exceptions import PermanentStepError

__all__ = ["KIB", "MessageAttribute", "MessageInput", "check_size", "encode_body", "fifo_fields"]

KIB: Final = 1024

_TYPE: Final = re.compile(r"(String|Number|Binary|String\.Array)(?:\.[\x21-\x7e]+)?")
_MAX_TYPE: Final = 256
_NAME: Final = re.compile(r"(?!(?:aws|amazon)\.)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", re.IGNORECASE)
_MAX_NAME: Final = 256
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_FIFO_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
# SQS and SNS accept the characters of XML. JSON escapes all others except these two.
_NOT_SENDABLE: Final = {"\ufffe": "\\ufffe", "\uffff": "\\uffff"}


def _number_to_string(value: Any) -> Any:
    # A mapped order number is a valid id.
    return plain_string(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


_FifoId = Annotated[str, BeforeValidator(_number_to_string)]


class MessageAttribute(ModuleInput):
    """One attribute of a message; exactly one of the two values is set."""

    data_type: Annotated[str, Field(alias="DataType")]
    string_value: Annotated[Any, Field(alias="StringValue")] = None
    binary_value: Annotated[str | None, Field(alias="BinaryValue")] = None

    @model_validator(mode="after")
    def _validate_value(self) -> Self:
        kind = _TYPE.fullmatch(self.data_type)
        if kind is None or len(self.data_type) > _MAX_TYPE:
            raise ValueError("must have a DataType, which is String, Number, Binary or String.Array")
        value, other = self.string_value, self.binary_value
        if kind[1] == "Binary":
            value, other = other, value
        field = "BinaryValue" if kind[1] == "Binary" else "StringValue"
        if value is None or value == "" or other is not None:
            raise ValueError(
                f"needs a {field} that is not empty, and no other value, because DataType is {self.data_type}"
            )
        if kind[1] == "Binary":
            _decode(value)
        elif kind[1] == "Number" and not _NUMBER.fullmatch(plain_string(value)):
            raise ValueError("StringValue must be a number, because DataType is Number")
        return self

    @property
    def parameter(self) -> dict[str, Any]:
        """The attribute as boto3 takes it."""
        if self.binary_value is not None:
            return {"DataType": self.data_type, "BinaryValue": _decode(self.binary_value)}
        return {"DataType": self.data_type, "StringValue": plain_string(self.string_value)}


def _decode(value: str) -> bytes:
    try:
        return from_base64(value)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("BinaryValue must be Base64") from None


class MessageInput(ModuleInput):
    """The values that a message of either service has."""

    payload: Any
    message_group_id: _FifoId | None = None
    message_deduplication_id: _FifoId | None = None
    message_attributes: dict[str, MessageAttribute] | None = None

    @model_validator(mode="after")
    def _validate_message(self) -> Self:
        for name, value in (
            ("messageGroupId", self.message_group_id),
            ("messageDeduplicationId", self.message_deduplication_id),
        ):
            if value is not None and not _FIFO_ID.fullmatch(value):
                raise ValueError(
                    f"{name} must have 1 to 128 letters, digits or punctuation characters, without spaces"
                )
        for name in self.message_attributes or {}:
            if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name[:_MAX_NAME]!r} cannot be the name of a message attribute: use letters, digits, "
                    "'_', '-' and single '.', and do not begin with 'aws.' or 'amazon.'"
                )
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes as boto3 takes them."""
        return {name: value.parameter for name, value in (self.message_attributes or {}).items()}


def encode_body(payload: Any) -> str:
    """Return a payload as compact JSON.

    Raises:
        PermanentStepError: it contains broken Unicode.
    """
    try:
        body = msgspec.json.encode(payload).decode()
    except UnicodeEncodeError as error:
        raise PermanentStepError(
            "$.payload contains broken Unicode (half of a surrogate pair), which cannot be sent. Remove it "
            "from the data."
        ) from error
    for character, escape in _NOT_SENDABLE.items():
        if character in body:
            body = body.replace(character, escape)
    return body


def check_size(service: str, body: str, attributes: dict[str, Any], max_bytes: int) -> None:
    """Check the size of a message before it is sent.

    Raises:
        PermanentStepError: body and attributes are larger than the service accepts.
    """
    size = len(body.encode())
    for name, attribute in attributes.items():
        value = attribute.get("StringValue", attribute.get("BinaryValue"))
        size += len(name.encode()) + len(attribute["DataType"])
        size += len(value.encode() if isinstance(value, str) else value)
    if size > max_bytes:
        raise PermanentStepError(
            f"The message has {size} bytes, and {service} accepts {max_bytes // KIB} KiB, attributes "
            "included. Save the data with system/s3-data-saver, or set forceS3Offload in the step that makes "
            "it, and send the pointer.",
            details={"messageBytes": size, "maxMessageBytes": max_bytes},
        )


def fifo_fields(inputs: MessageInput, body: str, *, is_fifo: bool, resource: str) -> dict[str, Any]:
    """Return the parameters that order and deduplicate a message.

    A message without a deduplication id gets the SHA-256 of its body, so that a retry does not send a
    second message.

    Raises:
        PermanentStepError: the ids are not those of a message of this kind of queue or topic.
    """
    if is_fifo and inputs.message_group_id is None:
        raise PermanentStepError(
            f"{resource} is FIFO, and $.messageGroupId is missing. Set it: messages of one group are "
            "delivered in order."
        )
    if not is_fifo and inputs.message_deduplication_id is not None:
        raise PermanentStepError(
            f"{resource} is not FIFO (its name does not end in .fifo), so $.messageDeduplicationId cannot be "
            "sent. Remove it."
        )
    fields: dict[str, Any] = {}
    if inputs.message_group_id is not None:
        fields["MessageGroupId"] = inputs.message_group_id
    if is_fifo:
        own_id = inputs.message_deduplication_id
        fields["MessageDeduplicationId"] = own_id or hashlib.sha256(body.encode()).hexdigest()
    return fields
