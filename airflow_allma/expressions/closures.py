"""The compilation of paths, filters and conditions: syntax trees to closures.

Every closure takes ``(item, load=None, root=None)``: the value of ``@``, the function that loads pointers,
and the value of ``$`` (None: the item itself). Closures keep no state, so threads can share them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from airflow_allma.common.json_types import type_name
from airflow_allma.common.work_budget import current_budget, with_own_budget
from airflow_allma.exceptions import ExpressionEvaluationError, WorkLimitError
from airflow_allma.expressions.expansions import (
    Expand,
    expand_each,
    expand_keys,
    expand_matching,
    select_keys,
)
from airflow_allma.expressions.js_values import (
    at_least,
    at_most,
    greater,
    less,
    loosely_equal,
    strictly_equal,
    to_string,
    truthy,
)
from airflow_allma.expressions.pointer_access import LoadPointer, refuse_to_load
from airflow_allma.expressions.syntax_tree import (
    And,
    Comparison,
    Descendants,
    DynamicKey,
    Filter,
    Key,
    Literal,
    Not,
    Operand,
    Or,
    Predicate,
    Query,
    Segment,
    Slice,
    Truthiness,
    Union,
    Wildcard,
    make_key,
)
from airflow_allma.expressions.traversal import children, descendants, slice_items, walk_keys
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["Find", "Matches", "compile_finder", "compile_predicate", "find_dynamic_key", "is_definite"]


class Find(Protocol):
    """A function that finds the value of an operand for an item."""

    def __call__(self, item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:
        """Return the value, or NOTHING. The module docstring explains the arguments."""


class Matches(Protocol):
    """A function that evaluates a predicate for an item."""

    def __call__(self, item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
        """Return whether the item matches. The module docstring explains the arguments."""


def is_definite(segments: tuple[Segment, ...]) -> bool:
    """Return whether a path finds at most one value, as opposed to a list."""
    return all(isinstance(segment, Key | DynamicKey) for segment in segments)


def compile_finder(segments: tuple[Segment, ...], source: str) -> Find:
    """Return the closure that evaluates a path.

    Args:
        segments: the path.
        source: the expression that contains the path, for messages.
    """
    plain = tuple(segment for segment in segments if isinstance(segment, Key))
    if len(plain) == len(segments):
        return _plain_finder(plain, source)
    if is_definite(segments):
        return _definite_finder(segments, source)
    return _list_finder(segments, source)


def _plain_finder(keys: tuple[Key, ...], source: str) -> Find:  # noqa: C901 (one closure a length)
    """Return direct lookups that fall back to a full walk where they fail.

    A direct hit is always right: the sibling keys of a pointer take precedence over its content.
    Strings would accept an index, so an index is used on lists only.
    """
    refuse = refuse_to_load(source)

    def walk(item: Any, load: LoadPointer | None) -> Any:
        return walk_keys(item, keys, refuse if load is None else load)

    names = [key.name for key in keys]
    if any(key.index >= 0 for key in keys):
        steps = tuple((key.index if key.index >= 0 else key.name, key.index >= 0) for key in keys)

        def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:  # noqa: ARG001
            node = item
            try:
                for step, is_index in steps:
                    if is_index and node.__class__ is not list:
                        break
                    node = node[step]
                else:
                    return node
            except (KeyError, TypeError, IndexError):
                pass
            return walk(item, load)

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
            return walk(item, load)

    elif len(keys) == 2:
        first, second = names

        def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:  # noqa: ARG001
            try:
                return item[first][second]
            except (KeyError, TypeError, IndexError):
                pass
            return walk(item, load)

    elif len(keys) == 3:
        first, second, third = names

        def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:  # noqa: ARG001
            try:
                return item[first][second][third]
            except (KeyError, TypeError, IndexError):
                pass
            return walk(item, load)

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
            return walk(item, load)

    return find


def find_dynamic_key(segment: DynamicKey, find: Find, root: Any, load: LoadPointer) -> Key:
    """Return the key that a dynamic segment has in this data.

    Raises:
        ExpressionEvaluationError: its path finds nothing, null, or a value that cannot be a key.
    """
    key = find(root, load, root)
    if isinstance(key, str | int | float):
        return make_key(to_string(key))
    # The value itself can be of any length, and it is data.
    shown = "nothing" if key is NOTHING else type_name(key)
    raise ExpressionEvaluationError(
        f"[{segment.source}] must find a string or a number to be a key, but finds {shown}; "
        "set that value in an earlier step, or map another path"
    )


def _definite_finder(segments: tuple[Segment, ...], source: str) -> Find:
    refuse = refuse_to_load(source)
    steps = [
        (segment, compile_finder(segment.query.segments, source) if isinstance(segment, DynamicKey) else None)
        for segment in segments
    ]

    def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:
        loader = refuse if load is None else load
        data = item if root is None else root
        # All keys are resolved first: a missing one is an error even if the walk would end before it.
        keys = [
            find_dynamic_key(segment, inner, data, loader)
            if inner and isinstance(segment, DynamicKey)
            else segment
            for segment, inner in steps
        ]
        return walk_keys(item, keys, loader)  # type: ignore[arg-type]  # is_definite() has checked it

    return find


def _list_finder(segments: tuple[Segment, ...], source: str) -> Find:
    refuse = refuse_to_load(source)
    expansions = [_expansion(segment, source) for segment in segments]

    def find(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:
        budget = current_budget()
        if budget is None:
            return with_own_budget(find, item, load, root)
        loader = refuse if load is None else load
        data = item if root is None else root
        nodes: Sequence[Any] = (item,)
        try:
            for expand in expansions:
                nodes = expand(nodes, loader, data, budget)
                if not nodes:
                    return NOTHING
        except WorkLimitError as error:
            raise error.at(source) from None
        return list(nodes)

    return find


def _expansion(segment: Segment, source: str) -> Expand:
    """Return the closure of one segment."""
    match segment:
        case Key():
            return expand_keys((segment,))
        case Union(keys):
            return expand_keys(keys)
        case DynamicKey(query):
            find_key = compile_finder(query.segments, source)
            return lambda nodes, load, root, budget: select_keys(
                nodes, (find_dynamic_key(segment, find_key, root, load),), load, budget
            )
        case Wildcard():
            return expand_each(children)
        case Slice():
            return expand_each(lambda node, load: slice_items(node, segment, load))
        case Descendants():
            return lambda nodes, load, _root, budget: descendants(nodes, load, budget)
        case Filter(predicate):
            return expand_matching(compile_predicate(predicate, source), 1 + len(source) // 100)


_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">": greater,
    "<": less,
    ">=": at_least,
    "<=": at_most,
    "=": loosely_equal,
    "==": loosely_equal,
    "!=": lambda left, right: not loosely_equal(left, right),
    "===": strictly_equal,
    "!==": lambda left, right: not strictly_equal(left, right),
}
# The same operators where both sides are numbers, or both are strings.
_SAME_TYPE_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
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


def compile_predicate(predicate: Predicate, source: str) -> Matches:
    """Return the closure that evaluates a predicate; ``source`` is the whole expression, for messages."""
    match predicate:
        case Comparison():
            return _compare(predicate, source)
        case Truthiness(operand, empty_list_is_false):
            return _truth(_operand(operand, source), empty_list_is_false=empty_list_is_false)
        case Not(inner):
            negated = compile_predicate(inner, source)
            return lambda item, /, load=None, root=None: not negated(item, load, root)
        case And(parts):
            return _all([compile_predicate(part, source) for part in parts])
        case Or(parts):
            return _any([compile_predicate(part, source) for part in parts])


def _operand(operand: Operand, source: str) -> Find:
    if isinstance(operand, Literal):
        value = operand.value
        return lambda item, /, load=None, root=None: value  # noqa: ARG005
    return _query(operand, source)


def _query(query: Query, source: str) -> Find:
    find = compile_finder(query.segments, source)
    if query.from_item:
        return find

    def find_from_root(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> Any:
        return find(item if root is None else root, load, root)

    return find_from_root


def _compare(node: Comparison, source: str) -> Matches:
    left, right = _operand(node.left, source), _operand(node.right, source)
    compare = _COMPARISONS[node.operator]
    if not isinstance(node.right, Literal):
        return lambda item, /, load=None, root=None: compare(left(item, load, root), right(item, load, root))
    literal = node.right.value
    fast = _SAME_TYPE_COMPARISONS[node.operator]
    if literal.__class__ in (int, float):

        def matches(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
            value = left(item, load, root)
            if value.__class__ is int or value.__class__ is float:
                return fast(value, literal)  # type: ignore[no-any-return]
            return compare(value, literal)

    elif literal.__class__ is str and node.operator in _EQUALITY:

        def matches(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
            value = left(item, load, root)
            if value.__class__ is str:
                return fast(value, literal)  # type: ignore[no-any-return]
            return compare(value, literal)

    else:

        def matches(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
            return compare(left(item, load, root), literal)

    return matches


def _truth(find: Find, *, empty_list_is_false: bool) -> Matches:
    if not empty_list_is_false:
        return lambda item, /, load=None, root=None: truthy(find(item, load, root))

    def matches(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
        value = find(item, load, root)
        return bool(value) if value.__class__ is list else truthy(value)

    return matches


def _all(parts: list[Matches]) -> Matches:
    if len(parts) == 2:
        first, second = parts
        return lambda item, /, load=None, root=None: first(item, load, root) and second(item, load, root)

    def matches(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
        return all(part(item, load, root) for part in parts)

    return matches


def _any(parts: list[Matches]) -> Matches:
    if len(parts) == 2:
        first, second = parts
        return lambda item, /, load=None, root=None: first(item, load, root) or second(item, load, root)

    def matches(item: Any, /, load: LoadPointer | None = None, root: Any = None) -> bool:
        return any(part(item, load, root) for part in parts)

    return matches
