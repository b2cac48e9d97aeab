"""Pointers inside JSON data: objects that represent the content of an S3 object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.exceptions import ExpressionEvaluationError

__all__ = [
    "NON_MAPPINGS",
    "LoadPointer",
    "is_pointer",
    "refuse_to_load",
    "resolve_pointer",
]

LoadPointer = Callable[[Mapping[str, Any]], Any]
"""Takes the inner pointer (``{"bucket", "key", ...}``) and returns the content it represents.

Its exceptions pass through the expression unchanged.
"""

MAX_POINTER_CHAIN: Final = 16
"""Maximum number of pointers that lead to one another; the last of them must lead to content."""

# Comparing the class is many times faster than asking whether a value is a Mapping.
NON_MAPPINGS: Final = frozenset({list, str, int, float, bool, type(None)})
"""The classes of JSON values that are not objects."""


def is_pointer(node: Any) -> bool:
    """Return whether a value is an object that represents the content of an S3 object."""
    if node.__class__ is not dict and (node.__class__ in NON_MAPPINGS or not isinstance(node, Mapping)):
        return False
    return POINTER_KEY in node and isinstance(node[POINTER_KEY], Mapping)


def resolve_pointer(node: Any, load: LoadPointer) -> Any:
    """Return the content of a pointer, overlaid with the pointer's sibling keys. Return other values as is.

    Content that is not an object becomes ``{"content": ...}`` if there are sibling keys.

    Raises:
        ExpressionEvaluationError: more than ``MAX_POINTER_CHAIN`` pointers lead to one another.
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


def refuse_to_load(expression: str) -> LoadPointer:
    """Return a loader that raises an error for any pointer, for an expression evaluated without one."""

    def refuse(pointer: Mapping[str, Any]) -> Any:
        raise ExpressionEvaluationError(
            f"{expression!r} leads through the pointer to s3://{pointer.get('bucket')}/{pointer.get('key')}, "
            "which would have to be loaded, but nothing can be loaded here; let an earlier step load it"
        )

    return refuse
