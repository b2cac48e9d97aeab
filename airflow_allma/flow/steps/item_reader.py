"""How a fork reads the items that are in objects: ``itemReader`` of a fork."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from airflow_allma.flow.model_base import Model, NonEmptyStr, WholeOrPath

__all__ = ["CsvOptions", "ItemFormat", "ItemReader", "ObjectRead"]


class ItemFormat(StrEnum):
    """What holds the items."""

    AUTO = "AUTO"
    """What the object's name says, then its type, then its first bytes."""
    JSONL = "JSONL"
    JSON = "JSON"
    CSV = "CSV"
    PARQUET = "PARQUET"
    OBJECTS = "OBJECTS"
    """The objects below a prefix: one item an object."""
    MANIFEST = "MANIFEST"
    """A manifest of S3 Inventory or Athena: the files that it lists."""


class ObjectRead(StrEnum):
    """What is read of the objects that OBJECTS lists."""

    JSON = "JSON"
    TEXT = "TEXT"
    LINES = "LINES"


class CsvOptions(Model):
    """The form of CSV and TSV."""

    header: Annotated[
        str | tuple[str, ...],
        Field(description="FIRST_ROW: the first row names the fields; or the names of the fields."),
    ] = "FIRST_ROW"
    delimiter: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1,
            description="What separates fields; absent: a tab in .tsv, otherwise a comma.",
        ),
    ] = None
    quote: Annotated[
        str, Field(max_length=1, description="The quote; empty: there are none, and files are split faster.")
    ] = '"'
    encoding: Annotated[NonEmptyStr, Field(description="The character encoding.")] = "utf-8"


class ItemReader(Model):
    """How the items of a fork are read."""

    format: Annotated[ItemFormat, Field(description="What holds the items; AUTO: found out.")] = (
        ItemFormat.AUTO
    )
    csv: Annotated[CsvOptions, Field(default_factory=CsvOptions, description="The form of CSV.")]
    columns: Annotated[
        tuple[NonEmptyStr, ...], Field(description="The only columns of Parquet that are read; empty: all.")
    ] = ()
    max_items: Annotated[
        WholeOrPath | None,
        Field(description="The fork has no more items than this; a number or a JSONPath."),
    ] = None
    items_at: Annotated[
        NonEmptyStr | None, Field(description="JSONPath to the array of items inside a JSON document.")
    ] = None
    read: Annotated[
        ObjectRead | None,
        Field(description="With OBJECTS: what is read of each; absent: nothing."),
    ] = None
