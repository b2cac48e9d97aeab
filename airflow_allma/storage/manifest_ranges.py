"""The plan of a manifest: which byte ranges of which content make which chunk.

Planning looks at nothing but the object's size. The rule that makes it sound: a line belongs to the chunk in
which it STARTS. Chunk ``[start, end)`` owns the lines whose first byte ``s`` has ``start < s <= end``, and
the first chunk owns byte 0 as well. So a reader skips to the first line break at or behind ``start``, and
reads on behind ``end`` until the line that began there, or on ``end`` itself, is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Self

from airflow_allma.storage.base import ObjectInfo
from airflow_allma.storage.pointers import Pointer

__all__ = ["ByteRange", "ManifestFormat", "ManifestPlan", "ManifestRange", "plan_chunks"]


class ByteRange(NamedTuple):
    """Bytes ``start`` to ``end`` (exclusive) of an object."""

    start: int
    end: int


class ManifestFormat(StrEnum):
    """What the object that a flow pointed at holds."""

    JSON_LINES = "json-lines"
    """One JSON value a line: read where it lies."""
    JSON_ARRAY = "json-array"
    """One JSON array: its elements are written as lines first."""
    GZIP_JSON_LINES = "json-lines+gzip"
    """Packed lines: unpacked first."""
    GZIP_JSON_ARRAY = "json-array+gzip"
    """A packed array."""

    @property
    def is_gzipped(self) -> bool:
        """Whether it is gzip."""
        return self in {ManifestFormat.GZIP_JSON_LINES, ManifestFormat.GZIP_JSON_ARRAY}

    @property
    def is_array(self) -> bool:
        """Whether it is one JSON array."""
        return self in {ManifestFormat.JSON_ARRAY, ManifestFormat.GZIP_JSON_ARRAY}


def plan_chunks(size: int, chunk_bytes: int, max_chunks: int) -> list[ByteRange]:
    """Split ``size`` bytes into ranges of about ``chunk_bytes``, but never into more than ``max_chunks``.

    The ranges follow each other without gaps, none is empty, and they differ by one byte at most. No bytes,
    no ranges.

    Raises:
        ValueError: ``size`` is negative, or another figure below 1.
    """
    if size < 0 or chunk_bytes < 1 or max_chunks < 1:
        raise ValueError(f"no chunks can be planned for {size=}, {chunk_bytes=}, {max_chunks=}")
    count = min(-(-size // chunk_bytes), max_chunks)
    return [ByteRange(size * number // count, size * (number + 1) // count) for number in range(count)]


@dataclass(frozen=True, slots=True)
class ManifestRange:
    """One chunk: all that a worker needs to read its lines.

    Attributes:
        number: its place among the chunks of the plan, from 0.
        pointer: the JSON Lines object; with the version, when the bucket keeps versions.
        etag: what every read of it is conditional on.
        size: bytes of the whole object.
        range: the chunk's bytes.
    """

    number: int
    pointer: Pointer
    etag: str
    size: int
    range: ByteRange

    @classmethod
    def whole(cls, info: ObjectInfo) -> Self:
        """The object as one chunk."""
        return cls(0, info.pointer, info.etag, info.size, ByteRange(0, info.size))

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object; ``from_dict`` reads it."""
        return {
            "number": self.number,
            "pointer": self.pointer.inner(),
            "etag": self.etag,
            "size": self.size,
            "range": list(self.range),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What ``as_dict`` gave."""
        return cls(
            data["number"], _pointer(data["pointer"]), data["etag"], data["size"], ByteRange(*data["range"])
        )


@dataclass(frozen=True, slots=True)
class ManifestPlan:
    """A manifest split into chunks.

    Attributes:
        source: the object that the flow pointed at.
        format: what it holds.
        pointer: the JSON Lines object that the chunks read: the source itself, or what was made of it.
        etag: of that object, at planning.
        size: its bytes.
        ranges: one a chunk, in order.
        line_count: its lines, when planning had to read them all; None when nobody has counted.
    """

    source: Pointer
    format: ManifestFormat
    pointer: Pointer
    etag: str
    size: int
    ranges: tuple[ByteRange, ...]
    line_count: int | None = None

    @property
    def version_id(self) -> str | None:
        """The version that the chunks read, when the bucket keeps versions."""
        return self.pointer.version_id

    def chunks(self) -> list[ManifestRange]:
        """The chunks, each on its own."""
        return [
            ManifestRange(number, self.pointer, self.etag, self.size, byte_range)
            for number, byte_range in enumerate(self.ranges)
        ]

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object; ``from_dict`` reads it."""
        return {
            "source": self.source.inner(),
            "format": self.format.value,
            "pointer": self.pointer.inner(),
            "etag": self.etag,
            "size": self.size,
            "ranges": [list(byte_range) for byte_range in self.ranges],
            "lineCount": self.line_count,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What ``as_dict`` gave."""
        return cls(
            source=_pointer(data["source"]),
            format=ManifestFormat(data["format"]),
            pointer=_pointer(data["pointer"]),
            etag=data["etag"],
            size=data["size"],
            ranges=tuple(ByteRange(*byte_range) for byte_range in data["ranges"]),
            line_count=data["lineCount"],
        )


def _pointer(inner: Mapping[str, Any]) -> Pointer:
    return Pointer(inner["bucket"], inner["key"], inner.get("versionId"), inner.get("region"))
