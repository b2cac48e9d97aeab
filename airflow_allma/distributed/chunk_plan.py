"""The chunks of a fork: how a list or a manifest is split, and what each chunk's task gets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

import msgspec

from airflow_allma.distributed.fork_decision import ForkDecision
from airflow_allma.engine import Services
from airflow_allma.engine.fork_limits import MAX_CONCURRENCY, ForkLimits
from airflow_allma.engine.item_batches import batches_of
from airflow_allma.engine.readers import (
    MAX_COUNTED_BYTES,
    Split,
    all_batches,
    count_items,
    first_ranges,
    plan_items,
)
from airflow_allma.exceptions import PermanentStepError, StorageConfigurationError, StorageError
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import ManifestPlan, ManifestRange, ObjectPrefix, ObjectStore, Pointer
from airflow_allma.storage.object_store import JSON_LINES_TYPE

__all__ = [
    "ChunkPlan",
    "ChunkSpec",
    "chunk_concurrency",
    "is_spilled",
    "manifest_chunks",
    "max_chunks",
    "plan_fork_chunks",
    "plan_object_chunks",
    "range_label",
    "split_list",
]


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """What the task of one chunk gets: an entry of the list that ``<fork>.chunks`` returns.

    Attributes:
        number: its number among the chunks, from 0.
        label: its name in the UI until it has run.
        first: index of its first item among all items; None if not counted.
        count: the number of its items; None if not counted.
        manifest: the bytes to read; None for a part of a list in the fork's context.
    """

    number: int
    label: str
    first: int | None = None
    count: int | None = None
    manifest: ManifestRange | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the chunk as a JSON object, for ``from_dict``."""
        return {
            "number": self.number,
            "label": self.label,
            "first": self.first,
            "count": self.count,
            "manifest": self.manifest.to_dict() if self.manifest else None,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> ChunkSpec:
        """Restore what ``to_dict`` returned."""
        manifest = saved["manifest"]
        return cls(
            number=saved["number"],
            label=saved["label"],
            first=saved["first"],
            count=saved["count"],
            manifest=ManifestRange.from_dict(manifest) if manifest else None,
        )

    def check(self) -> None:
        """Check the numbers of a chunk that was restored.

        Raises:
            ValueError: one of them is none, or negative; the message names it.
        """
        _check_number("number", self.number)
        for name, value in (("first", self.first), ("count", self.count)):
            if value is not None:
                _check_number(name, value)
        if self.manifest is not None:
            lines = self.manifest
            counts = [value for value in (lines.items, lines.most_items) if value is not None]
            for value in (*lines.range, lines.size, *counts):
                _check_number("manifest", value)

    def slice_of(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return the chunk's part of the fork's list."""
        first, count = self.first or 0, self.count or 0
        return values[first : first + count]

    def require_count(self, ran: int) -> None:
        """Check that a chunk whose items were counted at planning had as many when it ran.

        Raises:
            PermanentStepError: it did not; the message names the chunk and both numbers.
        """
        if self.count is not None and ran != self.count:
            raise PermanentStepError(
                f"Chunk {self.number} ({self.label}) had {ran} items when it ran, but {self.count} when it "
                "was planned: the fork's data has changed since. Clear the fork's items task, with its "
                "downstream tasks, to plan again."
            )


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """How a fork runs in chunks.

    Attributes:
        chunks: the chunks, by number.
        items: the number of the fork's items if they are a list, otherwise None.
        token: identifies the plan and its data: results of another plan are never read.
        concurrency: maximum of branch runs in flight in one chunk.
    """

    chunks: tuple[ChunkSpec, ...]
    items: int | None
    token: str
    concurrency: int

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as a JSON object, for ``from_dict``."""
        return {
            "chunks": [chunk.to_dict() for chunk in self.chunks],
            "items": self.items,
            "token": self.token,
            "concurrency": self.concurrency,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> ChunkPlan:
        """Restore what ``to_dict`` returned.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is something else. Users can write XComs, too.
        """
        plan = cls(
            tuple(map(ChunkSpec.from_dict, saved["chunks"])),
            saved.get("items"),
            str(saved["token"]),
            int(saved["concurrency"]),
        )
        for chunk in plan.chunks:
            chunk.check()
        if plan.items is not None:
            _check_number("items", plan.items)
        return plan

    @staticmethod
    def token_of(chunks: Iterable[ChunkSpec], *data: Any) -> str:
        """Return the token for chunks and for JSON values that describe their source data."""
        digest = hashlib.sha256(msgspec.json.encode([chunk.to_dict() for chunk in chunks]))
        digest.update(msgspec.json.encode(data))
        return digest.hexdigest()[:16]


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"{name} of a chunk must be a number from 0 on, not {value!r:.40}")


def range_label(first: int | None, count: int) -> str:
    """Return a chunk's label by its items, such as ``items 0-49``."""
    if first is None:
        return f"{count} items"
    return f"items {first}-{first + count - 1}" if count > 1 else f"item {first}"


def plan_fork_chunks(
    decision: ForkDecision,
    items: Callable[[], Sequence[Any]],
    services: Services,
    settings: AllmaSettings,
    identifiers: tuple[str, ...],
    *,
    reader: ItemReader | None = None,
    limits: ForkLimits | None = None,
) -> list[ChunkSpec]:
    """Plan the chunks of a fork that runs in chunks.

    Args:
        decision: what ``decide_fork`` returned.
        items: returns the fork's list; called only when it has to be written.
        services: the store and the offload location.
        settings: size and number of chunks.
        identifiers: the key below the offload location for what has to be written.
        reader: the fork's ``itemReader``, for items in objects.
        limits: the fork's numbers in this run.

    Raises:
        StorageError: an object cannot be read, or needs an offload location.
    """
    limits = limits or ForkLimits()
    settings = replace(settings, max_chunks=max_chunks(limits, settings))
    if decision.pointer is not None:
        reader = limits.reader(reader or ItemReader())
        if limits.has_batches:
            pointer = _write_batches(decision.pointer, services, identifiers, reader, limits)
            return plan_object_chunks(pointer, services, settings, identifiers)
        return plan_object_chunks(decision.pointer, services, settings, identifiers, reader=reader)
    count, size = decision.count or 0, decision.size or 0
    if is_spilled(decision, settings):
        pointer = _write_items(islice(items(), count), services, identifiers)
        return plan_object_chunks(pointer, services, settings, identifiers)
    by_items = -(-count // max(1, settings.max_in_memory_items))
    by_bytes = -(-size // settings.chunk_bytes)
    return split_list(count, min(settings.max_chunks, max(by_items, by_bytes)))


def max_chunks(limits: ForkLimits, settings: AllmaSettings) -> int:
    """Return the maximum number of a fork's chunks."""
    if limits.max_concurrency is None or MAX_CONCURRENCY not in limits.computed:
        return settings.max_chunks
    # Nothing limits how many chunks Airflow runs at the same time, and each has a branch run in flight.
    return min(settings.max_chunks, limits.max_concurrency)


def is_spilled(decision: ForkDecision, settings: AllmaSettings) -> bool:
    """Return whether a fork's list is written to the offload location before it is split."""
    return bool(settings.results_location) and (decision.size or 0) > settings.max_in_memory_bytes


def _write_items(items: Iterable[Any], services: Services, identifiers: tuple[str, ...]) -> Pointer:
    """Write a fork's list as a JSON Lines object."""
    location, store = services.settings.results_location, services.store
    if location is None or store is None:
        raise StorageError("No offload location is configured.")
    pointer = location.pointer(*identifiers, "items", ending=".jsonl")
    with store.open_writer(pointer, content_type=JSON_LINES_TYPE) as writer:
        for item in items:
            writer.write(msgspec.json.encode(item) + b"\n")
    return pointer


def _write_batches(
    pointer: Pointer | ObjectPrefix,
    services: Services,
    identifiers: tuple[str, ...],
    reader: ItemReader,
    limits: ForkLimits,
) -> Pointer:
    """Write the batches of the items in an object as a JSON Lines object: a chunk then has whole batches."""
    if services.store is None or services.settings.results_location is None:
        raise StorageConfigurationError(
            f"The items of {pointer} are put into batches (itemBatcher), which must be written before they "
            "can be split. Set [allma] offload_location to a location for them."
        )
    ratio = services.settings.max_unpack_ratio
    read = all_batches(services.store, pointer, reader, max_unpack_ratio=ratio)
    items = (item for batch in read for item in batch.items)
    return _write_items(batches_of(items, limits), services, identifiers)


def plan_object_chunks(
    pointer: Pointer | ObjectPrefix,
    services: Services,
    settings: AllmaSettings,
    identifiers: tuple[str, ...],
    *,
    reader: ItemReader | None = None,
) -> list[ChunkSpec]:
    """Plan the chunks of an object, or of the objects below a prefix.

    Args:
        pointer: the object, or the prefix.
        services: the store and the offload location.
        settings: size and number of chunks.
        identifiers: the key below the offload location for what has to be written.
        reader: how the items are read.

    Raises:
        StorageError: it cannot be read, or needs an offload location.
    """
    store, options = services.store, reader or ItemReader()
    if store is None:
        raise StorageError(f"No store is configured to read {pointer} from.")
    location = services.settings.results_location
    split = Split(
        settings.chunk_bytes,
        settings.max_chunks,
        (lambda name, ending: location.pointer(*identifiers, name, ending=ending)) if location else None,
        services.settings.max_unpack_ratio,
    )
    plan = plan_items(store, pointer, options, split)
    if isinstance(options.max_items, int):
        plan = replace(plan, ranges=first_ranges(store, plan.ranges, options.max_items))
    return manifest_chunks(plan, store)


def split_list(count: int, chunks: int) -> list[ChunkSpec]:
    """Split a list of ``count`` items into at most ``chunks`` parts whose sizes differ by at most one."""
    chunks = max(1, min(chunks, count))
    bounds = [count * number // chunks for number in range(chunks + 1)]
    return [
        ChunkSpec(number, range_label(first, end - first), first, end - first)
        for number, (first, end) in enumerate(pairwise(bounds))
    ]


def manifest_chunks(plan: ManifestPlan, store: ObjectStore) -> list[ChunkSpec]:
    """Return the chunks of a planned manifest; those of a small one are counted.

    Raises:
        StorageError: the manifest cannot be read.
    """
    is_counted = all(lines.items is not None for lines in plan.ranges)
    if (plan.lines.size > MAX_COUNTED_BYTES or plan.is_counted_later) and not is_counted:
        return [ChunkSpec(lines.number, _label_of(lines), manifest=lines) for lines in plan.ranges]
    return list(_counted_chunks(plan.ranges, store))


def _label_of(lines: ManifestRange) -> str:
    label = (lines.reader or {}).get("label")
    return label if isinstance(label, str) else f"bytes {lines.range.start}-{lines.range.end - 1}"


def _counted_chunks(ranges: Iterable[ManifestRange], store: ObjectStore) -> Iterator[ChunkSpec]:
    first = number = 0
    for lines in ranges:
        count = count_items(store, lines)
        if count:
            yield ChunkSpec(number, range_label(first, count), first, count, lines)
            number += 1
        first += count


def chunk_concurrency(
    limits: ForkLimits, chunks: int, chunks_at_once: int | None, settings: AllmaSettings
) -> int:
    """Return the maximum of branch runs in flight in a chunk, so that all chunks together keep the limit."""
    if limits.max_concurrency is None:
        return settings.chunk_concurrency
    return max(1, limits.max_concurrency // max(1, min(chunks, chunks_at_once or chunks)))
