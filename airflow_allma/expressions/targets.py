"""Targets of input mappings and literals: dotted keys below the step's input, ``user.tags[0].name``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from airflow_allma.expressions.assigning import NamedListItemError, assign_keys
from airflow_allma.expressions.path_syntax import key_segment
from airflow_allma.expressions.paths import CACHE_SIZE
from airflow_allma.expressions.scanner import QUOTES, Scanner, check_length
from airflow_allma.expressions.segments import Key
from airflow_allma.expressions.walking import refuse_to_load

__all__ = ["Target", "compile_target"]

_log = logging.getLogger(__name__)

_NAME_STOPS = frozenset(".[")
_BRACKET_STOPS = frozenset("]")


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A compiled target. It never changes: threads may share it.

    Attributes:
        text: the target as it was written.
        assign: ``assign(root, value)`` sets the value below ``root`` in place. Parents are created, a list
            where the next key is digits; a scalar that stands in the way is replaced. A list takes no value
            under a name: it is left as it is, with a warning in the log, and the step goes on without that
            input. A position far beyond the end of a list raises ExpressionEvaluationError.
    """

    text: str
    assign: Callable[[dict[str, Any], Any], None] = field(repr=False)


@lru_cache(maxsize=CACHE_SIZE)
def compile_target(text: str) -> Target:
    """The compiled form of a target; the same text gives the same object as long as it is cached.

    Raises:
        ExpressionSyntaxError: a name is missing, a bracket is not closed, or the target begins with ``$.``.
    """
    check_length(text)
    scanner = Scanner(text)
    if scanner.starts_with("$.") or scanner.starts_with("$["):
        scanner.fail("a target is a key of the step's input, not a JSONPath; leave out '$.'")
    keys: list[Key] = []
    while not scanner.at_end or not keys:
        if scanner.take("["):
            keys.append(_bracketed(scanner))
        else:
            if keys and not scanner.take("."):
                scanner.fail("a target goes on with '.name' or '[index]' here")
            name = scanner.take_until(_NAME_STOPS)
            if not name:
                scanner.fail("a name is missing here; a target looks like user.tags[0].name")
            keys.append(key_segment(name))
    return Target(text, _assigner(tuple(keys), text))


def _assigner(keys: tuple[Key, ...], text: str) -> Callable[[dict[str, Any], Any], None]:
    if len(keys) == 1:
        name = keys[0].name

        def assign_member(root: dict[str, Any], value: Any) -> None:
            root[name] = value

        return assign_member

    refuse = refuse_to_load(text)

    def assign(root: dict[str, Any], value: Any) -> None:
        try:
            assign_keys(root, keys, value, refuse, text, share=False)
        except NamedListItemError as error:
            _log.warning("%s", error)

    return assign


def _bracketed(scanner: Scanner) -> Key:
    opened = scanner.position - 1
    if scanner.current and scanner.current in QUOTES:
        name = scanner.take_quoted()
    else:
        name = scanner.take_until(_BRACKET_STOPS).strip()
        if not name:
            scanner.fail("the brackets are empty; write an index or a name", opened)
    if not scanner.take("]"):
        scanner.fail("the bracket that opens here is not closed; add ']'", opened)
    return key_segment(name)
