"""What a manifest contains: JSON Lines or one JSON array, gzipped or not."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from airflow_allma.storage.content_types import ContentKind, kind_of
from airflow_allma.storage.decoding import BOM, is_json
from airflow_allma.storage.gzip_stream import decompress_start, is_gzip
from airflow_allma.storage.object_store import ObjectInfo, ObjectStore
from airflow_allma.storage.pointer import Pointer

__all__ = ["ManifestFormat", "detect_format"]

_START_BYTES: Final = 64 << 10


class ManifestFormat(StrEnum):
    """The format of the object that a pointer in a flow names."""

    JSON_LINES = "json-lines"
    """One JSON value per line: split and read directly."""
    JSON_ARRAY = "json-array"
    """One JSON array: converted to lines first."""
    GZIP_JSON_LINES = "json-lines+gzip"
    """Gzipped lines: decompressed first."""
    GZIP_JSON_ARRAY = "json-array+gzip"
    """A gzipped array."""

    @property
    def is_gzipped(self) -> bool:
        """Whether the object is gzip."""
        return self in {ManifestFormat.GZIP_JSON_LINES, ManifestFormat.GZIP_JSON_ARRAY}

    @property
    def is_array(self) -> bool:
        """Whether the content is one JSON array."""
        return self in {ManifestFormat.JSON_ARRAY, ManifestFormat.GZIP_JSON_ARRAY}


def detect_format(store: ObjectStore, pointer: Pointer) -> tuple[ObjectInfo, ManifestFormat]:
    """Detect a manifest's format by its first bytes, and by name or type where those are ambiguous.

    Content that begins with ``[`` is one array, unless its first line is a complete value and others follow,
    or unless its name or type is that of JSON Lines and its first line is not cut off.

    Raises:
        StorageError: the store's own.
    """
    info = store.head(pointer)
    start = store.read(info.pointer, 0, _START_BYTES, if_match=info.etag)
    gzipped = is_gzip(start)
    if gzipped:
        start = decompress_start(start)
    named_lines = kind_of(pointer.key, info.content_type) is ContentKind.JSON_LINES
    return info, _FORMATS[_is_array(start, named_lines=named_lines), gzipped]


_FORMATS: Final = {
    (False, False): ManifestFormat.JSON_LINES,
    (True, False): ManifestFormat.JSON_ARRAY,
    (False, True): ManifestFormat.GZIP_JSON_LINES,
    (True, True): ManifestFormat.GZIP_JSON_ARRAY,
}


def _is_array(start: bytes, *, named_lines: bool) -> bool:
    content = start.removeprefix(BOM).lstrip(b" \t\r\n")
    if not content.startswith(b"["):
        return False
    first, newline, others = content.partition(b"\n")
    if is_json(first):
        return not (named_lines or others.strip())
    return bool(newline) or not named_lines
