"""The rows of Parquet as JSON values, converted column by column."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from airflow_allma.common.base64_text import to_base64
from airflow_allma.common.printable import printable, shortened

__all__ = ["BadValue", "RowReader", "UnreadableColumnError"]

_UNIT_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_MAX_DEPTH: Final = 100
_MAX_SHOWN: Final = 100
_HALF_BITS: Final = 16
_UUID_BYTES: Final = 16
_TEXT_TYPES: Final = frozenset({"STRING", "ENUM", "JSON"})
"""Types of Parquet that are UTF-8; Arrow reads some of them as bytes."""

_EXTENSIONS: Final = {"arrow.uuid": "UUID", "arrow.json": "JSON"}
"""Arrow's own types that have a form in JSON -> the type of Parquet that they are."""

_Read = Callable[[Any], list[Any]]
"""Array -> its values."""


class UnreadableColumnError(ValueError):
    """A column cannot be items; the message says which and why."""


@dataclass(frozen=True, slots=True)
class BadValue:
    """Replaces a value that JSON does not have.

    Attributes:
        reason: what it is, and what to do.
    """

    reason: str


class RowReader:
    """Reads batches of rows as JSON objects.

    Args:
        arrow: the module ``pyarrow``.
        compute: the module ``pyarrow.compute``.
        schema: the Arrow schema of the file.
        leaves: the logical types of the columns that Parquet stores; a nested field has several.
        columns: the numbers of the fields of the schema that are read.

    Attributes:
        leaves: the numbers of the stored columns that are read.

    Raises:
        UnreadableColumnError: a column has a type that JSON does not have, or fields with one name.
    """

    def __init__(
        self, arrow: Any, compute: Any, schema: Any, leaves: Sequence[str], columns: Sequence[int]
    ) -> None:
        self._pa, self._pc = arrow, compute
        self._has_bad = False
        chosen = set(columns)
        readers: dict[str, _Read] = {}
        self.leaves: list[int] = []
        first = 0
        for number, field in enumerate(schema):
            end = first + _count_leaves(arrow.types, field.type)
            if number in chosen:
                self.leaves.extend(range(first, min(end, len(leaves))))
                readers[field.name] = self._reader(field.type, (field.name,), iter(leaves[first:end]))
            first = end
        self._readers = readers

    def rows(self, batch: Any) -> tuple[list[Any], dict[int, tuple[str, str]]]:
        """Return the rows of a batch, and row -> column and reason of a value that is none in JSON."""
        self._has_bad = False
        values = [read(batch.column(name)) for name, read in self._readers.items()]
        names = tuple(self._readers)
        rows: list[Any] = [dict(zip(names, row)) for row in zip(*values)]  # noqa: B905 - equally long
        if not self._has_bad:
            return rows, {}
        found = ((number, next(_bad_values(row), None)) for number, row in enumerate(rows))
        return rows, {number: bad for number, bad in found if bad is not None}

    def _bad(self, reason: str) -> BadValue:
        self._has_bad = True
        return BadValue(reason)

    def _reader(self, kind: Any, path: tuple[str, ...], leaves: Iterator[str]) -> _Read:
        """Return what reads arrays of a type."""
        types = self._pa.types
        if len(path) > _MAX_DEPTH:
            raise UnreadableColumnError(f"column {_shown(path)} is nested too deeply")
        if types.is_struct(kind):
            return self._structs(kind, path, leaves)
        if types.is_map(kind):
            return self._maps(kind, path, leaves)
        if types.is_list(kind) or types.is_large_list(kind):
            return _lists(self._reader(kind.value_type, (*path, "[]"), leaves))
        if types.is_fixed_size_list(kind):
            return _fixed_lists(self._reader(kind.value_type, (*path, "[]"), leaves), kind.list_size)
        return self._leaf(kind, path, next(leaves, ""))

    def _structs(self, kind: Any, path: tuple[str, ...], leaves: Iterator[str]) -> _Read:
        fields = [kind.field(number) for number in range(kind.num_fields)]
        names = tuple(field.name for field in fields)
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise UnreadableColumnError(f"column {_shown(path)} has two fields named {_shown((double,))}")
        readers = [self._reader(field.type, (*path, f".{field.name}"), leaves) for field in fields]

        def read(array: Any) -> list[Any]:
            values = [one(child) for one, child in zip(readers, array.flatten(), strict=True)]
            return _with_nulls(array, [dict(zip(names, row)) for row in zip(*values)])  # noqa: B905 - equally long

        return read

    def _maps(self, kind: Any, path: tuple[str, ...], leaves: Iterator[str]) -> _Read:
        read_keys = self._reader(kind.key_type, (*path, ".key"), leaves)
        read_values = self._reader(kind.item_type, (*path, ".value"), leaves)
        types = self._pa.types
        is_object = types.is_string(kind.key_type) or types.is_large_string(kind.key_type)

        def read(array: Any) -> list[Any]:
            offsets = array.offsets.to_pylist()
            start, size = offsets[0], offsets[-1] - offsets[0]
            keys = read_keys(array.keys.slice(start, size))
            pairs = list(zip(keys, read_values(array.items.slice(start, size)), strict=True))
            parts = [pairs[first - start : end - start] for first, end in pairwise(offsets)]
            if is_object:
                return _with_nulls(array, [dict(part) for part in parts])
            return _with_nulls(array, [[{"key": key, "value": one} for key, one in part] for part in parts])

        return read

    def _leaf(self, kind: Any, path: tuple[str, ...], logical: str) -> _Read:
        types = self._pa.types
        if isinstance(kind, self._pa.BaseExtensionType):
            return self._extension(kind, path, logical)
        if types.is_dictionary(kind):
            read = self._leaf(kind.value_type, path, logical)
            return lambda array: read(array.dictionary_decode())
        if logical != "INTERVAL":
            for matches, found in (
                (types.is_boolean, _plain),
                (types.is_integer, _plain),
                (types.is_null, _plain),
                (types.is_floating, self._reals),
                (types.is_string, self._strings),
                (types.is_large_string, self._strings),
                (types.is_string_view, self._strings),
                (types.is_decimal, self._decimals),
                (types.is_timestamp, self._timestamps),
                (types.is_date, self._times),
                (types.is_time, self._times),
                (types.is_duration, self._durations),
            ):
                if matches(kind):
                    return found
            if _is_binary(types, kind):
                return self._binary(kind, logical)
        shown = "INTERVAL" if logical == "INTERVAL" else _shown((str(kind),))
        raise UnreadableColumnError(f"column {_shown(path)} has the type {shown}, which JSON does not have")

    def _extension(self, kind: Any, path: tuple[str, ...], logical: str) -> _Read:
        name = kind.extension_name
        if name not in _EXTENSIONS:
            raise UnreadableColumnError(
                f"column {_shown(path)} has the type {_shown((name,))}, which JSON does not have"
            )
        read = self._leaf(kind.storage_type, path, _EXTENSIONS[name] or logical)
        return lambda array: read(array.storage)

    def _binary(self, kind: Any, logical: str) -> _Read:
        if logical in _TEXT_TYPES:
            return self._encoded
        if logical == "UUID" and getattr(kind, "byte_width", 0) == _UUID_BYTES:
            return _uuids
        return _base64

    # Single values.

    def _reals(self, array: Any) -> list[Any]:
        if array.type.bit_width == _HALF_BITS:
            array = array.cast(self._pa.float32())
        values: list[Any] = array.to_pylist()
        if self._pc.all(self._pc.is_finite(array)).as_py() is not False:
            return values
        return [value if value is None or value - value == 0 else self._not_finite(value) for value in values]

    def _not_finite(self, value: float) -> BadValue:
        name = "NaN" if value != value else "Infinity"  # noqa: PLR0124 - NaN alone differs from itself
        return self._bad(f"{name} is not a JSON number; write null")

    def _strings(self, array: Any) -> list[Any]:
        try:
            values: list[Any] = array.to_pylist()
        except UnicodeDecodeError:
            return self._encoded(array.cast(self._pa.large_binary()))
        return values

    def _encoded(self, array: Any) -> list[Any]:
        """Decode each string by itself, as one of them may be invalid."""
        return [None if value is None else self._decoded(value) for value in array.to_pylist()]

    def _decoded(self, value: bytes) -> str | BadValue:
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            return self._bad(
                f"byte {error.start} of the string is not UTF-8; write UTF-8, or the column as binary"
            )

    def _decimals(self, array: Any) -> list[Any]:
        texts = array.cast(self._pa.string())
        values: list[Any] = texts.to_pylist()
        if self._pc.any(self._pc.match_substring(texts, "E")).as_py():
            return [value if value is None else format(Decimal(value), "f") for value in values]
        return values

    def _timestamps(self, array: Any) -> list[Any]:
        compute, kind = self._pc, array.type
        # Without its zone, a timestamp is that of UTC.
        texts = array.cast(self._pa.timestamp(kind.unit)).cast(self._pa.string())
        texts = compute.replace_substring(texts, " ", "T", max_replacements=1)
        return self._ranged(compute.binary_join_element_wise(texts, "Z", "") if kind.tz else texts)

    def _times(self, array: Any) -> list[Any]:
        return self._ranged(array.cast(self._pa.string()))

    def _ranged(self, texts: Any) -> list[Any]:
        """Return dates and times; Arrow writes ``<value out of range: 1>`` for what no calendar has."""
        values: list[Any] = texts.to_pylist()
        if not self._pc.any(self._pc.starts_with(texts, "<")).as_py():
            return values
        return [
            self._bad("the date or time is out of range; write null") if value and value[0] == "<" else value
            for value in values
        ]

    def _durations(self, array: Any) -> list[Any]:
        digits = _UNIT_DIGITS[array.type.unit]
        values = array.cast(self._pa.int64()).to_pylist()
        return [value if value is None else _duration(value, digits) for value in values]


def _plain(array: Any) -> list[Any]:
    values: list[Any] = array.to_pylist()
    return values


def _base64(array: Any) -> list[Any]:
    return [None if value is None else to_base64(value) for value in array.to_pylist()]


def _uuids(array: Any) -> list[Any]:
    return [None if value is None else str(uuid.UUID(bytes=value)) for value in array.to_pylist()]


def _duration(value: int, digits: int) -> str:
    seconds, fraction = divmod(abs(value), 10**digits)
    part = f".{fraction:0{digits}d}" if digits else ""
    return f"{'-' if value < 0 else ''}PT{seconds}{part}S"


def _lists(read: _Read) -> _Read:
    def lists(array: Any) -> list[Any]:
        offsets = array.offsets.to_pylist()
        start = offsets[0]
        values = read(array.values.slice(start, offsets[-1] - start))
        return _with_nulls(array, [values[first - start : end - start] for first, end in pairwise(offsets)])

    return lists


def _fixed_lists(read: _Read, size: int) -> _Read:
    def lists(array: Any) -> list[Any]:
        values = read(array.values.slice(array.offset * size, len(array) * size))
        return _with_nulls(array, [values[size * row : size * (row + 1)] for row in range(len(array))])

    return lists


def _with_nulls(array: Any, values: list[Any]) -> list[Any]:
    """Replace the values that are null in an array."""
    if not array.null_count:
        return values
    return [
        value if valid else None for value, valid in zip(values, array.is_valid().to_pylist(), strict=True)
    ]


def _is_binary(types: Any, kind: Any) -> bool:
    checks = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(matches(kind) for matches in checks)


def _count_leaves(types: Any, kind: Any) -> int:
    """Return how many columns of Parquet a field is stored in."""
    if types.is_map(kind):
        return _count_leaves(types, kind.key_type) + _count_leaves(types, kind.item_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _count_leaves(types, kind.value_type)
    if types.is_struct(kind):
        return sum(_count_leaves(types, kind.field(number).type) for number in range(kind.num_fields))
    return 1


def _bad_values(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield place and reason of each value in a row that JSON does not have."""
    if value.__class__ is BadValue:
        yield _shown((path.removeprefix("."),)), value.reason
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _bad_values(name, path)
            yield from _bad_values(member, f"{path}.{name}")
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield from _bad_values(member, f"{path}[{number}]")


def _shown(path: tuple[str, ...]) -> str:
    return repr(shortened(printable("".join(path)), _MAX_SHOWN))
