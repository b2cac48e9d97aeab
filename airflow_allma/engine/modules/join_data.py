"""``system/join-data``: joins two tables, each a list of objects or comma-separated values."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from airflow_allma.common.work_budget import spend_values
from airflow_allma.engine.modules.csv_format import read_csv, write_csv
from airflow_allma.engine.modules.definition import ModuleInput
from airflow_allma.engine.modules.plain_string import plain_string
from airflow_allma.exceptions import PermanentStepError

__all__ = ["JoinDataInput", "join_data"]

_log: Final = logging.getLogger("airflow_allma.engine")

_FEW_KEYS: Final = 10
_SHOWN_COLUMNS: Final = 20
_SHOWN_LENGTH: Final = 100

Format = Literal["csv", "json"]
Row = Mapping[str, Any]
Key = tuple[str, ...]


class _KeyMapping(ModuleInput):
    """A pair of columns that must be equal."""

    left: Annotated[str, Field(min_length=1)]
    right: Annotated[str, Field(min_length=1)]


class JoinDataInput(ModuleInput):
    """Input of ``system/join-data``. Its field names have underscores, unlike those of all other modules."""

    model_config = ConfigDict(alias_generator=lambda name: name)

    left_source: Any
    right_source: Any
    left_format: Format
    right_format: Format
    output_format: Format
    join_type: Literal["inner", "left", "right", "outer"]
    join_keys: Annotated[list[str], Field(min_length=1)] | None = None
    key_mappings: Annotated[list[_KeyMapping], Field(min_length=1)] | None = None
    right_select_columns: list[str] | None = None

    @model_validator(mode="after")
    def _validate_sources(self) -> Self:
        if self.join_keys is None and self.key_mappings is None:
            raise ValueError("set either join_keys or key_mappings; neither is set")
        if self.join_keys is not None and self.key_mappings is not None:
            raise ValueError("set either join_keys or key_mappings, not both")
        for side, source, source_format in (
            ("left", self.left_source, self.left_format),
            ("right", self.right_source, self.right_format),
        ):
            if source_format == "csv" and not isinstance(source, str):
                raise ValueError(f"{side}_source must be a string, as {side}_format is csv")
            if source_format == "json" and not isinstance(source, list):
                raise ValueError(f"{side}_source must be a list of objects, as {side}_format is json")
        return self

    def keys(self) -> list[_KeyMapping]:
        """Return the pairs of key columns."""
        if self.key_mappings is not None:
            return self.key_mappings
        return [_KeyMapping(left=name, right=name) for name in self.join_keys or ()]


@dataclass(frozen=True, slots=True)
class _Table:
    """One side of the join.

    Attributes:
        rows: in the order of the source.
        columns: the columns of the first row.
        keys: the key columns, in the order of the key pairs.
    """

    rows: Sequence[Row]
    columns: Sequence[str]
    keys: Sequence[str]

    def key(self, row: Row) -> Key:
        """Return the key of a row; null, a missing value and "" are equal, and so are 1 and "1"."""
        return tuple(plain_string(row.get(column)) for column in self.keys)


@dataclass(frozen=True, slots=True)
class _OutputColumns:
    """The columns of the output.

    Attributes:
        left: column of the left table -> column of the output.
        right: column of the right table -> column of the output.
        right_key_of: left key column -> right key column.
    """

    left: Mapping[str, str]
    right: Mapping[str, str]
    right_key_of: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """The columns in their order."""
        return [*self.left.values(), *self.right.values()]

    def row(self, left: Row | None, right: Row | None) -> dict[str, Any]:
        """Return one row of the output; columns of a side that is None are null, except for keys."""
        output = {}
        for column, name in self.left.items():
            if left is not None:
                output[name] = left.get(column)
            elif right is not None and column in self.right_key_of:
                output[name] = right.get(self.right_key_of[column])
            else:
                output[name] = None
        for column, name in self.right.items():
            output[name] = None if right is None else right.get(column)
        return output


def join_data(inputs: JoinDataInput) -> dict[str, Any]:
    """Return ``{"result": list of objects or CSV, "rowCount": n}``.

    Raises:
        PermanentStepError: a key column is missing, a row is not an object, or two output columns would have
            the same name.
    """
    keys = inputs.keys()
    left = _read_table("left", inputs.left_source, inputs.left_format, [key.left for key in keys])
    right = _read_table("right", inputs.right_source, inputs.right_format, [key.right for key in keys])
    columns = _output_columns(left, right, inputs.right_select_columns)
    rows = _join(left, right, columns, inputs.join_type)
    result: Any = write_csv(columns.names, rows) if inputs.output_format == "csv" else rows
    return {"result": result, "rowCount": len(rows)}


def _read_table(side: str, source: Any, source_format: Format, keys: Sequence[str]) -> _Table:
    rows: list[dict[str, Any]]
    if source_format == "csv":
        rows, dropped = read_csv(source)
        if dropped:
            _log.warning(
                "system/join-data: dropped %d lines of %s_source, which have more or fewer fields than its "
                "first line",
                dropped,
                side,
            )
    else:
        rows = source
        invalid = next((index for index, row in enumerate(rows) if not isinstance(row, dict)), None)
        if invalid is not None:
            raise PermanentStepError(
                f"system/join-data: $.{side}_source[{invalid}] is not an object. Use one object per row."
            )
    # A few keys take less time than reading the row.
    spend_values(len(rows) * (len(keys) // _FEW_KEYS))
    columns = rows[0] if rows else {}
    missing = [key for key in keys if rows and key not in columns]
    if missing:
        raise PermanentStepError(
            f"system/join-data: the {side} side has no column {_names(missing)}; its first row "
            f"has {_names(columns)}. Set join_keys to key columns of both sides, or "
            "key_mappings to pairs of them."
        )
    return _Table(rows, list(columns), keys)


def _names(columns: Collection[str]) -> str:
    shown = [repr(column[:_SHOWN_LENGTH]) for column in islice(columns, _SHOWN_COLUMNS)]
    return ", ".join([*shown, *([f"{len(columns)} in all"] if len(columns) > len(shown) else [])])


def _output_columns(left: _Table, right: _Table, selected: Sequence[str] | None) -> _OutputColumns:
    # A side without rows has no columns, but the rows of the other side still have keys.
    left_columns = list(left.columns) or list(dict.fromkeys(left.keys))
    right_columns = list(right.columns)
    left_keys, right_keys = {*left.keys}, {*right.keys}
    right_selected = [
        column for column in dict.fromkeys(selected or right_columns) if column not in right_keys
    ]
    shared = {*left_columns}.intersection((*right_columns, *right_selected)).difference(right_keys)
    left_names = {
        column: f"{column}_left" if column in shared and column not in left_keys else column
        for column in left_columns
    }
    right_names = {column: f"{column}_right" if column in shared else column for column in right_selected}
    columns = _OutputColumns(
        left=left_names,
        right=right_names,
        right_key_of=dict(zip(left.keys, right.keys, strict=True)),
    )
    duplicates = sorted(name for name, count in Counter(columns.names).items() if count > 1)
    if duplicates:
        raise PermanentStepError(
            f"system/join-data: two output columns would be named {_names(duplicates)}. "
            "Rename one of them before the join, or exclude it with right_select_columns."
        )
    return columns


def _join(left: _Table, right: _Table, columns: _OutputColumns, join_type: str) -> list[dict[str, Any]]:
    by_key: dict[Key, list[Row]] = {}
    for row in right.rows:
        by_key.setdefault(right.key(row), []).append(row)
    # Rows with equal keys multiply: 10,000 of them on each side are a hundred million. And every row of the
    # output has all columns of the first rows, even if its own row is empty.
    width = len(columns.names) + 1
    rows: list[dict[str, Any]] = []
    matched: set[Key] = set()
    for row in left.rows:
        key = left.key(row)
        partners = by_key.get(key)
        if partners is not None:
            matched.add(key)
            spend_values(len(partners) * width)
            rows.extend(columns.row(row, partner) for partner in partners)
        elif join_type in {"left", "outer"}:
            spend_values(width)
            rows.append(columns.row(row, None))
    if join_type in {"right", "outer"}:
        # Rows with equal keys, such as those without one, are together, at the first of them.
        for key, group in by_key.items():
            if key not in matched:
                spend_values(len(group) * width)
                rows.extend(columns.row(None, row) for row in group)
    return rows
