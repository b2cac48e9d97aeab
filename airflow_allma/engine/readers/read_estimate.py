"""What reading a source costs, from a look at it: what ``airflow-allma plan`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from airflow_allma.storage import ObjectInfo
from airflow_allma.storage.manifest_ranges import plan_ranges

__all__ = [
    "LISTED_PER_REQUEST",
    "MAX_LISTED",
    "ChunkCost",
    "ReadEstimate",
    "chunks_by_bytes",
]

LISTED_PER_REQUEST: Final = 1000
"""The objects that S3 lists in one answer."""

MAX_LISTED: Final = 10 * LISTED_PER_REQUEST
"""How many objects are listed for an estimate."""


@dataclass(frozen=True, slots=True)
class ChunkCost:
    """What the task of one chunk reads.

    Attributes:
        label: its name until it has run.
        size: bytes.
        items: how many items it has; None if only reading shows it.
    """

    label: str
    size: int
    items: int | None = None


@dataclass(frozen=True, slots=True)
class ReadEstimate:
    """What planning and reading a source costs.

    Attributes:
        content: what holds the items, such as ``CSV`` or ``JSON Lines compressed with gzip``.
        planning_bytes: bytes that planning reads.
        planning_requests: requests that planning sends to the store, without those that write.
        written_first: whether planning writes an object first, and only then knows the chunks.
        chunks: the chunks; None if they are not known before something is written.
        most_chunks: whether some of ``chunks`` may turn out to have no items, and are then left out.
        at_least: whether only the beginning was looked at, so that there is more of everything.
        items: how many items there are (or at least are); None if only reading shows it.
        size: bytes of the items (or at least so many); None if not known.
        info: the object that was looked at; None for a prefix.
    """

    content: str
    planning_bytes: int
    planning_requests: int
    written_first: bool = False
    chunks: Sequence[ChunkCost] | None = None
    most_chunks: bool = False
    at_least: bool = False
    items: int | None = None
    size: int | None = None
    info: ObjectInfo | None = None


def chunks_by_bytes(size: int, range_bytes: int, max_ranges: int) -> list[ChunkCost]:
    """Return the chunks of an object that is split by bytes."""
    return [
        ChunkCost(f"bytes {one.start}-{one.end - 1}", one.end - one.start)
        for one in plan_ranges(size, range_bytes, max_ranges)
    ]
