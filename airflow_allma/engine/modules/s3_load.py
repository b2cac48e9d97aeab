"""``system/s3-data-loader``: reads one object."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator

from airflow_allma.common.base64_text import to_base64, to_base64url
from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, parse_json
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.modules.definition import ModuleContext, ModuleInput
from airflow_allma.engine.modules.s3_uri import ObjectUri
from airflow_allma.exceptions import ObjectNotFoundError, PermanentStepError, StorageError
from airflow_allma.storage import Pointer
from airflow_allma.storage.compression import decompress, is_gzip
from airflow_allma.storage.content import MAX_CONTENT_BYTES

__all__ = ["S3LoaderInput", "load_object"]

# Encodings of Node.js that represent bytes as a string.
_BYTE_ENCODINGS: Final[Mapping[str, Callable[[bytes], str]]] = MappingProxyType(
    {"hex": bytes.hex, "base64": to_base64, "base64url": to_base64url}
)
# Names of encodings that flows can use and Python does not know.
_PYTHON_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"binary": "latin-1", "ucs2": "utf-16-le", "ucs-2": "utf-16-le", "utf16le": "utf-16-le"}
)


def _normalize_encoding(name: str) -> str:
    lowered = name.lower()
    if lowered in _BYTE_ENCODINGS:
        return lowered
    encoding = _PYTHON_NAMES.get(lowered, lowered)
    try:
        # Python's codecs for bytes, such as zip, raise here.
        " ".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise ValueError(f"{name!r} is not a text encoding; use utf-8, latin1, utf16le, ascii ...") from None


class S3LoaderInput(ModuleInput):
    """Input of ``system/s3-data-loader``."""

    source_s3_uri: ObjectUri
    output_format: Literal["TEXT", "JSON", "RAW_BUFFER"] | None = None
    encoding: Annotated[str, AfterValidator(_normalize_encoding)] | None = None
    region: str | None = None
    on_missing: Literal["FAIL", "IGNORE"] | None = None


def load_object(inputs: S3LoaderInput, context: ModuleContext) -> dict[str, Any]:
    """Return ``{"content": text, JSON value, Base64 string or null}``.

    gzip is decompressed, unless the bytes themselves are wanted (RAW_BUFFER, or ``encoding`` hex or base64).

    Raises:
        StepError: the object does not exist (unless ``onMissing`` is IGNORE), access is denied, the content
            does not match ``outputFormat`` and ``encoding``, the object has more than 64 MiB, it is gzip that
            is not valid or unpacks to more than that, or the store did not respond.
    """
    store = context.require_store()
    source = Pointer.from_uri(inputs.source_s3_uri)
    pointer = Pointer(source.bucket, source.key, region=inputs.region or None)
    try:
        info = store.head(pointer)
        if info.size > MAX_CONTENT_BYTES:
            raise _too_large(pointer, f"has {info.size} bytes")
        data = store.read(pointer, if_match=info.etag)
    except ObjectNotFoundError as error:
        if inputs.on_missing != "IGNORE":
            raise step_error_from(error) from error
        return {"content": None, "_meta": {"found": False, "sourceS3Uri": inputs.source_s3_uri}}
    except StorageError as error:
        raise step_error_from(error) from error
    meta = {
        "found": True,
        "sourceS3Uri": inputs.source_s3_uri,
        "contentType": info.content_type,
        "contentLength": info.size,
        "eTag": info.etag,
    }
    return {"content": _content(pointer, data, inputs, context), "_meta": meta}


def _content(pointer: Pointer, data: bytes, inputs: S3LoaderInput, context: ModuleContext) -> Any:
    if inputs.output_format == "RAW_BUFFER":
        return to_base64(data)
    decoded = _decode(pointer, data, inputs.encoding or "utf-8")
    return _parse_json(pointer, decoded, context) if inputs.output_format == "JSON" else decoded


def _decode(pointer: Pointer, data: bytes, encoding: str) -> str:
    encode_bytes = _BYTE_ENCODINGS.get(encoding)
    if encode_bytes is not None:
        return encode_bytes(data)
    if is_gzip(data):
        data = _decompressed(pointer, data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise PermanentStepError(
            f"{pointer} is not {encoding} text: byte {error.start} is {data[error.start]:#04x}. Set "
            "`encoding` to the right one, or `outputFormat` to RAW_BUFFER."
        ) from error


def _decompressed(pointer: Pointer, data: bytes) -> bytes:
    plain = bytearray()
    try:
        for block in decompress([data], str(pointer), max_ratio=0):
            plain += block
            if len(plain) > MAX_CONTENT_BYTES:
                raise _too_large(pointer, "is gzip that unpacks to more")
    except StorageError as error:
        raise step_error_from(error) from error
    return bytes(plain)


def _too_large(pointer: Pointer, reason: str) -> PermanentStepError:
    return PermanentStepError(
        f"{pointer} {reason}; the limit is {MAX_CONTENT_BYTES} bytes. To process a large object, use a fork "
        "whose `itemsPath` resolves to a pointer to it."
    )


def _parse_json(pointer: Pointer, decoded: str, context: ModuleContext) -> Any:
    try:
        document = parse_json(decoded.removeprefix("\ufeff"))
    except (NotJsonError, UnreadableJsonError) as error:
        raise PermanentStepError(
            f"{pointer} is not valid JSON: {error.reason}. Set `outputFormat` to TEXT, or fix the object. To "
            "read JSON Lines, use a fork whose `itemsPath` resolves to a pointer to them."
        ) from error
    for warning in document.warnings:
        context.log.warning("%s: %s", pointer, warning)
    return document.value
