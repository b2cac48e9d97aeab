"""Reading the items of forks from objects: one module a format, behind one protocol.

``plan_items`` splits what a pointer names into ranges; ``range_batches`` reads a range; ``all_batches`` reads
everything in one process. ``reader`` has the protocol, ``formats`` finds the reader.
"""

from __future__ import annotations

from airflow_allma.engine.readers.item_offsets import ItemOffsets
from airflow_allma.engine.readers.planning import (
    ReadItem,
    all_batches,
    count_items,
    first_ranges,
    plan_items,
    range_batches,
    range_items,
)
from airflow_allma.engine.readers.reader import ItemBatch, Split

__all__ = [
    "ItemBatch",
    "ItemOffsets",
    "ReadItem",
    "Split",
    "all_batches",
    "count_items",
    "first_ranges",
    "plan_items",
    "range_batches",
    "range_items",
]
