"""Byte ranges of a manifest, pinned to one content.

Planning needs only the object's size. The rule that makes it correct: a line belongs to the range
in which it STARTS. Range ``[start, end)`` owns the lines whose first byte ``s`` has ``start < s <= end``, and
the first range owns byte 0 as well. So a reader skips to the first line break at or after ``start``, and
reads on after ``end`` until the line that began there, or on ``end`` itself, is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from airflow_allma.storage.object_store import ObjectInfo
from airflow_allma.storage.pointer import Pointer

__all__ = ["ByteRange", "ManifestRange", "plan_ranges"]


class ByteRange(NamedTuple):
    """Bytes ``start`` to ``end`` (exclusive) of an object."""

    start: int
    end: int


def plan_ranges(size: int, range_bytes: int, max_ranges: int) -> list[ByteRange]:
    """Split ``size`` bytes into ranges of about ``range_bytes``, but never into more than ``max_ranges``.

    The ranges are contiguous, none is empty, and their lengths differ by at most one byte. An empty object
    has no ranges.

    Raises:
        ValueError: ``size`` is negative, or another argument is below 1.
    """
    if size < 0 or range_bytes < 1 or max_ranges < 1:
        raise ValueError(f"cannot plan ranges for {size=}, {range_bytes=}, {max_ranges=}")
    count = min(-(-size // range_bytes), max_ranges)
    return [ByteRange(size * number // count, size * (number + 1) // count) for number in range(count)]


@dataclass(frozen=True, slots=True)
class ManifestRange:
    """Everything that a worker needs to read the lines of one range.

    Attributes:
        number: its index among the ranges of the manifest, from 0.
        pointer: the JSON Lines object; with its version if the bucket is versioned.
        etag: every read of the object is conditional on it.
        size: bytes of the whole object.
        range: the bytes; of formats that are not split by bytes, what their reader counts.
        reader: how the range is read, for ``engine.readers``; None: as JSON Lines.
        items: how many items are in it; None if they have not been counted.
        most_items: no more items are read; None: all are.
    """

    number: int
    pointer: Pointer
    etag: str
    size: int
    range: ByteRange
    reader: Mapping[str, Any] | None = None
    items: int | None = None
    most_items: int | None = None

    @classmethod
    def whole(cls, info: ObjectInfo) -> Self:
        """Return the whole object as one range."""
        return cls(0, info.pointer, info.etag, info.size, ByteRange(0, info.size))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object, which ``from_dict`` reads."""
        saved = {
            "number": self.number,
            "pointer": self.pointer.inner(),
            "etag": self.etag,
            "size": self.size,
            "range": list(self.range),
            "reader": self.reader,
            "items": self.items,
            "mostItems": self.most_items,
        }
        return {name: value for name, value in saved.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` returned."""
        inner = data["pointer"]
        return cls(
            data["number"],
            Pointer(inner["bucket"], inner["key"], inner.get("versionId"), inner.get("region")),
            data["etag"],
            data["size"],
            ByteRange(*data["range"]),
            data.get("reader"),
            data.get("items"),
            data.get("mostItems"),
        )
