"""The readers by format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from airflow_allma.engine.readers.format_reader import FormatReader, range_format
from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader
from airflow_allma.storage import ManifestRange

__all__ = ["parse_reader", "reader_of", "reader_of_format"]


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

            return ObjectsReader(reader_of_format)
        case ItemFormat.MANIFEST:
            from airflow_allma.engine.readers.read_manifest import ManifestReader

            return ManifestReader(reader_of_format)
        case "FILES":
            # Only planning writes it.
            from airflow_allma.engine.readers.read_files import FilesReader

            return FilesReader(reader_of_format)
    raise StorageConfigurationError(f"{name[:40]!r} is not a format that items can be read from.")


def reader_of(lines: ManifestRange) -> FormatReader:
    """Return the reader of a planned range."""
    return reader_of_format(range_format(lines))


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
        problem = first["msg"].removeprefix("Value error, ")
        raise StorageConfigurationError(f"itemReader.{where}: {problem}.") from error
    unknown = [*(reader.model_extra or {}), *(f"csv.{name}" for name in reader.csv.model_extra or {})]
    if unknown:
        known = ", ".join(sorted(field.alias or name for name, field in ItemReader.model_fields.items()))
        raise StorageConfigurationError(f"itemReader has no field {unknown[0]!r}. Its fields: {known}.")
    if isinstance(reader.max_items, str):
        raise StorageConfigurationError("itemReader.maxItems must be a number outside of a flow.")
    return reader
