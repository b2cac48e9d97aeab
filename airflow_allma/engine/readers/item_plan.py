"""From what a fork's pointer names to ranges that tasks read, whatever its format."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.readers.find_reader import reader_of, reader_of_format
from airflow_allma.engine.readers.format_reader import ItemBatch, Source, Split, range_format
from airflow_allma.engine.readers.item_offsets import ItemOffsets
from airflow_allma.engine.readers.open_source import find_format, open_source
from airflow_allma.engine.readers.read_estimate import ReadEstimate
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader, unused_options
from airflow_allma.storage import ManifestPlan, ManifestRange, ObjectPrefix, ObjectStore, Pointer
from airflow_allma.storage.compression import MAX_UNPACK_RATIO

_log: Final = logging.getLogger("airflow_allma.engine")

__all__ = [
    "ReadItem",
    "all_batches",
    "count_items",
    "estimate_items",
    "first_ranges",
    "is_counted_by_range",
    "plan_items",
    "range_batches",
    "range_items",
]


def plan_items(
    store: ObjectStore, pointer: Pointer | ObjectPrefix, options: ItemReader, split: Split
) -> ManifestPlan:
    """Split what a pointer names into ranges, pinned to its present content.

    Args:
        store: the store.
        pointer: the object, or the prefix of OBJECTS.
        options: the fork's ``itemReader``.
        split: the sizes to aim for, and where to write what planning needs.

    Raises:
        StorageConfigurationError: an object has to be written first, and ``split.spool`` is None.
        StorageError: the source cannot be read.
    """
    source = open_source(store, pointer, options)
    found = _format_of(source)
    packed = f", compressed with {source.compression}" if source.compression else ""
    _log.info("The items at %s are read as %s%s", pointer, found, packed)
    return reader_of_format(found).plan(store, source, split)


def _format_of(source: Source) -> ItemFormat:
    """Return a source's format; an option that the format does not have is a warning in the log."""
    found, options = find_format(source), source.options
    given = {name for name, value in options.model_dump(by_alias=True, exclude_unset=True).items() if value}
    for field, what in unused_options(given, found, options.read):
        _log.warning(
            "itemReader.%s has no effect: it is for %s, and %s is read as %s",
            field,
            what,
            source.target,
            found,
        )
    return found


def estimate_items(
    store: ObjectStore, target: Pointer | ObjectPrefix, options: ItemReader, split: Split
) -> ReadEstimate:
    """Return what planning and reading would cost, with at most the look that ``ReadEstimate`` allows.

    Raises:
        StorageError: the source cannot be read.
    """
    source = open_source(store, target, options)
    return replace(reader_of_format(find_format(source)).estimate(store, source, split), info=source.info)


def first_ranges(
    store: ObjectStore, ranges: tuple[ManifestRange, ...], most: int
) -> tuple[ManifestRange, ...]:
    """Return ranges with the first ``most`` items of ``ranges``, counted.

    Reads the ranges that these items are in, where they have not been counted.

    Raises:
        StorageError: the source cannot be read.
    """
    kept: list[ManifestRange] = []
    left = most
    for lines in ranges:
        if left <= 0:
            break
        counted = count_items(store, lines)
        if counted >= left:
            kept.append(replace(lines, items=left, most_items=left))
        elif counted:
            kept.append(replace(lines, items=counted))
        left -= counted
    return tuple(kept)


def range_batches(store: ObjectStore, lines: ManifestRange) -> Iterator[ItemBatch]:
    """Yield the items of a planned range in batches, in order. No batch is empty.

    Raises:
        StorageError: the source cannot be read, or has changed since it was planned.
    """
    batches = reader_of(lines).batches(store, lines)
    return batches if lines.most_items is None else _first_items(batches, lines.most_items)


def _first_items(batches: Iterator[ItemBatch], most: int) -> Iterator[ItemBatch]:
    for batch in batches:
        left = most - batch.first
        if len(batch.items) >= left:
            if left > 0:
                yield ItemBatch(batch.first, batch.offsets[:left], batch.items[:left])
            return
        yield batch


def all_batches(
    store: ObjectStore,
    pointer: Pointer | ObjectPrefix,
    options: ItemReader | None = None,
    *,
    max_unpack_ratio: int = MAX_UNPACK_RATIO,
    offsets: ItemOffsets | None = None,
) -> Iterator[ItemBatch]:
    """Stream all items that a pointer names, in one process; nothing is written.

    Args:
        store: the store.
        pointer: the object, or the prefix of OBJECTS.
        options: the fork's ``itemReader``.
        max_unpack_ratio: how many bytes a compressed byte may unpack to; 0 means no limit.
        offsets: learns where items are, for the details of their errors.

    Raises:
        StepError: the source cannot be read, or is invalid as a whole.
    """
    try:
        options = options or ItemReader()
        source = open_source(store, pointer, options)
        reader = reader_of_format(_format_of(source))
        if offsets is not None:
            offsets.use_details(partial(reader.details, None))
        batches = reader.stream(store, source, max_unpack_ratio=max_unpack_ratio)
        most = options.max_items
        yield from _first_items(batches, most) if isinstance(most, int) else batches
    except Exception as error:
        raise step_error_from(error) from error


def count_items(store: ObjectStore, lines: ManifestRange) -> int:
    """Count the items in a range; reads all of it, if they have not been counted.

    Raises:
        StorageError: the source cannot be read, or has changed since it was planned.
    """
    return reader_of(lines).count(store, lines) if lines.items is None else lines.items


def is_counted_by_range(lines: ManifestRange) -> bool:
    """Return whether counting reads no more than the bytes of the range; not if they only name files."""
    return lines.items is not None or range_format(lines) != "FILES"


class ReadItem(NamedTuple):
    """One item of a range.

    Attributes:
        number: its number among the items of the range, from 0.
        offset: where it begins, as its reader counts; see ``ItemBatch``.
        item: the JSON value; an ``ItemError`` for one that cannot be read.
    """

    number: int
    offset: int
    item: Any


def range_items(store: ObjectStore, lines: ManifestRange) -> Iterator[ReadItem]:
    """Yield the items of a planned range; numbers count from the range's first item.

    Raises:
        StorageError: the object cannot be read, or has changed since it was planned.
    """
    for first, offsets, items in range_batches(store, lines):
        yield from map(ReadItem, count(first), offsets, items)
