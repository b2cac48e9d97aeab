"""Values in objects: loading the content of a pointer, and storing a value."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from airflow_allma.common.base64_text import to_base64
from airflow_allma.common.charsets import charset_of, decode_string
from airflow_allma.common.json_reader import (
    NotJsonError,
    UnreadableJsonError,
    decode_json,
    parse_json,
)
from airflow_allma.exceptions import ObjectDecodeError, StorageConfigurationError
from airflow_allma.storage.compression import decompress, is_gzip
from airflow_allma.storage.content_types import ContentKind, is_json_type, kind_of
from airflow_allma.storage.decoding import BOM, decode_line
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import JSON_TYPE, ObjectInfo, ObjectStore
from airflow_allma.storage.pointer import Pointer

__all__ = ["MAX_CONTENT_BYTES", "encode_value", "load_content", "load_sized", "store_value"]

MAX_CONTENT_BYTES: Final = 64 << 20
"""Larger objects are not loaded into a flow's data, unless the caller sets another limit."""

_NOT_IN_TEXT: Final = b"\0"

_log: Final = logging.getLogger("airflow_allma.storage")


def load_content(
    store: ObjectStore, pointer: Mapping[str, Any] | Pointer, *, max_bytes: int = MAX_CONTENT_BYTES
) -> Any:
    """Load the content of an object as a JSON value.

    - JSON Lines (by type or name, or several lines that are each an object or a list): a list;
    - other text (by type, by name or, if both are missing, by its bytes): its JSON value, or a string if it
      is not JSON;
    - anything else: a string with its bytes in Base64.

    gzip is decompressed first. Broken characters in JSON become replacement characters, with a warning in the
    log.

    Args:
        store: holds the object.
        pointer: a ``Pointer``, or one as a flow's data contains it (wrapped or bare).
        max_bytes: the maximum number of bytes to load, counted after decompression.

    Raises:
        ObjectDecodeError: the object is larger than ``max_bytes``, is not valid gzip, is JSON that no value
            can hold, or is JSON Lines with a line that is not JSON.
        StorageConfigurationError: ``pointer`` is not a pointer.
        StorageError: the store's own.
    """
    return load_sized(store, pointer, max_bytes=max_bytes)[0]


def load_sized(
    store: ObjectStore, pointer: Mapping[str, Any] | Pointer, *, max_bytes: int = MAX_CONTENT_BYTES
) -> tuple[Any, int]:
    """Load as ``load_content`` does; also return the object's size as stored, in bytes.

    Raises:
        StorageError: as ``load_content``.
    """
    target = pointer if isinstance(pointer, Pointer) else Pointer.parse(pointer)
    if target is None:
        raise StorageConfigurationError(
            "A pointer needs a bucket and a key; both must be strings and not empty."
        )
    info = store.head(target)
    _check_size(target, info.size, max_bytes)
    # Read what the HEAD has found, even if another version is written in between.
    data = store.read(info.pointer, if_match=info.etag)
    if is_gzip(data):
        data = _decompressed(target, data, max_bytes)
    return _decode(target, info, data), info.size


def encode_value(value: Any) -> bytes:
    """Return a value as compact JSON; NaN and Infinity become null.

    Raises:
        ObjectDecodeError: it contains a string with broken Unicode, or something that is not a JSON value.
    """
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ObjectDecodeError(f"The value cannot be written as JSON: {error}.") from error


def store_value(store: ObjectStore, location: OffloadLocation, value: Any, *identifiers: str) -> Pointer:
    """Write a value as compact JSON below the offload location.

    The key ends in a hash of the content: writing the same value again changes nothing, and the value of a
    pointer never changes.

    Args:
        store: holds the location.
        location: the offload location.
        value: a JSON value.
        identifiers: the value's owner: dag_id, run_id, step id and so on, one segment of the key each.

    Returns:
        The pointer that replaces the value (``.wrap()``).

    Raises:
        StorageError: the value is not JSON, an identifier cannot be in a key, or the store's own.
    """
    data = encode_value(value)
    name = hashlib.sha256(data).hexdigest()[:32]
    pointer = location.pointer(*identifiers, name, ending=".json")
    store.write(pointer, data, content_type=JSON_TYPE)
    return pointer


def _check_size(pointer: Pointer, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ObjectDecodeError(
            f"{pointer} has {size} bytes or more; at most {max_bytes} can be loaded into a flow's data. "
            "Process it as a JSON Lines manifest (itemsPath of a PARALLEL_FORK_MANAGER), which is streamed."
        )


def _decompressed(pointer: Pointer, data: bytes, max_bytes: int) -> bytes:
    plain = bytearray()
    for block in decompress([data], str(pointer), max_ratio=0):
        plain += block
        _check_size(pointer, len(plain), max_bytes)
    return bytes(plain)


def _decode(pointer: Pointer, info: ObjectInfo, data: bytes) -> Any:
    kind = kind_of(pointer.key, info.content_type)
    if kind is ContentKind.JSON_LINES:
        return [decode_line(line, offset, str(pointer)) for offset, line in _lines(data)]
    if kind is ContentKind.BINARY or (kind is ContentKind.UNKNOWN and _NOT_IN_TEXT in data):
        return to_base64(data)
    decoded = decode_string(data, charset_of(info.content_type))
    try:
        document = parse_json(decoded.string, decoded.warnings)
    except UnreadableJsonError as error:
        raise _unreadable(pointer, error) from error
    except NotJsonError as error:
        if decoded.has_invalid_bytes:
            return to_base64(data)
        value = _lines_or_string(pointer, decoded.string)
        if isinstance(value, str) and value and is_json_type(pointer.key, info.content_type):
            _log.warning("%s is not JSON, although it is named so: %s; it is a string", pointer, error.reason)
        return value
    for warning in document.warnings:
        _log.warning("%s: %s", pointer, warning)
    return document.value


def _lines_or_string(pointer: Pointer, string: str) -> Any:
    values = []
    for line in string.split("\n"):
        if not line or line.isspace():
            continue
        try:
            value = decode_json(line.encode())
        except NotJsonError:
            return string
        except UnreadableJsonError as error:
            raise _unreadable(pointer, error) from error
        # A column of numbers or words is a plain string; rows of objects or lists are JSON Lines.
        if not isinstance(value, dict | list):
            return string
        values.append(value)
    return values or string


def _unreadable(pointer: Pointer, error: UnreadableJsonError) -> ObjectDecodeError:
    return ObjectDecodeError(f"{pointer} is JSON that cannot be read: {error.reason}.")


def _lines(data: bytes) -> list[tuple[int, bytes]]:
    """Return the lines that are not blank, with their offsets."""
    start = len(BOM) if data.startswith(BOM) else 0
    lines = []
    for line in data[start:].split(b"\n"):
        if line and not line.isspace():
            lines.append((start, line))
        start += len(line) + 1
    return lines
