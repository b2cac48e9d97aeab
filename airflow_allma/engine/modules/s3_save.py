"""``system/s3-data-saver``: writes one object."""

from __future__ import annotations

import binascii
import re
from typing import Any, Final

import msgspec

from airflow_allma.common.base64_text import from_base64
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.modules.definition import ModuleContext, ModuleInput
from airflow_allma.engine.modules.plain_string import plain_string
from airflow_allma.engine.modules.s3_uri import ObjectUri
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.storage import Pointer

__all__ = ["S3SaverInput", "save_object"]

_TEXT_TYPES: Final = re.compile(r"^text/|(?:application|text)/(?:json|javascript|xml)|\+(?:json|xml)$")
_METADATA_KEY: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_METADATA_VALUE: Final = re.compile(r"[\x20-\x7e]*")


class S3SaverInput(ModuleInput):
    """Input of ``system/s3-data-saver``, with rendered templates."""

    destination_s3_uri_template: ObjectUri
    content_to_save: Any
    content_type: str | None = None
    metadata_template: dict[str, Any] | None = None


def save_object(inputs: S3SaverInput, context: ModuleContext) -> dict[str, Any]:
    """Write the object and return ``{"s3Uri", "bucket", "key", "eTag", "versionId"?}``.

    A string is written unchanged; if ``contentType`` is not a text type, it must be Base64 and is decoded.
    Any other value becomes JSON, indented by two spaces.

    Raises:
        StepError: the string is not valid Base64, the metadata does not fit into HTTP headers, or the store
            rejected the request or did not respond.
    """
    store = context.require_store()
    pointer = Pointer.from_uri(inputs.destination_s3_uri_template)
    content = inputs.content_to_save
    content_type = inputs.content_type or _default_type(content)
    metadata = _metadata(inputs.metadata_template or {})
    try:
        info = store.write(
            pointer, _body(content, content_type), content_type=content_type, metadata=metadata
        )
    except StorageError as error:
        raise step_error_from(error) from error
    output = {"s3Uri": pointer.uri, "bucket": pointer.bucket, "key": pointer.key, "eTag": info.etag}
    if info.version_id is not None:
        output["versionId"] = info.version_id
    parameters = {"Bucket": pointer.bucket, "Key": pointer.key, "ContentType": content_type}
    return {**output, "_meta": {"status": "SUCCESS", "s3_params": parameters}}


def _default_type(content: Any) -> str:
    if isinstance(content, str):
        return "text/plain"
    return "application/octet-stream" if isinstance(content, bytes) else "application/json"


def _body(content: Any, content_type: str) -> bytes:
    if isinstance(content, bytes):
        return content
    if not isinstance(content, str):
        return msgspec.json.format(msgspec.json.encode(content), indent=2)
    media_type = content_type.split(";", 1)[0].strip().lower()
    try:
        return content.encode() if _TEXT_TYPES.search(media_type) else from_base64(content)
    except UnicodeEncodeError as error:
        raise PermanentStepError(
            f"$.contentToSave contains broken Unicode at character {error.start} and cannot be written as "
            "UTF-8."
        ) from error
    except binascii.Error as error:
        raise PermanentStepError(
            f"$.contentToSave must be Base64, as contentType {content_type!r} is not a text type: {error}. "
            "To write the string itself, use a type such as text/plain or application/json."
        ) from error


def _metadata(template: dict[str, Any]) -> dict[str, str]:
    metadata = {key: plain_string(value) for key, value in template.items() if value is not None}
    for key, value in metadata.items():
        if not _METADATA_KEY.fullmatch(key):
            raise PermanentStepError(
                f"$.metadataTemplate: {key!r} is not a valid metadata key. Use letters, digits, '-' and '_'."
            )
        if not _METADATA_VALUE.fullmatch(value):
            raise PermanentStepError(
                f"$.metadataTemplate[{key!r}] contains line breaks or non-ASCII characters, which object "
                "metadata cannot hold. Encode it, for example with the template helper base64."
            )
    return metadata
