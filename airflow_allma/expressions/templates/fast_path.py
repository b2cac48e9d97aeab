"""The short way of templates that hold nothing but text and plain lookups: ``https://x/{{a.b}}?r={{c.d}}``.

It serves objects all the way with a text, a number, a truth value or null at the end, which is what nearly
every template meets. Anything else (a missing name, a list, a pointer) is left to the general way, which then
renders the whole template: so both write the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from airflow_allma.expressions.templates.runtime import printed
from airflow_allma.expressions.templates.tree import Call, Comment, Mustache, Program, Text
from airflow_allma.expressions.values import LoadPointer

__all__ = ["Render", "direct_render"]

Render = Callable[..., str]
"""``render(context, load=None)``."""

Hole = Callable[[Any], Any]
"""Gives what to write into a hole, or None if the general way is needed."""

_LARGEST: Final = 10**21  # larger numbers are printed with an exponent


def direct_render(program: Program, general: Render) -> Render | None:
    """The short way of a template, or None if it holds more than that. ``general`` is the other way."""
    texts = [""]
    holes: list[Hole] = []
    for statement in program.body:
        if isinstance(statement, Text):
            texts[-1] += statement.value
        elif isinstance(statement, Mustache):
            names = _plain_names(statement)
            if not names:
                return None
            holes.append(_hole(names))
            texts.append("")
        elif not isinstance(statement, Comment):
            return None
    return _BY_HOLES.get(len(holes), _many)(texts, holes, general) if holes else None


def _plain_names(mustache: Mustache) -> tuple[str, ...]:
    call = mustache.expression
    if not isinstance(call, Call) or call.arguments:
        return ()
    callee = call.callee
    return () if callee.is_data or callee.up else callee.names


def _hole(names: Sequence[str]) -> Hole:
    if len(names) == 1:
        return _depth_one(names[0])
    if len(names) == 2:
        return _depth_two(*names)
    return _depth_many(tuple(names))


def _depth_one(name: str) -> Hole:
    def find(context: Any) -> Any:
        try:
            value = context[name]
        except (KeyError, TypeError):
            return None
        kind = value.__class__
        if kind is str or (kind is int and -_LARGEST < value < _LARGEST):
            return value
        return printed(value) if value is None or kind is bool or kind is float else None

    return find


def _depth_two(first: str, second: str) -> Hole:
    def find(context: Any) -> Any:
        try:
            value = context[first][second]
        except (KeyError, TypeError):
            return None
        kind = value.__class__
        if kind is str or (kind is int and -_LARGEST < value < _LARGEST):
            return value
        return printed(value) if value is None or kind is bool or kind is float else None

    return find


def _depth_many(names: tuple[str, ...]) -> Hole:
    def find(context: Any) -> Any:
        value = context
        try:
            for name in names:
                value = value[name]
        except (KeyError, TypeError):
            return None
        kind = value.__class__
        if kind is str or (kind is int and -_LARGEST < value < _LARGEST):
            return value
        return printed(value) if value is None or kind is bool or kind is float else None

    return find


def _one(texts: Sequence[str], holes: Sequence[Hole], general: Render) -> Render:
    before, after = texts
    (hole,) = holes

    def render(context: Any, load: LoadPointer | None = None) -> str:
        if (value := hole(context)) is not None:
            return f"{before}{value}{after}"
        return general(context, load)

    return render


def _two(texts: Sequence[str], holes: Sequence[Hole], general: Render) -> Render:
    before, between, after = texts
    first, second = holes

    def render(context: Any, load: LoadPointer | None = None) -> str:
        if (one := first(context)) is not None and (two := second(context)) is not None:
            return f"{before}{one}{between}{two}{after}"
        return general(context, load)

    return render


def _three(texts: Sequence[str], holes: Sequence[Hole], general: Render) -> Render:
    before, between, then, after = texts
    first, second, third = holes

    def render(context: Any, load: LoadPointer | None = None) -> str:
        if (
            (one := first(context)) is not None
            and (two := second(context)) is not None
            and (three := third(context)) is not None
        ):
            return f"{before}{one}{between}{two}{then}{three}{after}"
        return general(context, load)

    return render


def _many(texts: Sequence[str], holes: Sequence[Hole], general: Render) -> Render:
    start = texts[0]
    rest = tuple(zip(holes, texts[1:], strict=True))

    def render(context: Any, load: LoadPointer | None = None) -> str:
        written = [start]
        for hole, text in rest:
            if (value := hole(context)) is None:
                return general(context, load)
            written.append(f"{value}{text}")
        return "".join(written)

    return render


_BY_HOLES: Final = {1: _one, 2: _two, 3: _three}
