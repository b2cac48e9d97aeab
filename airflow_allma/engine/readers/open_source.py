"""What a fork's pointer names, and in which format."""

from __future__ import annotations

from typing import Final

from airflow_allma.engine.readers.format_reader import Source
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader
from airflow_allma.storage import ObjectInfo, ObjectPrefix, ObjectStore, Pointer
from airflow_allma.storage.compression import without_compression
from airflow_allma.storage.manifest_format import read_start

__all__ = ["find_format", "open_source"]

_PARQUET_MAGIC: Final = (b"PAR1", b"PARE")  # the latter with an encrypted footer
_PARQUET_ENDINGS: Final = (".parquet", ".parq", ".pq")
_CSV_ENDINGS: Final = (".csv", ".tsv", ".tab")
_CSV_TYPES: Final = ("text/csv", "text/tab-separated-values")
_MANIFEST_NAME: Final = "manifest.json"
_MANIFEST_FIELDS: Final = (b'"fileFormat"', b'"files"')


def open_source(
    store: ObjectStore,
    pointer: Pointer | ObjectPrefix,
    options: ItemReader,
    *,
    known: ObjectInfo | None = None,
) -> Source:
    """Look a source up: one HEAD and one read of its first 64 KiB; nothing for a prefix.

    Args:
        store: the store.
        pointer: the object, or the prefix.
        options: the fork's ``itemReader``.
        known: the object, if it has been looked up.

    Raises:
        StorageError: the object cannot be read.
    """
    if isinstance(pointer, ObjectPrefix):
        return Source(pointer, options)
    found = read_start(store, pointer, known)
    return Source(pointer, options, found.info, found.start, found.compression)


def find_format(source: Source) -> ItemFormat:
    """Return a source's format: as the flow says, else by name, then media type, then first bytes."""
    if source.options.format is not ItemFormat.AUTO:
        return source.options.format
    name = without_compression(source.pointer.key)
    # Also what is compressed, cut short or encrypted: the reader says what is wrong with it.
    if name.endswith(_PARQUET_ENDINGS) or source.start.startswith(_PARQUET_MAGIC):
        return ItemFormat.PARQUET
    media = (source.info.content_type if source.info else None) or ""
    if name.endswith(_CSV_ENDINGS) or media.lower().startswith(_CSV_TYPES):
        return ItemFormat.CSV
    if name.endswith(_MANIFEST_NAME) and all(field in source.start for field in _MANIFEST_FIELDS):
        return ItemFormat.MANIFEST
    return ItemFormat.JSON if source.options.items_at else ItemFormat.JSONL
