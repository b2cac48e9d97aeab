"""Reading the items of forks from objects: one module a format, behind one protocol.

``plan_items`` splits what a pointer names into ranges; ``range_batches`` reads a range; ``all_batches`` reads
everything in one process. ``format_reader`` has the protocol, ``open_source`` finds the format of an
object, and ``find_reader`` what reads it.
"""

from __future__ import annotations

from airflow_allma.engine.readers.find_reader import parse_reader, reader_of
from airflow_allma.engine.readers.format_reader import MAX_COUNTED_BYTES, ItemBatch, Split, range_format
from airflow_allma.engine.readers.item_offsets import ItemOffsets, offset_in, offset_name
from airflow_allma.engine.readers.item_plan import (
    ReadItem,
    all_batches,
    count_items,
    estimate_items,
    first_ranges,
    is_counted_by_range,
    plan_items,
    range_batches,
    range_items,
)

__all__ = [
    "MAX_COUNTED_BYTES",
    "ItemBatch",
    "ItemOffsets",
    "ReadItem",
    "Split",
    "all_batches",
    "count_items",
    "estimate_items",
    "first_ranges",
    "is_counted_by_range",
    "offset_in",
    "offset_name",
    "parse_reader",
    "plan_items",
    "range_batches",
    "range_format",
    "range_items",
    "reader_of",
]
