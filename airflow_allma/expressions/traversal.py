"""Single steps through JSON data: into a member, through a pointer, down a whole tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_allma.common.work_budget import POINTS, WorkBudget
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.js_values import character_at, string_length
from airflow_allma.expressions.pointer_access import NON_MAPPINGS, LoadPointer, is_pointer, resolve_pointer
from airflow_allma.expressions.syntax_tree import Key, Slice
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["children", "descendants", "member", "slice_items", "walk_keys"]

MAX_DESCENDANT_LOADS: Final = 10_000
"""Maximum number of pointers that one ``..`` can load; this also ends pointers that contain themselves."""


def member(node: Any, key: Key, load: LoadPointer) -> Any:
    """Return a member, item or character of a value, or NOTHING.

    A pointer is loaded only if its own keys lack the key.
    """
    if node.__class__ is dict or (node.__class__ not in NON_MAPPINGS and isinstance(node, Mapping)):
        if key.name in node:
            return node[key.name]
        if not is_pointer(node):
            return NOTHING
        node = resolve_pointer(node, load)
        if isinstance(node, Mapping):
            return node.get(key.name, NOTHING)
    if isinstance(node, list):
        if 0 <= key.index < len(node):
            return node[key.index]
        return len(node) if key.name == "length" else NOTHING
    if isinstance(node, str):
        if key.index >= 0:
            return character_at(node, key.index)
        if key.name == "length":
            return string_length(node)
    return NOTHING


def walk_keys(node: Any, keys: Iterable[Key], load: LoadPointer) -> Any:
    """Follow the keys one after another and return the value at the end, or NOTHING."""
    for key in keys:
        node = member(node, key, load)
        if node is NOTHING:
            return NOTHING
    return node


def children(node: Any, load: LoadPointer) -> Sequence[Any]:
    """Return the member values of an object or the items of a list, in order."""
    if node.__class__ is list:
        return node
    node = resolve_pointer(node, load)
    if isinstance(node, Mapping):
        return list(node.values())
    return node if isinstance(node, list) else ()


def slice_items(node: Any, bounds: Slice, load: LoadPointer) -> list[Any]:
    """Return the items of a list within the bounds; for other values return an empty list."""
    node = resolve_pointer(node, load)
    return node[bounds.start : bounds.end : bounds.step] if isinstance(node, list) else []


def descendants(nodes: Iterable[Any], load: LoadPointer, budget: WorkBudget) -> list[Any]:
    """Return each value followed by the objects and lists below it, in document order.

    All pointers below are loaded too: the result must not depend on which values were large enough to be
    offloaded to S3.

    Raises:
        WorkLimitError: ``..`` collects more than the budget allows.
        ExpressionEvaluationError: it would load more pointers than is allowed.
    """
    collected: list[Any] = []
    pointers = 0
    for start in nodes:
        pending = [start]
        while pending:
            node = pending.pop()
            if is_pointer(node):
                pointers += 1
                node = resolve_pointer(node, load)
            collected.append(node)
            if pointers > MAX_DESCENDANT_LOADS:
                raise ExpressionEvaluationError(
                    f"'..' reaches more than {MAX_DESCENDANT_LOADS} pointers; make the path more specific"
                )
            # Looking for the containers visits all members.
            members = len(node) if node.__class__ is dict or node.__class__ is list else 0
            budget.spend((members + 1) * POINTS)
            pending.extend(_containers_last_first(node))
    return collected


def _containers_last_first(node: Any) -> list[Any]:
    if isinstance(node, list):
        values: Iterable[Any] = node
    elif isinstance(node, Mapping):
        values = node.values()
    else:
        return []
    containers = [value for value in values if value.__class__ is dict or value.__class__ is list]
    containers.reverse()
    return containers
