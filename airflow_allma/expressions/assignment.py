"""The assignment of values below a root: parents are created, pointers on the way are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from airflow_allma.common.json_types import type_name
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.pointer_access import LoadPointer, is_pointer, resolve_pointer
from airflow_allma.expressions.syntax_tree import Key

__all__ = ["MAX_PADDING", "InvalidTargetError", "assign_keys"]

MAX_PADDING: Final = 10_000
"""Maximum number of nulls that a list is padded with to reach an index."""


class InvalidTargetError(ExpressionEvaluationError):
    """A value would be set under a name in a list, or below a string, number or boolean."""


def assign_keys(
    root: Mapping[str, Any], keys: Sequence[Key], value: Any, load: LoadPointer, source: str, *, share: bool
) -> dict[str, Any]:
    """Set ``value`` at the end of ``keys``, and return the root.

    Missing parents and nulls on the way become objects, or lists where the next key is an index.

    Args:
        root: the object to set in.
        keys: at least one.
        value: set without copying it.
        load: loads the pointers on the way, which are replaced by their content.
        source: the expression, for messages.
        share: do not modify ``root``; return a new root that shares everything that is not on the way.

    Raises:
        InvalidTargetError: a value would be set under a name in a list, or below a string, number or boolean.
        ExpressionEvaluationError: an index is far beyond the end of its list.
    """
    top = _writable_root(root, load, source, share=share)
    node: Any = top
    # A pointer's content can belong to a cache: below it, containers are copied even when not sharing.
    copying = share
    for key, following in pairwise(keys):
        current = _get_item(node, key)
        if is_pointer(current):
            copying = True
            current = resolve_pointer(current, load)
        if isinstance(current, Mapping):
            child: Any = dict(current) if copying or not isinstance(current, dict) else current
        elif isinstance(current, list):
            child = list(current) if copying else current
        elif current is None:
            child = [] if following.index >= 0 else {}
        else:
            raise InvalidTargetError(
                f"{source!r} cannot be set: {key.name!r} is {type_name(current)}, which has no members; "
                "set an object there, or use another name"
            )
        _set_item(node, key, child, source)
        node = child
    _set_item(node, keys[-1], value, source)
    return top


def _writable_root(root: Mapping[str, Any], load: LoadPointer, source: str, *, share: bool) -> dict[str, Any]:
    content = resolve_pointer(root, load)
    if not isinstance(content, Mapping):
        raise ExpressionEvaluationError(
            f"{source!r} cannot be set: the data is a pointer to something that is not an object"
        )
    if share or not isinstance(root, dict):
        return dict(content)
    if content is not root:
        root.clear()
        root.update(content)
    return root


def _get_item(node: Any, key: Key) -> Any:
    if isinstance(node, dict):
        return node.get(key.name)
    return node[key.index] if 0 <= key.index < len(node) else None


def _set_item(node: Any, key: Key, value: Any, source: str) -> None:
    if isinstance(node, dict):
        node[key.name] = value
        return
    if key.index < 0:
        raise InvalidTargetError(
            f"{source!r} cannot be set: {key.name!r} is not an index, but its parent is a list; "
            "set an index of the list, or use another name"
        )
    missing = key.index - len(node)
    if missing > MAX_PADDING:
        raise ExpressionEvaluationError(
            f"{source!r} cannot be set: index {key.index} is {missing} beyond the end of the list; "
            f"lists are padded with at most {MAX_PADDING} nulls"
        )
    if missing >= 0:
        node.extend([None] * missing)
        node.append(value)
    else:
        node[key.index] = value
