"""One step of a walk over JSON data: into a member, through a pointer, down a whole tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.js_values import text_length
from airflow_allma.expressions.segments import Key, Slice
from airflow_allma.expressions.values import NOTHING, LoadPointer

__all__ = ["children", "descend", "is_pointer", "member", "opened", "refuse_to_load", "sliced", "walk_keys"]

_NO_MAPPINGS: Final = frozenset({list, str, int, float, bool, type(None)})

MAX_POINTER_CHAIN: Final = 16
"""Most pointers that may stand for one another before there must be content."""

MAX_DESCENDED: Final = 5_000_000
"""Most objects and lists that ``..`` may gather at once."""

MAX_DESCENT_LOADS: Final = 10_000
"""Most pointers that ``..`` may load at once; what points to itself ends here."""


def refuse_to_load(text: str) -> LoadPointer:
    """The loader of an expression that was given none: it raises an error that names the pointer."""

    def refuse(pointer: Mapping[str, Any]) -> Any:
        raise ExpressionEvaluationError(
            f"{text!r} goes through the pointer to s3://{pointer.get('bucket')}/{pointer.get('key')}, which "
            "would have to be loaded, and nothing can be loaded here; let an earlier step load it"
        )

    return refuse


def is_pointer(node: Any) -> bool:
    """Whether an object stands for the content of another one."""
    # Asking a class is many times faster than asking whether it is a Mapping.
    if node.__class__ is not dict and (node.__class__ in _NO_MAPPINGS or not isinstance(node, Mapping)):
        return False
    return POINTER_KEY in node and isinstance(node[POINTER_KEY], Mapping)


def opened(node: Any, load: LoadPointer) -> Any:
    """The content that a pointer stands for, with the members beside the pointer on top; else ``node``.

    Content that is no object becomes ``{"content": ...}`` when there are such members.
    """
    for _ in range(MAX_POINTER_CHAIN):
        if not is_pointer(node):
            return node
        content = load(node[POINTER_KEY])
        siblings = {key: value for key, value in node.items() if key != POINTER_KEY}
        if siblings:
            node = (
                {**content, **siblings} if isinstance(content, Mapping) else {"content": content, **siblings}
            )
        else:
            node = content
    raise ExpressionEvaluationError(
        f"more than {MAX_POINTER_CHAIN} pointers lead to one another; the last is {dict(node[POINTER_KEY])}"
    )


def member(node: Any, key: Key, load: LoadPointer) -> Any:
    """The member or item of a value, or NOTHING; a pointer is loaded when its own members lack the key."""
    if node.__class__ is dict or (node.__class__ not in _NO_MAPPINGS and isinstance(node, Mapping)):
        if key.name in node:
            return node[key.name]
        if not is_pointer(node):
            return NOTHING
        node = opened(node, load)
        if isinstance(node, Mapping):
            return node.get(key.name, NOTHING)
    if isinstance(node, list):
        if 0 <= key.index < len(node):
            return node[key.index]
        return len(node) if key.name == "length" else NOTHING
    if isinstance(node, str) and key.name == "length":
        return text_length(node)
    return NOTHING


def walk_keys(node: Any, keys: Iterable[Key], load: LoadPointer) -> Any:
    """The value that one key after another leads to, or NOTHING."""
    for key in keys:
        node = member(node, key, load)
        if node is NOTHING:
            return NOTHING
    return node


def children(node: Any, load: LoadPointer) -> Iterable[Any]:
    """The members of an object or the items of a list, in order."""
    if node.__class__ is list:
        return node
    node = opened(node, load)
    if isinstance(node, Mapping):
        return list(node.values())
    return node if isinstance(node, list) else ()


def sliced(node: Any, bounds: Slice, load: LoadPointer) -> list[Any]:
    """The items of a list within the bounds; no other value has any."""
    node = opened(node, load)
    return node[bounds.start : bounds.end : bounds.step] if isinstance(node, list) else []


def descend(nodes: Iterable[Any], load: LoadPointer) -> list[Any]:
    """Every given value, each followed by the objects and lists below it in document order.

    All pointers below are loaded too: what is found must not depend on which values were large enough to be
    moved to S3.

    Raises:
        ExpressionEvaluationError: there is more below than ``..`` may gather or load.
    """
    found: list[Any] = []
    pointers = 0
    for start in nodes:
        waiting = [start]
        while waiting:
            node = waiting.pop()
            if is_pointer(node):
                pointers += 1
                node = opened(node, load)
            found.append(node)
            if len(found) > MAX_DESCENDED or pointers > MAX_DESCENT_LOADS:
                raise ExpressionEvaluationError(
                    f"'..' meets more than {MAX_DESCENDED} objects and lists, or than {MAX_DESCENT_LOADS} "
                    "pointers; name more of the path"
                )
            waiting.extend(_containers_last_first(node))
    return found


def _containers_last_first(node: Any) -> list[Any]:
    if isinstance(node, list):
        values: Iterable[Any] = node
    elif isinstance(node, Mapping):
        values = node.values()
    else:
        return []
    below = [value for value in values if value.__class__ is dict or value.__class__ is list]
    below.reverse()
    return below
