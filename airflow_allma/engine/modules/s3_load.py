"""Modules that read objects: ``system/s3-data-loader`` and ``system/s3-list-files``."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import AfterValidator, Field

from airflow_allma.common.base64_text import to_base64, to_base64url
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.modules.definition import JsonInt, ModuleContext, ModuleInput
from airflow_allma.exceptions import ObjectNotFoundError, PermanentStepError, StorageError
from airflow_allma.storage import ObjectInfo, Pointer

__all__ = ["S3ListFilesInput", "S3LoaderInput", "list_files", "load_object", "validate_object_uri"]


def validate_object_uri(text: str) -> str:
    """Check that a text is an object's address; for pydantic.

    Raises:
        ValueError: it is none; says what one looks like.
    """
    try:
        Pointer.from_uri(text)
    except StorageError as error:
        raise ValueError(f"is no address of an object: {error}") from error
    return text


def _hex(data: bytes) -> str:
    return data.hex()


_BYTE_ENCODINGS: Final[Mapping[str, Callable[[bytes], str]]] = MappingProxyType(
    {"hex": _hex, "base64": to_base64, "base64url": to_base64url}
)
# Names that flows may use and Python does not know.
_PYTHON_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"binary": "latin-1", "ucs2": "utf-16-le", "ucs-2": "utf-16-le", "utf16le": "utf-16-le"}
)


def _known_encoding(name: str) -> str:
    plain = name.lower()
    if plain in _BYTE_ENCODINGS:
        return plain
    try:
        # Only text encodings encode text; Python's other codecs raise.
        " ".encode(_PYTHON_NAMES.get(plain, plain))
        return codecs.lookup(_PYTHON_NAMES.get(plain, plain)).name
    except (LookupError, ValueError):
        raise ValueError(f"{name!r} is no text encoding; use utf-8, latin1, utf16le, ascii ...") from None


class S3LoaderInput(ModuleInput):
    """Input of ``system/s3-data-loader``."""

    source_s3_uri: Annotated[str, AfterValidator(validate_object_uri)]
    output_format: Literal["TEXT", "JSON", "RAW_BUFFER"] | None = None
    encoding: Annotated[str, AfterValidator(_known_encoding)] | None = None
    region: str | None = None
    on_missing: Literal["FAIL", "IGNORE"] | None = None


class S3ListFilesInput(ModuleInput):
    """Input of ``system/s3-list-files``; ``max_keys`` is the most files returned."""

    bucket: Annotated[str, Field(min_length=1)]
    prefix: str | None = None
    max_keys: Annotated[JsonInt, Field(gt=0)] | None = None


def load_object(inputs: S3LoaderInput, context: ModuleContext) -> dict[str, Any]:
    """``{"content": text, JSON value, Base64 text or null}``.

    Raises:
        StepError: the object is missing (unless ``onMissing`` is IGNORE), denied or not what ``outputFormat``
            and ``encoding`` say; or the store did not answer.
    """
    store = context.require_store()
    found = Pointer.from_uri(inputs.source_s3_uri)
    pointer = Pointer(found.bucket, found.key, region=inputs.region or None)
    try:
        info = store.head(pointer)
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
    return {"content": _content(pointer, data, inputs), "_meta": meta}


def _content(pointer: Pointer, data: bytes, inputs: S3LoaderInput) -> Any:
    if inputs.output_format == "RAW_BUFFER":
        return to_base64(data)
    encoding = inputs.encoding or "utf-8"
    as_text = _BYTE_ENCODINGS.get(encoding)
    if as_text is not None:
        text = as_text(data)
    else:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            raise PermanentStepError(
                f"{pointer} is not {encoding} text: byte {error.start} is {data[error.start]:#04x}. Set "
                "`encoding` to the right one, or `outputFormat` to RAW_BUFFER."
            ) from error
    return _parsed(pointer, text) if inputs.output_format == "JSON" else text


def _parsed(pointer: Pointer, text: str) -> Any:
    try:
        return msgspec.json.decode(text.removeprefix("\ufeff").encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise PermanentStepError(
            f"{pointer} is not JSON: {error}. Set `outputFormat` to TEXT, or mend the object. JSON Lines are "
            "read by a fork whose `itemsPath` finds a pointer to them."
        ) from error


def list_files(inputs: S3ListFilesInput, context: ModuleContext) -> dict[str, Any]:
    """``{"files": list, "fileCount": n}``; empty objects (such as folder markers) are left out.

    Raises:
        StepError: there is no such bucket, access is denied, or the store did not answer.
    """
    store = context.require_store()
    try:
        found = (info for info in store.list(inputs.bucket, inputs.prefix or "") if info.size)
        files = [_file(info) for info in islice(found, inputs.max_keys)]
    except StorageError as error:
        raise step_error_from(error) from error
    return {"files": files, "fileCount": len(files)}


def _file(info: ObjectInfo) -> dict[str, Any]:
    pointer = Pointer(info.pointer.bucket, info.pointer.key)
    return {
        "key": pointer.key,
        "size": info.size,
        "lastModified": _iso(info.last_modified),
        "eTag": info.etag,
        "bucket": pointer.bucket,
        "content": pointer.wrap(),
    }


def _iso(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
