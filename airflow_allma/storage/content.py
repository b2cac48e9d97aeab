"""Values that live in objects: loading what a pointer stands for, and writing a value away."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from airflow_allma.common.base64_text import to_base64
from airflow_allma.exceptions import ObjectDecodeError, StorageConfigurationError
from airflow_allma.storage.base import JSON_TYPE, ObjectInfo, ObjectStore
from airflow_allma.storage.content_types import ContentKind, kind_of
from airflow_allma.storage.decoding import BOM, decode_line, try_decode
from airflow_allma.storage.gunzip import gunzip, is_gzip
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.pointers import Pointer

__all__ = ["MAX_CONTENT_BYTES", "encode_value", "load_content", "load_sized", "store_value"]

MAX_CONTENT_BYTES: Final = 64 << 20
"""Larger objects are not loaded into a flow's data, unless the caller says so."""

_NO_TEXT: Final = b"\0"
# Python's codecs also know things that are no character sets, such as zip.
_CHARSETS: Final = frozenset({"ascii", "cp1252", "iso8859-1", "iso8859-15", "utf-16", "utf-8"})


def load_content(
    store: ObjectStore, pointer: Mapping[str, Any] | Pointer, *, max_bytes: int = MAX_CONTENT_BYTES
) -> Any:
    """The content of an object as a JSON value.

    - JSON Lines (by type or name, or several lines that are an object or a list each): a list;
    - other text (by type, by name, or, when neither says anything, by the bytes): the JSON value that it is,
      else the text;
    - anything else: its bytes in base64.

    gzip is unpacked first.

    Args:
        store: where it lies.
        pointer: a ``Pointer``, or one as it stands in a flow's data (wrapped or bare).
        max_bytes: most bytes to load, counted after unpacking.

    Raises:
        ObjectDecodeError: it is larger than ``max_bytes``, broken gzip, or JSON Lines with a line that is not
            JSON.
        StorageConfigurationError: ``pointer`` is no pointer.
        StorageError: the store's own.
    """
    return load_sized(store, pointer, max_bytes=max_bytes)[0]


def load_sized(
    store: ObjectStore, pointer: Mapping[str, Any] | Pointer, *, max_bytes: int = MAX_CONTENT_BYTES
) -> tuple[Any, int]:
    """As ``load_content``, with the object's size as stored, in bytes.

    Raises:
        StorageError: as ``load_content``.
    """
    target = pointer if isinstance(pointer, Pointer) else Pointer.parse(pointer)
    if target is None:
        raise StorageConfigurationError("A pointer needs a bucket and a key, both text and not empty.")
    info = store.head(target)
    _check_size(target, info.size, max_bytes)
    # What the HEAD has found is what is read, also when another version comes in between.
    data = store.read(info.pointer, if_match=info.etag)
    if is_gzip(data):
        data = _unpack(target, data, max_bytes)
    return _decode(target, info, data), info.size


def encode_value(value: Any) -> bytes:
    """A JSON value as compact JSON; a number that JSON does not have becomes null.

    Raises:
        ObjectDecodeError: it holds text that is no Unicode, or something that is no JSON value.
    """
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ObjectDecodeError(f"The value cannot be written as JSON: {error}.") from error


def store_value(store: ObjectStore, location: OffloadLocation, value: Any, *identifiers: str) -> Pointer:
    """Write a value as compact JSON below the offload location.

    The key ends in a hash of the content: writing the same value again changes nothing, and a pointer that
    was handed out never shows another value.

    Args:
        store: where the location lies.
        location: the offload location.
        value: a JSON value.
        identifiers: whose value it is: dag_id, run_id, step id and so on, one segment of the key each.

    Returns:
        The pointer to put in the value's place (``.wrap()``).

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
            f"{pointer} has {size} bytes or more; at most {max_bytes} are loaded into a flow's data. "
            "Process it as a JSON Lines manifest (itemsPath of a PARALLEL_FORK_MANAGER), which is streamed."
        )


def _unpack(pointer: Pointer, data: bytes, max_bytes: int) -> bytes:
    unpacked = bytearray()
    for block in gunzip([data], str(pointer)):
        unpacked += block
        _check_size(pointer, len(unpacked), max_bytes)
    return bytes(unpacked)


def _decode(pointer: Pointer, info: ObjectInfo, data: bytes) -> Any:
    kind = kind_of(pointer.key, info.content_type)
    if kind is ContentKind.JSON_LINES:
        return [decode_line(line, offset, str(pointer)) for offset, line in _lines(data)]
    if kind is ContentKind.BINARY:
        return to_base64(data)
    data = data.removeprefix(BOM)
    try:
        text = data.decode(_charset(info.content_type))
    except UnicodeDecodeError:
        return to_base64(data)
    if kind is ContentKind.UNKNOWN and _NO_TEXT in data:
        return to_base64(data)
    return _json_or_text(text)


def _json_or_text(text: str) -> Any:
    data = text.encode()
    is_json, value = try_decode(data)
    if is_json:
        return value
    values = []
    for _, line in _lines(data):
        is_json, value = try_decode(line)
        # A column of numbers or words is text; rows of objects or lists are not.
        if not is_json or not isinstance(value, dict | list):
            return text
        values.append(value)
    return values or text


def _lines(data: bytes) -> list[tuple[int, bytes]]:
    """Lines that are not blank, with their offsets."""
    start = len(BOM) if data.startswith(BOM) else 0
    found = []
    for line in data[start:].split(b"\n"):
        if line and not line.isspace():
            found.append((start, line))
        start += len(line) + 1
    return found


def _charset(content_type: str | None) -> str:
    for part in (content_type or "").split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            with contextlib.suppress(LookupError):
                codec = codecs.lookup(value.strip().strip("\"'")).name
                return codec if codec in _CHARSETS else "utf-8"
    return "utf-8"
