"""The expansion of a path's segments: from some values to all values that a segment finds in them.

Here the values of a path multiply, so all that is visited counts as work of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from airflow_allma.common.work_budget import POINTS, WorkBudget
from airflow_allma.expressions.pointer_access import LoadPointer
from airflow_allma.expressions.syntax_tree import Key
from airflow_allma.expressions.traversal import children, member
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["Expand", "expand_each", "expand_keys", "expand_matching", "select_keys"]

Expand = Callable[[Sequence[Any], LoadPointer, Any, WorkBudget], Sequence[Any]]
"""A function that returns everything that a segment finds in some values, and counts the values it visits."""


def expand_keys(keys: tuple[Key, ...]) -> Expand:
    """Return the expansion of one key or a union of keys."""
    return lambda nodes, load, _root, budget: select_keys(nodes, keys, load, budget)


def select_keys(
    nodes: Sequence[Any], keys: tuple[Key, ...], load: LoadPointer, budget: WorkBudget
) -> list[Any]:
    """Return the members of each value that the keys name, value by value."""
    # A walk from key to key does not multiply.
    if (visited := len(nodes) * len(keys)) > 1:
        budget.spend(visited * POINTS)
    values = []
    for node in nodes:
        for key in keys:
            # The usual case needs no call.
            if node.__class__ is dict and key.name in node:
                values.append(node[key.name])
            elif (value := member(node, key, load)) is not NOTHING:
                values.append(value)
    return values


def expand_each(select: Callable[[Any, LoadPointer], Sequence[Any]]) -> Expand:
    """Return the expansion that selects members of each value, such as a wildcard or a slice."""

    def expand(nodes: Sequence[Any], load: LoadPointer, _root: Any, budget: WorkBudget) -> list[Any]:
        values: list[Any] = []
        for node in nodes:
            selected = select(node, load)
            # Also a node without any is visited.
            budget.spend((len(selected) + 1) * POINTS)
            values += selected
        return values

    return expand


def expand_matching(matches: Callable[[Any, LoadPointer, Any], bool], weight: int) -> Expand:
    """Return the expansion of a filter; ``weight`` is how much work its predicate is for one value."""

    def expand(nodes: Sequence[Any], load: LoadPointer, root: Any, budget: WorkBudget) -> list[Any]:
        values: list[Any] = []
        for node in nodes:
            candidates = children(node, load)
            budget.spend((len(candidates) * weight + 1) * POINTS)
            values += [child for child in candidates if matches(child, load, root)]
        return values

    return expand
