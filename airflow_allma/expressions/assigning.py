"""Sets values below a root: parents are made, pointers on the way are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.segments import Key
from airflow_allma.expressions.values import LoadPointer
from airflow_allma.expressions.walking import is_pointer, opened

__all__ = ["MAX_GAP", "NamedListItemError", "assign_keys"]

MAX_GAP: Final = 10_000
"""Most nulls that are put in a list to reach the position that is set."""


class NamedListItemError(ExpressionEvaluationError):
    """A list was asked to hold a value under a name."""


def assign_keys(
    root: Mapping[str, Any], keys: Sequence[Key], value: Any, load: LoadPointer, text: str, *, share: bool
) -> dict[str, Any]:
    """Set ``value`` where ``keys`` lead to, and answer the root.

    Missing parents, nulls and scalars on the way become objects, or lists where the next key is a position.

    Args:
        root: the object to set in.
        keys: at least one.
        value: is set as it is, not copied.
        load: loads the pointers on the way; their content takes their place.
        text: the expression, for messages.
        share: leave ``root`` as it is and answer a new one that shares all that is not on the way.

    Raises:
        NamedListItemError: a list is asked to hold a value under a name.
        ExpressionEvaluationError: a position is far beyond the end of its list.
    """
    top = _writable_root(root, load, text, share=share)
    node: Any = top
    # What a pointer gave may be somebody's cache: below it, containers are copied even when not sharing.
    copying = share
    for key, following in pairwise(keys):
        current = _current(node, key)
        if is_pointer(current):
            copying = True
            current = opened(current, load)
        if isinstance(current, Mapping):
            child: Any = dict(current) if copying or not isinstance(current, dict) else current
        elif isinstance(current, list):
            child = list(current) if copying else current
        else:
            child = [] if following.index >= 0 else {}
        _place(node, key, child, text)
        node = child
    _place(node, keys[-1], value, text)
    return top


def _writable_root(root: Mapping[str, Any], load: LoadPointer, text: str, *, share: bool) -> dict[str, Any]:
    content = opened(root, load)
    if not isinstance(content, Mapping):
        raise ExpressionEvaluationError(
            f"{text!r} cannot be set: the data is a pointer to something that is not an object"
        )
    if share or not isinstance(root, dict):
        return dict(content)
    if content is not root:
        root.clear()
        root.update(content)
    return root


def _current(node: Any, key: Key) -> Any:
    if isinstance(node, dict):
        return node.get(key.name)
    return node[key.index] if 0 <= key.index < len(node) else None


def _place(node: Any, key: Key, value: Any, text: str) -> None:
    if isinstance(node, dict):
        node[key.name] = value
        return
    if key.index < 0:
        raise NamedListItemError(
            f"{text!r} cannot be set: {key.name!r} is no position, and there is a list; "
            "set an index of the list, or give the value another name"
        )
    missing = key.index - len(node)
    if missing > MAX_GAP:
        raise ExpressionEvaluationError(
            f"{text!r} cannot be set: position {key.index} is {missing} beyond the end of the list; "
            f"{MAX_GAP} is the most that is filled with nulls"
        )
    if missing >= 0:
        node.extend([None] * missing)
        node.append(value)
    else:
        node[key.index] = value
