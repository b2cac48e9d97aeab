"""The readers by format, and which of them reads an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from airflow_allma.engine.readers.format_reader import FormatReader, Source
from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader
from airflow_allma.storage import ManifestRange, ObjectPrefix, ObjectStore, Pointer
from airflow_allma.storage.compression import compression_of, decompress_start, without_compression

__all__ = ["find_format", "open_source", "parse_reader", "reader_of", "reader_of_format"]

_START_BYTES: Final = 64 << 10
_PARQUET_MAGIC: Final = (b"PAR1", b"PARE")  # the latter with an encrypted footer
_PARQUET_ENDINGS: Final = (".parquet", ".parq", ".pq")
_CSV_ENDINGS: Final = (".csv", ".tsv", ".tab")
_CSV_TYPES: Final = ("text/csv", "text/tab-separated-values")
_FILES: Final = "FILES"


def open_source(store: ObjectStore, pointer: Pointer | ObjectPrefix, options: ItemReader) -> Source:
    """Look a source up: one HEAD and one read of its first 64 KiB; nothing for a prefix.

    Raises:
        StorageError: the object cannot be read.
    """
    if isinstance(pointer, ObjectPrefix):
        return Source(pointer, options)
    info = store.head(pointer)
    start = store.read(info.pointer, 0, _START_BYTES, if_match=info.etag)
    compression = compression_of(start)
    if compression is not None:
        start = decompress_start(start, compression)
    return Source(pointer, options, info, start, compression)


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
    return ItemFormat.JSON if source.options.items_at else ItemFormat.JSONL


def reader_of_format(name: str) -> FormatReader:
    """Return the reader of a format; its module is imported when it is needed.

    Args:
        name: an ``ItemFormat``, or what a planned range says.

    Raises:
        StorageConfigurationError: there is none.
    """
    match name:
        case ItemFormat.JSONL | ItemFormat.JSON:
            from airflow_allma.engine.readers.read_json import JsonReader

            return JsonReader()
        case ItemFormat.CSV:
            from airflow_allma.engine.readers.read_csv import CsvReader

            return CsvReader()
        case ItemFormat.PARQUET:
            from airflow_allma.engine.readers.read_parquet import ParquetReader

            return ParquetReader()
        case ItemFormat.OBJECTS:
            from airflow_allma.engine.readers.read_objects import ObjectsReader

            return ObjectsReader()
    raise StorageConfigurationError(f"{name[:40]!r} is not a format that items can be read from.")


def reader_of(lines: ManifestRange) -> FormatReader:
    """Return the reader of a planned range."""
    return reader_of_format(str((lines.reader or {}).get("format", ItemFormat.JSONL)))


def parse_reader(options: Mapping[str, Any]) -> ItemReader:
    """Return reader options that are not part of a flow.

    Args:
        options: as ``itemReader`` in a flow; numbers must be numbers.

    Raises:
        StorageConfigurationError: a field is not known or not valid; the message names it.
    """
    try:
        reader = ItemReader.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StorageConfigurationError(f"itemReader.{where}: {first['msg']}.") from error
    unknown = [*(reader.model_extra or {}), *(f"csv.{name}" for name in reader.csv.model_extra or {})]
    if unknown:
        known = ", ".join(sorted(field.alias or name for name, field in ItemReader.model_fields.items()))
        raise StorageConfigurationError(f"itemReader has no field {unknown[0]!r}. Its fields: {known}.")
    if isinstance(reader.max_items, str):
        raise StorageConfigurationError("itemReader.maxItems must be a number outside of a flow.")
    return reader
