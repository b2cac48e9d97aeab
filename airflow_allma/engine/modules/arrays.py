"""Modules over lists: aggregate, flatten, generate."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from airflow_allma.common.work_budget import spend_values
from airflow_allma.engine.modules.definition import JsonInt, ModuleInput

__all__ = [
    "MAX_GENERATED",
    "ArrayAggregatorInput",
    "FlattenArrayInput",
    "GenerateArrayInput",
    "aggregate_array",
    "flatten_array",
    "generate_array",
]

MAX_GENERATED: Final = 1_000_000
"""The maximum length of a list from ``system/generate-array``."""

Number = int | float

_log: Final = logging.getLogger("airflow_allma.engine")
_MAX_SHOWN: Final = 40


class ArrayAggregatorInput(ModuleInput):
    """Input of ``system/array-aggregator``; ``path`` is a plain key, not a JSONPath."""

    array: list[Any]
    operation: Literal["min", "max", "sum", "avg"]
    path: str | None = None


class FlattenArrayInput(ModuleInput):
    """Input of ``system/flatten-array``; ``path`` is a plain key, not a JSONPath."""

    array: list[Any]
    path: Annotated[str, Field(min_length=1)] | None = None


class GenerateArrayInput(ModuleInput):
    """Input of ``system/generate-array``."""

    count: Annotated[JsonInt, Field(ge=0, le=MAX_GENERATED)]


def _total(numbers: Sequence[Number]) -> Number:
    # Python's sum compensates rounding errors since 3.12; a plain loop has the same result on every version.
    total: Number = 0
    for number in numbers:
        total += number
    return total


def _average(numbers: Sequence[Number]) -> Number:
    return _total(numbers) / len(numbers)


_OPERATIONS: Final[Mapping[str, Callable[[Sequence[Number]], Number]]] = {
    "min": min,
    "max": max,
    "sum": _total,
    "avg": _average,
}


def aggregate_array(inputs: ArrayAggregatorInput) -> dict[str, Any]:
    """Return ``{"result": number or null}``; only finite numbers and booleans count.

    A warning in the log says how many others were left out.
    """
    numbers = list(_numbers(inputs.array, inputs.path))
    _warn_of_omitted("system/array-aggregator", "a number", inputs.array, inputs.path, len(numbers))
    if not numbers:
        return {"result": 0 if inputs.operation == "sum" else None}
    try:
        result = _OPERATIONS[inputs.operation](numbers)
        return {"result": result if math.isfinite(result) else None}
    except OverflowError:
        # The mean of integers is a float, and these are too large for one.
        return {"result": None}


def _warn_of_omitted(module: str, wanted: str, array: list[Any], path: str | None, used: int) -> None:
    if used < len(array):
        where = "" if path is None else f" at the key {path[:_MAX_SHOWN]!r}"
        _log.warning(
            "%s left out %d of %d elements without %s%s; `path` is the name of one key, not a JSONPath",
            module,
            len(array) - used,
            len(array),
            wanted,
            where,
        )


def _numbers(array: list[Any], path: str | None) -> Iterator[Number]:
    for item in array:
        if path is None:
            value = item
        elif isinstance(item, dict):
            value = item.get(path)
        else:
            continue
        if isinstance(value, bool):
            yield int(value)
        elif isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            yield value


def flatten_array(inputs: FlattenArrayInput) -> dict[str, Any]:
    """Return ``{"result": list}`` without one level of lists.

    With ``path``, the list has the values of that key, and lists among them are flattened.
    """
    result: list[Any] = []
    path = inputs.path
    omitted = 0
    for item in inputs.array:
        if path is None:
            value = item
        elif isinstance(item, dict) and item.get(path) is not None:
            value = item[path]
        else:
            omitted += 1
            continue
        if isinstance(value, list):
            result.extend(value)
        else:
            result.append(value)
    _warn_of_omitted("system/flatten-array", "a value", inputs.array, path, len(inputs.array) - omitted)
    return {"result": result}


def generate_array(inputs: GenerateArrayInput) -> dict[str, Any]:
    """Return ``{"array": [0, 1, ...]}`` with ``count`` numbers."""
    spend_values(inputs.count)
    return {"array": list(range(inputs.count))}
