"""The fast path of templates that contain only text and plain lookups: ``https://x/{{a.b}}?r={{c.d}}``.

It handles lookups through objects that end at a string, a number, a boolean or null, which covers nearly all
renderings. For anything else (a missing name, a list, a pointer) the full renderer renders the whole
template, so the output is always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from airflow_allma.common.work_budget import LONG_TEXT, spend_text
from airflow_allma.exceptions import WorkLimitError
from airflow_allma.expressions.pointer_access import LoadPointer
from airflow_allma.expressions.templates.runtime import to_output
from airflow_allma.expressions.templates.tree import Call, Comment, Content, Mustache, Program

__all__ = ["Render", "Values", "fast_render", "fast_values"]

Render = Callable[..., str]
"""``render(context, load=None)``."""

Values = Callable[[Any], list[str] | None]
"""Returns the values of all slots as they are written, or None if one of them is long or not plain."""

Slot = Callable[[Any], Any]
"""Returns what to write into a slot, or None if the fallback is needed."""

Count = Callable[[str], str]
"""Counts the length of a long text as work of the step, and returns the text."""

_MAX_PLAIN_INTEGER: Final = 10**21  # larger integers are printed with an exponent


def fast_render(program: Program, fallback: Render, source: str) -> Render | None:
    """Return the fast renderer of a template, or None if it contains more. ``fallback`` is the full one."""
    parts = _texts_and_slots(program)
    if parts is None:
        return None
    texts, slots = parts
    return _BY_SLOT_COUNT.get(len(slots), _many)(texts, slots, fallback, _counter(source))


def fast_values(program: Program) -> Values | None:
    """Return the function that finds the values of a template's slots, or None if it contains more."""
    parts = _texts_and_slots(program)
    if parts is None:
        return None
    slots = parts[1]

    def values(context: Any) -> list[str] | None:
        found = []
        for slot in slots:
            value = slot(context)
            if value.__class__ is not str:
                if value is None:
                    return None
                value = str(value)
            # Long texts count as work, which the full renderer does.
            if len(value) > LONG_TEXT:
                return None
            found.append(value)
        return found

    return values


def _texts_and_slots(program: Program) -> tuple[list[str], list[Slot]] | None:
    """Return the texts of a template and the slots between them, or None if it has none or contains more."""
    texts = [""]
    slots: list[Slot] = []
    for statement in program.body:
        if isinstance(statement, Content):
            texts[-1] += statement.value
        elif isinstance(statement, Mustache):
            names = _plain_names(statement)
            if not names:
                return None
            slots.append(_slot(names))
            texts.append("")
        elif not isinstance(statement, Comment):
            return None
    return (texts, slots) if slots else None


def _plain_names(mustache: Mustache) -> tuple[str, ...]:
    call = mustache.expression
    if not isinstance(call, Call) or call.arguments:
        return ()
    callee = call.callee
    return () if callee.is_data or callee.up else callee.names


def _slot(names: Sequence[str]) -> Slot:
    if len(names) == 1:
        return _depth_one(names[0])
    if len(names) == 2:
        return _depth_two(*names)
    return _depth_many(tuple(names))


def _depth_one(name: str) -> Slot:
    def find(context: Any) -> Any:
        try:
            value = context[name]
        except (KeyError, TypeError):
            return None
        kind = value.__class__
        if kind is str or (kind is int and -_MAX_PLAIN_INTEGER < value < _MAX_PLAIN_INTEGER):
            return value
        return to_output(value) if value is None or kind is bool or kind is float else None

    return find


def _depth_two(first: str, second: str) -> Slot:
    def find(context: Any) -> Any:
        try:
            value = context[first][second]
        except (KeyError, TypeError):
            return None
        kind = value.__class__
        if kind is str or (kind is int and -_MAX_PLAIN_INTEGER < value < _MAX_PLAIN_INTEGER):
            return value
        return to_output(value) if value is None or kind is bool or kind is float else None

    return find


def _depth_many(names: tuple[str, ...]) -> Slot:
    def find(context: Any) -> Any:
        value = context
        try:
            for name in names:
                value = value[name]
        except (KeyError, TypeError):
            return None
        kind = value.__class__
        if kind is str or (kind is int and -_MAX_PLAIN_INTEGER < value < _MAX_PLAIN_INTEGER):
            return value
        return to_output(value) if value is None or kind is bool or kind is float else None

    return find


def _one(texts: Sequence[str], slots: Sequence[Slot], fallback: Render, count: Count) -> Render:
    before, after = texts
    (slot,) = slots

    def render(context: Any, load: LoadPointer | None = None) -> str:
        if (value := slot(context)) is not None:
            text = f"{before}{value}{after}"
            return text if len(text) <= LONG_TEXT else count(text)
        return fallback(context, load)

    return render


def _two(texts: Sequence[str], slots: Sequence[Slot], fallback: Render, count: Count) -> Render:
    before, between, after = texts
    first, second = slots

    def render(context: Any, load: LoadPointer | None = None) -> str:
        if (one := first(context)) is not None and (two := second(context)) is not None:
            text = f"{before}{one}{between}{two}{after}"
            return text if len(text) <= LONG_TEXT else count(text)
        return fallback(context, load)

    return render


def _three(texts: Sequence[str], slots: Sequence[Slot], fallback: Render, count: Count) -> Render:
    before, between, then, after = texts
    first, second, third = slots

    def render(context: Any, load: LoadPointer | None = None) -> str:
        if (
            (one := first(context)) is not None
            and (two := second(context)) is not None
            and (three := third(context)) is not None
        ):
            text = f"{before}{one}{between}{two}{then}{three}{after}"
            return text if len(text) <= LONG_TEXT else count(text)
        return fallback(context, load)

    return render


def _many(texts: Sequence[str], slots: Sequence[Slot], fallback: Render, count: Count) -> Render:
    start = texts[0]
    rest = tuple(zip(slots, texts[1:], strict=True))

    def render(context: Any, load: LoadPointer | None = None) -> str:
        written = [start]
        for slot, text in rest:
            if (value := slot(context)) is None:
                return fallback(context, load)
            part = f"{value}{text}"
            # Counted at once: one long value can be in many slots.
            written.append(part if len(part) <= LONG_TEXT else count(part))
        return "".join(written)

    return render


def _counter(source: str) -> Count:
    def count(text: str) -> str:
        try:
            spend_text(len(text))
        except WorkLimitError as error:
            raise error.at(f"the template {source}") from None
        return text

    return count


_BY_SLOT_COUNT: Final = {1: _one, 2: _two, 3: _three}
