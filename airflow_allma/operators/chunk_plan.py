"""Chunks of a fork: how a list or a manifest is split, and what a chunk's task is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.storage.jsonl import read_line_batches
from airflow_allma.storage.manifest_ranges import ManifestRange

if TYPE_CHECKING:
    from airflow_allma.storage import ObjectStore
    from airflow_allma.storage.manifest_ranges import ManifestPlan

__all__ = ["COUNTED_BYTES", "ChunkSpec", "count_lines", "list_chunks", "manifest_chunks", "range_label"]

COUNTED_BYTES: Final = 16 << 20
"""Manifests up to this size are read once at planning, so that chunks can be named by their items."""


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """What the task of one chunk is told: an entry of the list that ``chunks`` returns.

    Attributes:
        number: its place among the chunks, from 0.
        label: what names it to people before it ran.
        first: index of its first item in the whole list; None when nobody has counted.
        count: its items; None when nobody has counted.
        manifest: the bytes to read; None for a part of a list in the fork's context.
    """

    number: int
    label: str
    first: int | None = None
    count: int | None = None
    manifest: ManifestRange | None = None

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object; ``from_dict`` reads it."""
        return {
            "number": self.number,
            "label": self.label,
            "first": self.first,
            "count": self.count,
            "manifest": self.manifest.as_dict() if self.manifest else None,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> ChunkSpec:
        """What ``as_dict`` gave."""
        manifest = saved["manifest"]
        return cls(
            number=saved["number"],
            label=saved["label"],
            first=saved["first"],
            count=saved["count"],
            manifest=ManifestRange.from_dict(manifest) if manifest else None,
        )

    def require_count(self, ran: int) -> None:
        """Check that a chunk whose items were counted had as many when it ran.

        Raises:
            PermanentStepError: it had not; the message names the chunk and both numbers.
        """
        if self.count is not None and ran != self.count:
            raise PermanentStepError(
                f"Chunk {self.number} ({self.label}) had {ran} items when it ran, but {self.count} when it "
                "was planned: the fork's data has changed since. Clear the fork's items task, and what comes "
                "after it, to plan again."
            )


def range_label(first: int | None, count: int) -> str:
    """Names a chunk by its items: ``items 0-49``."""
    if first is None:
        return f"{count} items"
    return f"items {first}-{first + count - 1}" if count > 1 else f"item {first}"


def list_chunks(count: int, chunks: int) -> list[ChunkSpec]:
    """Split a list of ``count`` items into at most ``chunks`` parts that differ by one item at most."""
    chunks = max(1, min(chunks, count))
    bounds = [count * number // chunks for number in range(chunks + 1)]
    return [
        ChunkSpec(number, range_label(first, end - first), first, end - first)
        for number, (first, end) in enumerate(pairwise(bounds))
    ]


def manifest_chunks(plan: ManifestPlan, store: ObjectStore) -> list[ChunkSpec]:
    """The chunks of a planned manifest; a small one is counted, so that chunks know their items.

    Raises:
        StorageError: the manifest cannot be read.
    """
    chunks = plan.chunks()
    if plan.size > COUNTED_BYTES:
        return [
            ChunkSpec(chunk.number, f"bytes {chunk.range.start}-{chunk.range.end - 1}", manifest=chunk)
            for chunk in chunks
        ]
    return list(_counted(chunks, store))


def _counted(chunks: list[ManifestRange], store: ObjectStore) -> Iterator[ChunkSpec]:
    first = number = 0
    for chunk in chunks:
        count = count_lines(store, chunk)
        if count:
            yield ChunkSpec(number, range_label(first, count), first, count, chunk)
            number += 1
        first += count


def count_lines(store: ObjectStore, chunk: ManifestRange) -> int:
    """How many items a chunk has; reads all of it.

    Raises:
        StorageError: the manifest cannot be read, or is not the planned one any more.
    """
    return sum(len(batch.lines) for batch in read_line_batches(store, chunk))
