"""What a rendering carries along: where it stands in the data, its loops, its pointers and its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.js_values import number_to_text, to_text
from airflow_allma.expressions.segments import Key
from airflow_allma.expressions.values import NOTHING, LoadPointer
from airflow_allma.expressions.walking import is_pointer, member, opened, refuse_to_load

__all__ = ["MAX_WORK", "Evaluate", "Frame", "Loop", "Rendering", "Write", "follow", "printed", "read"]

MAX_WORK: Final = 100_000_000
"""Most characters that the loops of one rendering may write; each turn of a loop counts as one more."""

_PLAIN_INTEGER: Final = 10**21


class Rendering:
    """One rendering of one template: the whole data, and what was loaded and written so far."""

    __slots__ = ("_load", "_loaded", "left", "root")

    def __init__(self, root: Any, load: LoadPointer | None) -> None:
        self.root = root
        self.left = MAX_WORK
        self._load = load
        self._loaded: dict[int, tuple[Mapping[str, Any], Any]] = {}

    def loader(self, part: str) -> LoadPointer:
        """What loads the pointers that ``part`` of the template names; each pointer is loaded once."""
        load = self._load or refuse_to_load(part)

        def load_once(pointer: Mapping[str, Any]) -> Any:
            known = self._loaded.get(id(pointer))
            if known is None:
                # The pointer is kept with its content: its id stays its own as long as this rendering lives.
                known = self._loaded[id(pointer)] = (pointer, load(pointer))
            return known[1]

        return load_once

    def spend(self, work: int, part: str) -> None:
        """Count what a loop has done.

        Raises:
            ExpressionEvaluationError: the loops have done more than ``MAX_WORK`` in all.
        """
        self.left -= work
        if self.left < 0:
            raise ExpressionEvaluationError(
                f"{part} takes the loops of this template beyond {MAX_WORK:,} turns and characters; "
                "loop over a slice of the list, or make the text in several steps"
            )


class Loop:
    """The turn that an ``each`` is in; ``parent`` is the ``each`` around it."""

    __slots__ = ("count", "index", "key", "parent")

    def __init__(self, count: int, parent: Loop | None) -> None:
        self.count = count
        self.index = 0
        self.key: str | int = 0
        self.parent = parent


class Frame:
    """Where a block stands: its ``this``, the frame ``../`` leads to, its loop, its block parameters.

    ``names`` is ``(first, second, names of the block around)``. Frames are changed from turn to turn of a
    loop, and nothing keeps one beyond its block.
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
"""A compiled piece of a template that writes text."""


def follow(value: Any, keys: Iterable[Key], frame: Frame, part: str) -> Any:
    """The value that the keys lead to, its pointers loaded on the way and at the end; or NOTHING."""
    for key in keys:
        if value.__class__ is dict and key.name in value:
            value = value[key.name]
        elif value is None:
            # Handlebars stays at null, where a JSONPath goes on to undefined.
            return None
        else:
            value = member(value, key, frame.rendering.loader(part))
            if value is NOTHING:
                return value
    return read(value, frame, part)


def read(value: Any, frame: Frame, part: str) -> Any:
    """The value itself, or the content that it stands for."""
    kind = value.__class__
    if kind is str or kind is int or kind is list or (kind is dict and POINTER_KEY not in value):
        return value
    return opened(value, frame.rendering.loader(part)) if is_pointer(value) else value


def printed(value: Any) -> str:
    """The text of a value in a template: as JavaScript, but nothing for null and undefined."""
    kind = value.__class__
    if kind is str:
        return value  # type: ignore[no-any-return]
    if value is None or value is NOTHING:
        return ""
    if kind is int:
        return str(value) if -_PLAIN_INTEGER < value < _PLAIN_INTEGER else number_to_text(value)
    return to_text(value)
