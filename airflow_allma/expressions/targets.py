"""Targets of input mappings and literals: dotted keys in the step's input, ``user.tags[0].name``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from airflow_allma.expressions.assignment import InvalidTargetError, assign_keys
from airflow_allma.expressions.paths import CACHE_SIZE
from airflow_allma.expressions.pointer_access import refuse_to_load
from airflow_allma.expressions.scanner import QUOTES, Scanner, check_length
from airflow_allma.expressions.syntax_tree import Key, make_key
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["MAX_KEYS", "Target", "compile_target", "member_path"]

_log = logging.getLogger(__name__)

MAX_KEYS: Final = 100
"""Names and indexes of a target. JSON in flow files is not nested deeper either."""

_NAME_STOPS = frozenset(".[")
_BRACKET_STOPS = frozenset("]")


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A compiled target. It is immutable, so threads can share it.

    Attributes:
        source: the target as written in the flow.
        keys: its names and indexes, from the outermost on.
        assign: ``assign(root, value)`` sets the value below ``root`` in place. Parents are created: a list
            where the next key consists of digits, otherwise an object. A list cannot hold a value under a
            name, and a scalar cannot hold any: they are unchanged, a warning is logged, and the step
            continues without that input. An index far beyond the end of a list raises
            ExpressionEvaluationError.
        find: ``find(root)`` returns the value that ``assign`` would replace, or NOTHING.
    """

    source: str
    keys: tuple[str, ...]
    assign: Callable[[dict[str, Any], Any], None] = field(repr=False)
    find: Callable[[dict[str, Any]], Any] = field(repr=False)


@lru_cache(maxsize=CACHE_SIZE)
def compile_target(source: str) -> Target:
    """Compile a target. Equal strings return the same object while it is cached.

    Raises:
        ExpressionSyntaxError: a name is missing, a bracket is not closed, or the target begins with ``$.``.
    """
    check_length(source)
    scanner = Scanner(source)
    if scanner.starts_with("$.") or scanner.starts_with("$["):
        scanner.fail("a target is a key of the step's input, not a JSONPath; remove '$.'")
    keys: list[Key] = []
    while not scanner.at_end or not keys:
        if scanner.take("["):
            keys.append(_bracketed(scanner))
        else:
            if keys and not scanner.take("."):
                scanner.fail("a target continues with '.name' or '[index]' here")
            name = scanner.take_until(_NAME_STOPS)
            if not name:
                scanner.fail("a name is missing here; a target looks like user.tags[0].name")
            keys.append(make_key(name))
        if len(keys) > MAX_KEYS:
            scanner.fail(f"a target has at most {MAX_KEYS} names and indexes; nest less")
    names = tuple(key.name for key in keys)
    return Target(source, names, _assigner(tuple(keys), source), _finder(tuple(keys)))


def _assigner(keys: tuple[Key, ...], source: str) -> Callable[[dict[str, Any], Any], None]:
    if len(keys) == 1:
        name = keys[0].name

        def assign_member(root: dict[str, Any], value: Any) -> None:
            root[name] = value

        return assign_member

    refuse = refuse_to_load(source)

    def assign(root: dict[str, Any], value: Any) -> None:
        try:
            assign_keys(root, keys, value, refuse, source, share=False)
        except InvalidTargetError as error:
            _log.warning("%s", error)

    return assign


def _finder(keys: tuple[Key, ...]) -> Callable[[dict[str, Any]], Any]:
    def find(root: dict[str, Any]) -> Any:
        node: Any = root
        for key in keys:
            if isinstance(node, dict):
                node = node.get(key.name, NOTHING)
            elif isinstance(node, list) and 0 <= key.index < len(node):
                node = node[key.index]
            else:
                return NOTHING
        return node

    return find


def _bracketed(scanner: Scanner) -> Key:
    opening = scanner.position - 1
    if scanner.current and scanner.current in QUOTES:
        name = scanner.take_quoted()
    else:
        name = scanner.take_until(_BRACKET_STOPS).strip()
        if not name:
            scanner.fail("the brackets are empty; write an index or a name", opening)
    if not scanner.take("]"):
        scanner.fail("the bracket that opens here is not closed; add ']'", opening)
    return make_key(name)


def member_path(parent: str, name: str) -> str:
    """Return the JSONPath of an object's member, whatever its name."""
    if name.isidentifier():
        return f"{parent}.{name}"
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"{parent}['{quoted}']"
