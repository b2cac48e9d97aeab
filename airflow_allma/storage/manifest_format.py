"""What a JSON manifest contains: JSON Lines or one JSON array, compressed or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from airflow_allma.storage.compression import Compression, compression_of, decompress_start
from airflow_allma.storage.content_types import ContentKind, kind_of
from airflow_allma.storage.decoding import BOM, is_json
from airflow_allma.storage.json_array import array_elements
from airflow_allma.storage.json_member import member_elements
from airflow_allma.storage.jsonl import MAX_LINE_BYTES, Line
from airflow_allma.storage.object_store import ObjectInfo, ObjectStore
from airflow_allma.storage.pointer import Pointer

__all__ = [
    "START_BYTES",
    "ManifestFormat",
    "ObjectStart",
    "detect_format",
    "elements_of",
    "format_of",
    "read_start",
]

START_BYTES: Final = 64 << 10
"""What is read of an object to find its format."""


class ObjectStart(NamedTuple):
    """An object and its beginning.

    Attributes:
        info: the object as it is now.
        start: its first bytes, decompressed.
        compression: how it is compressed; None if it is not.
    """

    info: ObjectInfo
    start: bytes
    compression: Compression | None


def read_start(store: ObjectStore, pointer: Pointer, known: ObjectInfo | None = None) -> ObjectStart:
    """Look an object up and read its beginning.

    Args:
        store: the store.
        pointer: the object.
        known: the object, if it has been looked up.

    Raises:
        StorageError: the store's own.
    """
    info = known or store.head(pointer)
    start = store.read(info.pointer, 0, START_BYTES, if_match=info.etag)
    compression = compression_of(start)
    if compression is not None:
        start = decompress_start(start, compression)
    return ObjectStart(info, start, compression)


class ManifestFormat(NamedTuple):
    """The format of the object that a pointer in a flow names.

    Attributes:
        is_array: whether it is one JSON array, not one JSON value a line.
        compression: how it is compressed; None if it is not.
        keys: where the array is inside of one JSON document; empty if it is all of it.
    """

    is_array: bool = False
    compression: Compression | None = None
    keys: tuple[str, ...] = ()

    @property
    def is_splittable(self) -> bool:
        """Whether it is split and read as it is."""
        return not self.is_array and self.compression is None

    def __str__(self) -> str:
        content = "one JSON array" if self.is_array else "JSON Lines"
        content = "an array in a JSON document" if self.keys else content
        return content if self.compression is None else f"{content} compressed with {self.compression}"


def detect_format(store: ObjectStore, pointer: Pointer) -> tuple[ObjectInfo, ManifestFormat]:
    """Detect a manifest's format by its first bytes, and by name or type where those are ambiguous.

    Raises:
        StorageError: the store's own.
    """
    found = read_start(store, pointer)
    return found.info, format_of(*found)


def elements_of(
    blocks: Iterable[bytes], found: ManifestFormat, source: str, max_element_bytes: int = MAX_LINE_BYTES
) -> Iterator[Line]:
    """Yield the elements of the array that an object contains, from its bytes, decompressed.

    Raises:
        ObjectDecodeError: there is none, or it is invalid.
    """
    if found.keys:
        return member_elements(blocks, found.keys, max_element_bytes=max_element_bytes, source=source)
    return array_elements(blocks, max_element_bytes=max_element_bytes, source=source)


def format_of(info: ObjectInfo, start: bytes, compression: Compression | None = None) -> ManifestFormat:
    """Return the format of an object by its first bytes, decompressed.

    Content that begins with ``[`` is one array, unless its first line is a complete value and others follow,
    or unless its name or type is that of JSON Lines and its first line is not cut off.
    """
    named_lines = kind_of(info.pointer.key, info.content_type) is ContentKind.JSON_LINES
    return ManifestFormat(_is_array(start, named_lines=named_lines), compression)


def _is_array(start: bytes, *, named_lines: bool) -> bool:
    content = start.removeprefix(BOM).lstrip(b" \t\r\n")
    if not content.startswith(b"["):
        return False
    first, newline, others = content.partition(b"\n")
    if is_json(first):
        return not (named_lines or others.strip())
    return bool(newline) or not named_lines
