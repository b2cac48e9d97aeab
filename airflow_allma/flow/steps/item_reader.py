"""How a fork reads the items that are in objects: ``itemReader`` of a fork."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from airflow_allma.common.charsets import known_encoding
from airflow_allma.flow.diagnostics import quoted
from airflow_allma.flow.model_base import Model, NonEmptyStr, WholeOrPath

__all__ = ["CsvOptions", "ItemFormat", "ItemReader", "ObjectRead", "unused_options"]

_OPTIONS: Final = (
    ("csv", "CSV and TSV", frozenset({"AUTO", "CSV", "MANIFEST", "OBJECTS LINES"})),
    ("columns", "Parquet", frozenset({"AUTO", "PARQUET", "MANIFEST", "OBJECTS LINES"})),
    ("itemsAt", "JSON", frozenset({"AUTO", "JSON"})),
    ("read", "OBJECTS", frozenset({"OBJECTS", "OBJECTS JSON", "OBJECTS TEXT", "OBJECTS LINES"})),
)
"""A field of ``itemReader``, what it is for, and with which formats (and ``read``) it has an effect."""


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
        Literal["FIRST_ROW"] | tuple[str, ...],
        Field(description="FIRST_ROW: the first row names the fields; or the names of the fields."),
    ] = "FIRST_ROW"
    delimiter: Annotated[
        str | None, Field(description="What separates fields; absent: a tab in .tsv, otherwise a comma.")
    ] = None
    quote: Annotated[
        str, Field(description="The quote; empty: there are none, and files are split faster.")
    ] = '"'
    encoding: Annotated[NonEmptyStr, Field(description="The character encoding.")] = "utf-8"

    @field_validator("delimiter", "quote")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value and (len(value) > 1 or not value.isascii() or value in "\0\r\n"):
            raise ValueError("must be one ASCII character, and not a line break")
        return value

    @field_validator("header")
    @classmethod
    def _each_name_once(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(value, tuple):
            if not any(value):
                raise ValueError("must have the name of each field")
            twice = next((name for name in value if value.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"has the name {quoted(twice)} twice; rename one of them")
        return value

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        if known_encoding(value) is None:
            raise ValueError("must be an encoding that Python knows, such as utf-8, utf-16 or cp1252")
        return value


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


def unused_options(given: Collection[str], found: str, read: object = None) -> Iterator[tuple[str, str]]:
    """Yield the options that have no effect on a format, each with what it is for.

    Args:
        given: the names of the options that are set, as in JSON.
        found: the format.
        read: what is read of the objects that OBJECTS lists.
    """
    kind = f"{found} {read}" if found == ItemFormat.OBJECTS and read else found
    for field, what, formats in _OPTIONS:
        if field in given and kind not in formats:
            yield field, what
