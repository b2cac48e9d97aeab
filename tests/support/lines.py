"""The lines of an object one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from airflow_allma.storage.jsonl import Line, read_line_batches
from airflow_allma.storage.manifest_ranges import ManifestRange
from airflow_allma.storage.object_store import ObjectStore
from airflow_allma.storage.pointer import Pointer


def read_lines(store: ObjectStore, source: ManifestRange | Pointer, **options: Any) -> Iterator[Line]:
    """Yield the lines of a range, or of a whole object; options as of ``read_line_batches``."""
    with closing(read_line_batches(store, source, **options)) as batches:
        for batch in batches:
            yield from map(Line, batch.offsets, batch.lines)
