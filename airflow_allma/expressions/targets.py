"""Targets of input mappings and literals: dotted keys below the step's input, ``user.tags[0].name``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from airflow_allma.expressions.assigning import assign_keys
from airflow_allma.expressions.path_syntax import key_segment
from airflow_allma.expressions.paths import CACHE_SIZE
from airflow_allma.expressions.scanner import QUOTES, Scanner, check_length
from airflow_allma.expressions.segments import Key
from airflow_allma.expressions.walking import refuse_to_load

__all__ = ["Target", "compile_target"]

_NAME_STOPS = frozenset(".[")
_BRACKET_STOPS = frozenset("]")


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A compiled target. It never changes: threads may share it.

    Attributes:
        text: the target as it was written.
    """

    text: str
    _keys: tuple[Key, ...] = field(repr=False)

    def assign(self, root: dict[str, Any], value: Any) -> None:
        """Set ``value`` below ``root`` in place; parents are created, a list where the next key is digits.

        Raises:
            ExpressionEvaluationError: a list is asked for a name, or for a position far beyond its end.
        """
        assign_keys(root, self._keys, value, refuse_to_load(self.text), self.text, share=False)


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
    return Target(text, tuple(keys))


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
