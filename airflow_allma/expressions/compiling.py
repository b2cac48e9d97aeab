"""Turns the trees of paths, filters and conditions into closures.

Every closure takes ``(item, load=None, root=None)``: the value that ``@`` means, the function that loads
pointers, and the value that ``$`` means (the item itself if None). They keep no state, so threads may share
them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions import js_values, walking
from airflow_allma.expressions.path_syntax import key_segment
from airflow_allma.expressions.segments import (
    And,
    Compare,
    Descend,
    Dynamic,
    Each,
    Filter,
    Key,
    Not,
    Operand,
    Or,
    Predicate,
    Query,
    Segment,
    Slice,
    Truth,
    Union,
    Value,
)
from airflow_allma.expressions.values import NOTHING, LoadPointer

__all__ = ["Find", "Holds", "compile_finder", "compile_predicate", "dynamic_key", "is_definite"]


class Find(Protocol):
    """Answers the value an operand has for an item, or NOTHING."""

    def __call__(self, item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:
        """The value; see the module for the arguments."""


class Holds(Protocol):
    """Answers whether a predicate holds for an item."""

    def __call__(self, item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
        """True or False; see the module for the arguments."""


Expand = Callable[[Iterable[Any], LoadPointer, Any], Iterable[Any]]
"""All that a segment finds in some values, given what loads pointers and the root."""


def is_definite(segments: tuple[Segment, ...]) -> bool:
    """Whether a path finds one value at most, and not a list of what it finds."""
    return all(isinstance(segment, Key | Dynamic) for segment in segments)


def compile_finder(segments: tuple[Segment, ...], text: str) -> Find:
    """The closure that evaluates a path.

    Args:
        segments: the path.
        text: the whole expression, for messages.
    """
    plain = tuple(segment for segment in segments if isinstance(segment, Key))
    if len(plain) == len(segments):
        return _plain_finder(plain, text)
    if is_definite(segments):
        return _definite_finder(segments, text)
    return _list_finder(segments, text)


def _plain_finder(keys: tuple[Key, ...], text: str) -> Find:  # noqa: C901 (one closure a length)
    """Direct look-ups; whatever they stumble over is left to the careful walk.

    A direct hit needs no care: the members beside a pointer win over what it would load.
    Texts answer only to positions, so positions are used on lists alone.
    """
    refuse = walking.refuse_to_load(text)

    def carefully(item: Any, load: LoadPointer | None) -> Any:
        return walking.walk_keys(item, keys, refuse if load is None else load)

    names = [key.name for key in keys]
    if any(key.index >= 0 for key in keys):
        steps = tuple((key.index if key.index >= 0 else key.name, key.index >= 0) for key in keys)

        def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:  # noqa: ARG001
            node = item
            try:
                for step, is_position in steps:
                    if is_position and node.__class__ is not list:
                        break
                    node = node[step]
                else:
                    return node
            except (KeyError, TypeError, IndexError):
                pass
            return carefully(item, load)

    elif not keys:

        def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:  # noqa: ARG001
            return item

    elif len(keys) == 1:
        (only,) = names

        def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:  # noqa: ARG001
            try:
                return item[only]
            except (KeyError, TypeError, IndexError):
                pass
            return carefully(item, load)

    elif len(keys) == 2:
        first, second = names

        def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:  # noqa: ARG001
            try:
                return item[first][second]
            except (KeyError, TypeError, IndexError):
                pass
            return carefully(item, load)

    elif len(keys) == 3:
        first, second, third = names

        def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:  # noqa: ARG001
            try:
                return item[first][second][third]
            except (KeyError, TypeError, IndexError):
                pass
            return carefully(item, load)

    else:

        def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:  # noqa: ARG001
            node = item
            try:
                for name in names:
                    node = node[name]
            except (KeyError, TypeError, IndexError):
                pass
            else:
                return node
            return carefully(item, load)

    return find


def dynamic_key(segment: Dynamic, find: Find, root: Any, load: LoadPointer) -> Key:
    """The key that a dynamic segment stands for in this data.

    Raises:
        ExpressionEvaluationError: its path finds nothing, null, or what cannot be a key.
    """
    found = find(root, load, root)
    if isinstance(found, str | int | float):
        return key_segment(js_values.to_text(found))
    what = "nothing" if found is NOTHING else js_values.to_text(found)
    raise ExpressionEvaluationError(
        f"[{segment.text}] must find a text or a number to be a key, and finds {what}; "
        "set that value before, or map another path"
    )


def _definite_finder(segments: tuple[Segment, ...], text: str) -> Find:
    refuse = walking.refuse_to_load(text)
    steps = [
        (segment, compile_finder(segment.query.segments, text) if isinstance(segment, Dynamic) else None)
        for segment in segments
    ]

    def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:
        loader = refuse if load is None else load
        whole = item if root is None else root
        # All keys are found first: a missing one is an error even where the walk would end before it.
        keys = [
            dynamic_key(segment, inner, whole, loader) if inner and isinstance(segment, Dynamic) else segment
            for segment, inner in steps
        ]
        return walking.walk_keys(item, keys, loader)  # type: ignore[arg-type]  # is_definite() has seen to it

    return find


def _list_finder(segments: tuple[Segment, ...], text: str) -> Find:
    refuse = walking.refuse_to_load(text)
    expansions = [_expansion(segment, text) for segment in segments]

    def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:
        loader = refuse if load is None else load
        whole = item if root is None else root
        nodes: Iterable[Any] = (item,)
        for expand in expansions:
            nodes = expand(nodes, loader, whole)
            if not nodes:
                return NOTHING
        return list(nodes)

    return find


def _expansion(segment: Segment, text: str) -> Expand:
    """The closure of one segment; the six kinds stand in one place."""
    match segment:
        case Key():
            return _member_expansion((segment,))
        case Union(keys):
            return _member_expansion(keys)
        case Dynamic(query):
            find_key = compile_finder(query.segments, text)
            return lambda nodes, load, root: _members(
                nodes, (dynamic_key(segment, find_key, root, load),), load
            )
        case Each():
            return lambda nodes, load, _root: [
                child for node in nodes for child in walking.children(node, load)
            ]
        case Slice():
            return lambda nodes, load, _root: [
                child for node in nodes for child in walking.sliced(node, segment, load)
            ]
        case Descend():
            return lambda nodes, load, _root: walking.descend(nodes, load)
        case Filter(predicate):
            holds = compile_predicate(predicate, text)
            return lambda nodes, load, root: [
                child for node in nodes for child in walking.children(node, load) if holds(child, load, root)
            ]


def _member_expansion(keys: tuple[Key, ...]) -> Expand:
    return lambda nodes, load, _root: _members(nodes, keys, load)


def _members(nodes: Iterable[Any], keys: tuple[Key, ...], load: LoadPointer) -> list[Any]:
    found = []
    member = walking.member
    for node in nodes:
        for key in keys:
            # The usual case, without a call.
            if node.__class__ is dict and key.name in node:
                found.append(node[key.name])
            elif (value := member(node, key, load)) is not NOTHING:
                found.append(value)
    return found


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">": js_values.greater,
    "<": js_values.less,
    ">=": js_values.at_least,
    "<=": js_values.at_most,
    "=": js_values.loosely_equal,
    "==": js_values.loosely_equal,
    "!=": lambda left, right: not js_values.loosely_equal(left, right),
    "===": js_values.strictly_equal,
    "!==": lambda left, right: not js_values.strictly_equal(left, right),
}
# What the same operators come to where both sides are numbers, or both are texts.
_COMPARE_NUMBERS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "===": operator.eq,
    "!==": operator.ne,
}
_EQUALITY: Final = frozenset({"=", "==", "!=", "===", "!=="})


def compile_predicate(predicate: Predicate, text: str) -> Holds:
    """The closure that evaluates a predicate; ``text`` is the whole expression, for messages."""
    match predicate:
        case Compare():
            return _compare(predicate, text)
        case Truth(operand, empty_list_is_false):
            return _truth(_operand(operand, text), empty_list_is_false=empty_list_is_false)
        case Not(inner):
            negated = compile_predicate(inner, text)
            return lambda item, /, load=None, root=None: not negated(item, load, root)
        case And(parts):
            return _all([compile_predicate(part, text) for part in parts])
        case Or(parts):
            return _either([compile_predicate(part, text) for part in parts])


def _operand(operand: Operand, text: str) -> Find:
    if isinstance(operand, Value):
        value = operand.value
        return lambda item, /, load=None, root=None: value  # noqa: ARG005
    return _query(operand, text)


def _query(query: Query, text: str) -> Find:
    find = compile_finder(query.segments, text)
    if query.from_item:
        return find

    def find_from_root(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:
        return find(item if root is None else root, load, root)

    return find_from_root


def _compare(node: Compare, text: str) -> Holds:
    left, right = _operand(node.left, text), _operand(node.right, text)
    compare = _COMPARE[node.operator]
    if not isinstance(node.right, Value):
        return lambda item, /, load=None, root=None: compare(left(item, load, root), right(item, load, root))
    literal = node.right.value
    quick = _COMPARE_NUMBERS[node.operator]
    if literal.__class__ in (int, float):

        def holds(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
            value = left(item, load, root)
            if value.__class__ is int or value.__class__ is float:
                return quick(value, literal)  # type: ignore[no-any-return]
            return compare(value, literal)

    elif literal.__class__ is str and node.operator in _EQUALITY:

        def holds(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
            value = left(item, load, root)
            if value.__class__ is str:
                return quick(value, literal)  # type: ignore[no-any-return]
            return compare(value, literal)

    else:

        def holds(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
            return compare(left(item, load, root), literal)

    return holds


def _truth(find: Find, *, empty_list_is_false: bool) -> Holds:
    truthy = js_values.truthy
    if not empty_list_is_false:
        return lambda item, /, load=None, root=None: truthy(find(item, load, root))

    def holds(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
        value = find(item, load, root)
        return bool(value) if value.__class__ is list else truthy(value)

    return holds


def _all(parts: list[Holds]) -> Holds:
    if len(parts) == 2:
        first, second = parts
        return lambda item, /, load=None, root=None: first(item, load, root) and second(item, load, root)

    def holds(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
        return all(part(item, load, root) for part in parts)

    return holds


def _either(parts: list[Holds]) -> Holds:
    if len(parts) == 2:
        first, second = parts
        return lambda item, /, load=None, root=None: first(item, load, root) or second(item, load, root)

    def holds(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
        return any(part(item, load, root) for part in parts)

    return holds
