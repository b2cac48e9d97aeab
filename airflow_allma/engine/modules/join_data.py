"""``system/join-data``: joins two tables, each a list of objects or comma-separated text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from airflow_allma.engine.modules.csv_format import cell_text, read_csv, write_csv
from airflow_allma.engine.modules.definition import ModuleInput
from airflow_allma.exceptions import PermanentStepError

__all__ = ["JoinDataInput", "KeyMapping", "join_data"]

_log: Final = logging.getLogger("airflow_allma.engine")

Format = Literal["csv", "json"]
Row = Mapping[str, Any]
Key = tuple[str, ...]


class KeyMapping(ModuleInput):
    """Columns of both sides that must be equal."""

    left: Annotated[str, Field(min_length=1)]
    right: Annotated[str, Field(min_length=1)]


class JoinDataInput(ModuleInput):
    """Input of the module. Its field names have underscores, unlike those of all other modules."""

    model_config = ConfigDict(alias_generator=lambda name: name)

    left_source: Any
    right_source: Any
    left_format: Format
    right_format: Format
    output_format: Format
    join_type: Literal["inner", "left", "right", "outer"]
    join_keys: Annotated[list[str], Field(min_length=1)] | None = None
    key_mappings: Annotated[list[KeyMapping], Field(min_length=1)] | None = None
    right_select_columns: list[str] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.join_keys is None) == (self.key_mappings is None):
            raise ValueError("give either join_keys or key_mappings, not both and not neither")
        for side, source, kind in (
            ("left", self.left_source, self.left_format),
            ("right", self.right_source, self.right_format),
        ):
            if kind == "csv" and not isinstance(source, str):
                raise ValueError(f"{side}_source must be text, as {side}_format is csv")
            if kind == "json" and not isinstance(source, list):
                raise ValueError(f"{side}_source must be a list of objects, as {side}_format is json")
        return self

    def keys(self) -> list[KeyMapping]:
        """The pairs of key columns."""
        if self.key_mappings is not None:
            return self.key_mappings
        return [KeyMapping(left=name, right=name) for name in self.join_keys or ()]


@dataclass(frozen=True, slots=True)
class _Side:
    """One table.

    Attributes:
        rows: in their order.
        columns: those of the first row.
        keys: the key columns, in the order of the key pairs.
    """

    rows: Sequence[Row]
    columns: Sequence[str]
    keys: Sequence[str]

    def key(self, row: Row) -> Key:
        """What rows must have in common; null, a missing value and empty text are the same, 1 and "1" too."""
        return tuple(cell_text(row.get(column)) for column in self.keys)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which column goes where: source column -> column of the output; left key column -> right key column."""

    left: Mapping[str, str]
    right: Mapping[str, str]
    right_key_of: Mapping[str, str]

    @property
    def columns(self) -> list[str]:
        return [*self.left.values(), *self.right.values()]

    def row(self, left: Row | None, right: Row | None) -> dict[str, Any]:
        """One row of the output; a side that is None has nulls."""
        made = {}
        for column, name in self.left.items():
            if left is not None:
                made[name] = left.get(column)
            elif right is not None and column in self.right_key_of:
                made[name] = right.get(self.right_key_of[column])
            else:
                made[name] = None
        for column, name in self.right.items():
            made[name] = None if right is None else right.get(column)
        return made


def join_data(inputs: JoinDataInput) -> dict[str, Any]:
    """``{"result": list of objects or text, "rowCount": n}``.

    Raises:
        PermanentStepError: a key column is missing, a row is no object, or two columns would get one name.
    """
    keys = inputs.keys()
    left = _side("left", inputs.left_source, inputs.left_format, [key.left for key in keys])
    right = _side("right", inputs.right_source, inputs.right_format, [key.right for key in keys])
    plan = _plan(left, right, inputs.right_select_columns)
    rows = _joined(left, right, plan, inputs.join_type)
    result: Any = write_csv(plan.columns, rows) if inputs.output_format == "csv" else rows
    return {"result": result, "rowCount": len(rows)}


def _side(name: str, source: Any, kind: Format, keys: Sequence[str]) -> _Side:
    rows: list[dict[str, Any]]
    if kind == "csv":
        rows, dropped = read_csv(source)
        if dropped:
            _log.warning(
                "system/join-data: %d lines of %s_source have more or fewer fields than its first line and "
                "are left out",
                dropped,
                name,
            )
    else:
        rows = source
        wrong = next((index for index, row in enumerate(rows) if not isinstance(row, dict)), None)
        if wrong is not None:
            raise PermanentStepError(
                f"system/join-data: $.{name}_source[{wrong}] is no object. Give one object a row."
            )
    columns = list(rows[0]) if rows else []
    absent = [key for key in keys if rows and key not in columns]
    if absent:
        raise PermanentStepError(
            f"system/join-data: the {name} side has no column {', '.join(map(repr, absent))}; its first row "
            f"has {', '.join(map(repr, columns))}. Name key columns of both sides in join_keys, or pairs of "
            "them in key_mappings."
        )
    return _Side(rows, columns, keys)


def _plan(left: _Side, right: _Side, selected: Sequence[str] | None) -> _Plan:
    # Without rows a side has no columns, yet the rows of the other side still have keys.
    left_columns = list(left.columns) or list(dict.fromkeys(left.keys))
    right_columns = list(right.columns)
    taken = [column for column in dict.fromkeys(selected or right_columns) if column not in right.keys]
    shared = {column for column in left_columns if column in {*right_columns, *taken}} - {*right.keys}
    left_names = {
        column: f"{column}_left" if column in shared and column not in left.keys else column
        for column in left_columns
    }
    right_names = {column: f"{column}_right" if column in shared else column for column in taken}
    plan = _Plan(
        left=left_names,
        right=right_names,
        right_key_of=dict(zip(left.keys, right.keys, strict=True)),
    )
    doubled = sorted({name for name in plan.columns if plan.columns.count(name) > 1})
    if doubled:
        raise PermanentStepError(
            f"system/join-data: two columns of the result would be called {', '.join(map(repr, doubled))}. "
            "Rename one of them before, or leave it out with right_select_columns."
        )
    return plan


def _joined(left: _Side, right: _Side, plan: _Plan, join_type: str) -> list[dict[str, Any]]:
    by_key: dict[Key, list[Row]] = {}
    for row in right.rows:
        by_key.setdefault(right.key(row), []).append(row)
    rows: list[dict[str, Any]] = []
    matched: set[Key] = set()
    for row in left.rows:
        key = left.key(row)
        partners = by_key.get(key)
        if partners is not None:
            matched.add(key)
            rows.extend(plan.row(row, partner) for partner in partners)
        elif join_type in {"left", "outer"}:
            rows.append(plan.row(row, None))
    if join_type in {"right", "outer"}:
        rows.extend(plan.row(None, row) for row in right.rows if right.key(row) not in matched)
    return rows
