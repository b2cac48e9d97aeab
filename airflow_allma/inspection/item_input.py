"""The input of one item, and where it is in its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from airflow_allma.engine import ItemError
from airflow_allma.engine.readers import reader_of
from airflow_allma.exceptions import StorageError
from airflow_allma.inspection.chunk_reader import ChunkReader
from airflow_allma.inspection.fork_view import ForkView
from airflow_allma.inspection.item_rows import MAX_VALUE_BYTES
from airflow_allma.inspection.stored_lines import FoundLine
from airflow_allma.storage import ManifestRange, ObjectStore, encode_value
from airflow_allma.storage.decoding import BOM
from airflow_allma.storage.jsonl import MAX_LINE_BYTES
from airflow_allma.storage.line_counter import LineCounter

__all__ = ["ItemInput", "place_of", "read_input"]

_FIRST_READ: Final = 64 << 10
_MAX_NUMBERED_BYTES: Final = 4 << 20
"""How far into a manifest lines are counted, only to number one."""
_MAX_SEARCHED_BYTES: Final = 16 << 20
"""How far into a chunk the line of an item without a result is looked for."""


class ItemInput(NamedTuple):
    """An item's JSON, or its beginning.

    Attributes:
        value: the JSON, of a line of JSON at most 1 MiB; empty for an item that cannot be read.
        size: bytes of the whole JSON.
        offset: where its line begins in the manifest; None if its bytes are no line of it.
        where: fields that say where it is, from its reader; None: by ``offset``.
    """

    value: bytes
    size: int
    offset: int | None = None
    where: Mapping[str, Any] | None = None


def read_input(view: ForkView, chunk: ChunkReader, item: int, lines: Sequence[FoundLine]) -> ItemInput | None:
    """Return an item's JSON as the chunk got it; None if it is not known.

    Args:
        view: the fork.
        chunk: the item's chunk.
        item: its index in the chunk.
        lines: its results, which say where it is.

    Raises:
        StorageError: the store cannot be read.
    """
    manifest = chunk.spec.manifest
    if manifest is None:
        values = () if view.values is None else chunk.spec.slice_of(view.values())
        if item >= len(values):
            return None
        encoded = encode_value(values[item])
        return ItemInput(encoded, len(encoded))
    offset = next((line.offset for line in lines if line.offset >= 0), None)
    if offset is None:
        offset = reader_of(manifest).offset_of(view.store, manifest, item, _MAX_SEARCHED_BYTES)
    if offset is None:
        return None
    if manifest.reader is None:
        return _read_line(view.store, manifest, offset)
    place = reader_of(manifest).find(view.store, manifest, offset, MAX_LINE_BYTES)
    if place is None:
        return None
    encoded = b"" if isinstance(place.value, ItemError) else encode_value(place.value)
    # As a whole: it cannot be read from the object as it is, so that what is cut could not be saved.
    return ItemInput(encoded, len(encoded), None, place.where)


def _read_line(store: ObjectStore, manifest: ManifestRange, offset: int) -> ItemInput:
    value, size = b"", _FIRST_READ
    while True:
        start = offset + len(value)
        block = store.read(manifest.pointer, start, start + size, if_match=manifest.etag)
        before, newline, _ = block.partition(b"\n")
        value += before
        if newline or len(block) < size or len(value) > MAX_LINE_BYTES:
            break
        size = min(4 * size, MAX_VALUE_BYTES)
    value = value.removesuffix(b"\r")
    if value.startswith(BOM):
        value, offset = value.removeprefix(BOM), offset + len(BOM)
    return ItemInput(value[:MAX_VALUE_BYTES], len(value), offset)


def place_of(view: ForkView, chunk: ChunkReader, item_input: ItemInput) -> dict[str, Any] | None:
    """Return fields that say where an item is in its manifest; None for the members of a list."""
    if item_input.where is not None:
        return dict(item_input.where)
    manifest, offset = chunk.spec.manifest, item_input.offset
    if manifest is None or offset is None:
        return None
    line: dict[str, Any] = {"pointer": manifest.pointer.uri, "byte": offset}
    counter = LineCounter(view.store, manifest.pointer, manifest.etag, max_bytes=_MAX_NUMBERED_BYTES)
    with suppress(StorageError):
        if (number := counter.number_at(offset)) is not None:
            line["number"] = number
    return line
