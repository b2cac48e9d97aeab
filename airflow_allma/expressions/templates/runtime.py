"""The state of a rendering: its position in the data, its loops, its loaded pointers and its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.js_values import number_to_string, to_string
from airflow_allma.expressions.pointer_access import (
    LoadPointer,
    is_pointer,
    refuse_to_load,
    resolve_pointer,
)
from airflow_allma.expressions.syntax_tree import Key
from airflow_allma.expressions.traversal import member
from airflow_allma.expressions.undefined import NOTHING

__all__ = [
    "MAX_WORK",
    "Evaluate",
    "Frame",
    "Loop",
    "Rendering",
    "Write",
    "follow_keys",
    "resolve",
    "to_output",
]

MAX_WORK: Final = 100_000_000
"""Maximum number of characters that the loops of one rendering write; each iteration counts as one more."""

_PLAIN_INTEGER: Final = 10**21


class Rendering:
    """One rendering of one template: the root data, and what has been loaded and written so far.

    ``values`` are those of the slots, if the template is compiled with slots.
    """

    __slots__ = ("_cache", "_load", "left", "root", "values")

    def __init__(self, root: Any, load: LoadPointer | None) -> None:
        self.root = root
        self.left = MAX_WORK
        self.values: list[str] = []
        self._load = load
        self._cache: dict[int, tuple[Mapping[str, Any], Any]] = {}

    def loader(self, part: str) -> LoadPointer:
        """Return the loader for the pointers in ``part`` of the template. It loads each pointer once."""
        load = self._load or refuse_to_load(part)

        def load_once(pointer: Mapping[str, Any]) -> Any:
            cached = self._cache.get(id(pointer))
            if cached is None:
                # The pointer is cached too: its id cannot be reused while this rendering exists.
                cached = self._cache[id(pointer)] = (pointer, load(pointer))
            return cached[1]

        return load_once

    def spend(self, work: int, part: str) -> None:
        """Count the work of a loop.

        Raises:
            ExpressionEvaluationError: the loops have done more than ``MAX_WORK`` in total.
        """
        self.left -= work
        if self.left < 0:
            raise ExpressionEvaluationError(
                f"with {part} the loops of this template exceed {MAX_WORK:,} iterations and characters; "
                "loop over a slice of the list, or build the text in several steps"
            )


class Loop:
    """The current iteration of an ``each``; ``parent`` is that of the enclosing ``each``."""

    __slots__ = ("count", "index", "key", "parent")

    def __init__(self, count: int, parent: Loop | None) -> None:
        self.count = count
        self.index = 0
        self.key: str | int = 0
        self.parent = parent


class Frame:
    """The scope of a block: its ``this``, the frame that ``../`` refers to, its loop, its block parameters.

    ``names`` is ``(first, second, names of the enclosing block)``. A loop reuses one frame for all its
    iterations, and nothing keeps a frame after its block ends.
    """

    __slots__ = ("loop", "names", "parent", "rendering", "this")

    def __init__(
        self, this: Any, parent: Frame | None, loop: Loop | None, names: tuple[Any, ...], rendering: Rendering
    ) -> None:
        self.this = this
        self.parent = parent
        self.loop = loop
        self.names = names
        self.rendering = rendering


Evaluate = Callable[[Frame], Any]
"""A compiled expression."""

Write = Callable[[Frame], str]
"""A compiled part of a template that writes text."""


def follow_keys(value: Any, keys: Iterable[Key], frame: Frame, part: str) -> Any:
    """Follow the keys, through pointers, and return the value at the end, or NOTHING."""
    for key in keys:
        if value.__class__ is dict and key.name in value:
            value = value[key.name]
        elif value is None:
            # Handlebars stops at null; a JSONPath would continue to undefined.
            return None
        else:
            value = member(value, key, frame.rendering.loader(part))
            if value is NOTHING:
                return value
    return resolve(value, frame, part)


def resolve(value: Any, frame: Frame, part: str) -> Any:
    """Return the content if the value is a pointer, otherwise the value itself."""
    kind = value.__class__
    if kind is str or kind is int or kind is list or (kind is dict and POINTER_KEY not in value):
        return value
    return resolve_pointer(value, frame.rendering.loader(part)) if is_pointer(value) else value


def to_output(value: Any) -> str:
    """Return the output of a value: JavaScript's string, but an empty one for null and undefined."""
    kind = value.__class__
    if kind is str:
        return value  # type: ignore[no-any-return]
    if value is None or value is NOTHING:
        return ""
    if kind is int:
        return str(value) if -_PLAIN_INTEGER < value < _PLAIN_INTEGER else number_to_string(value)
    return to_string(value)
