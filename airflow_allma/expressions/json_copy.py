"""Deep copies of JSON values."""

from __future__ import annotations

from typing import Any

from airflow_allma.common.work_budget import POINTS, WorkBudget, current_budget, with_own_budget

__all__ = ["copy_value"]


def copy_value(value: Any) -> Any:
    """Return a deep copy of a JSON value: objects and lists are new, scalars are the same.

    Values of other types (dates, bytes) are shared. The depth of nesting is not limited.

    Raises:
        WorkLimitError: the step has now copied more than its budget allows.
    """
    if value.__class__ is not dict and value.__class__ is not list:
        return value
    budget = current_budget()
    if budget is None:
        return with_own_budget(copy_value, value)
    try:
        return _copy_recursively(value, budget)
    except RecursionError:
        return _copy_iteratively(value, budget)


def _copy_recursively(value: Any, budget: WorkBudget) -> Any:
    budget.left -= (len(value) + 1) * POINTS
    if budget.left < 0:
        budget.spend(0)
    if value.__class__ is dict:
        return {
            key: _copy_recursively(item, budget) if item.__class__ is dict or item.__class__ is list else item
            for key, item in value.items()
        }
    return [
        _copy_recursively(item, budget) if item.__class__ is dict or item.__class__ is list else item
        for item in value
    ]


def _copy_iteratively(value: Any, budget: WorkBudget) -> Any:
    """Copy more slowly, but as deep as memory allows."""
    copied = value.copy()
    pending = [copied]
    while pending:
        container = pending.pop()
        for key, item in list(container.items() if container.__class__ is dict else enumerate(container)):
            if item.__class__ is dict or item.__class__ is list:
                budget.spend((len(item) + 1) * POINTS)
                container[key] = item.copy()
                pending.append(container[key])
    return copied
