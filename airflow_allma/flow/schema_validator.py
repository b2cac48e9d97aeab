"""jsonschema's validators, with bounded work and without access to anything outside of the schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from airflow_allma.common.work_budget import POINTS, current_budget
from airflow_allma.flow.regex_cost import MAX_DEGREE, pattern_degree

__all__ = ["bounded_validator", "validator_class"]

_POINTS_PER_KEYWORD: Final = 3 * POINTS
_STEPS_PER_POINT: Final = 10
"""Steps of a regular expression, or comparisons, that take as long as one point of other work."""

_TYPES_OF_CONTAINERS: Final = ("array", "boolean", "object")


def validator_class(schema: Mapping[str, Any]) -> Any:
    """Return jsonschema's class for the dialect of a schema."""
    from jsonschema.validators import Draft202012Validator, validator_for

    return validator_for(dict(schema), default=Draft202012Validator)


def bounded_validator(schema: Mapping[str, Any]) -> Any:
    """Return a validator that spends the current budget and never fetches a reference.

    It raises WorkLimitError where the budget is exceeded.
    """
    from jsonschema import FormatChecker
    from referencing import Registry

    return _bounded(validator_class(schema))(
        dict(schema), registry=Registry(), format_checker=FormatChecker()
    )


@lru_cache(maxsize=16)
def _bounded(base: Any) -> Any:
    from jsonschema.validators import extend

    keywords = {name: _counted(check) for name, check in base.VALIDATORS.items()}
    for name, cost in (("pattern", _pattern), ("patternProperties", _patterns), ("uniqueItems", _unique)):
        if name in keywords:
            keywords[name] = _with_cost(keywords[name], cost)
    # The keywords for unevaluated members walk the schema by themselves, and ask for the type at each step.
    types = {name: _counted_type(base.TYPE_CHECKER, name) for name in _TYPES_OF_CONTAINERS}
    derive: Callable[..., Any] = extend
    return derive(base, keywords, type_checker=base.TYPE_CHECKER.redefine_many(types))


def _spend(points: int) -> None:
    budget = current_budget()
    if budget is not None:
        budget.spend(points)


def _counted(check: Callable[..., Any]) -> Callable[..., Any]:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        # An error of the keyword contains a copy of the instance.
        size = len(instance) if isinstance(instance, str | list | dict) else 0
        _spend(_POINTS_PER_KEYWORD + size)
        return check(validator, value, instance, schema)

    return counted


def _counted_type(checker: Any, name: str) -> Callable[[Any, Any], bool]:
    def is_type(_: Any, instance: Any) -> bool:
        _spend(POINTS)
        return bool(checker.is_type(instance, name))

    return is_type


def _with_cost(check: Callable[..., Any], cost: Callable[[Any, Any], int]) -> Callable[..., Any]:
    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _spend(cost(value, instance) // _STEPS_PER_POINT)
        return check(validator, value, instance, schema)

    return checked


def _pattern(pattern: str, instance: Any) -> int:
    return _steps(pattern, instance) if isinstance(instance, str) else 0


def _patterns(patterns: Mapping[str, Any], instance: Any) -> int:
    if not isinstance(instance, dict):
        return 0
    return sum(_steps(pattern, name) for pattern in patterns for name in instance)


def _steps(pattern: str, text: str) -> int:
    """Return the most steps that a search can take."""
    return len(text) ** (pattern_degree(pattern) or MAX_DEGREE + 1)  # type: ignore[no-any-return]


def _unique(wanted: Any, instance: Any) -> int:
    # Values that cannot be sorted are compared with each other.
    return len(instance) ** 2 if wanted and isinstance(instance, list) else 0
