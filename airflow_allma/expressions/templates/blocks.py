"""The block helpers: ``if``, ``unless``, ``each``, ``with`` and ``with_json_path``, and plain sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError
from airflow_allma.expressions.js_values import truthy
from airflow_allma.expressions.json_text import keys_in_order
from airflow_allma.expressions.paths import Path, compile_path
from airflow_allma.expressions.templates.runtime import Evaluate, Frame, Loop, Write, read
from airflow_allma.expressions.values import NOTHING

__all__ = ["BLOCKS", "BlockHelper", "BlockParts", "section"]


@dataclass(frozen=True, slots=True)
class BlockParts:
    """The compiled parts of one block.

    Attributes:
        part: the opening as written, for errors.
        source: gives the argument.
        constant: the argument if it is a literal, else NOTHING.
        include_zero: whether ``includeZero=`` is given, and what gives it.
        program: writes the inside.
        inverse: writes what is behind ``else``.
    """

    part: str
    source: Evaluate
    constant: Any
    include_zero: Evaluate | None
    program: Write
    inverse: Write


@dataclass(frozen=True, slots=True)
class BlockHelper:
    """A block helper, which has one argument.

    Attributes:
        name: what a template calls it.
        build: makes the closure that writes the block.
        parameters: how many names it gives after ``as``.
        named: the named arguments that it takes.
    """

    name: str
    build: Callable[[BlockParts], Write]
    parameters: int = 0
    named: frozenset[str] = frozenset()


def _is_empty(value: Any) -> bool:
    """What ``with`` and ``if`` take for nothing: an empty list, and all that is false but 0."""
    kind = value.__class__
    if kind is list:
        return not value
    if kind is dict or kind is int:
        return False
    return not truthy(value) and not (isinstance(value, float) and value == 0)


def _is_false(value: Any) -> bool:
    kind = value.__class__
    if kind is bool or kind is str or kind is list or kind is int:
        return not value
    return not truthy(value)


def _if(parts: BlockParts) -> Write:
    source, program, inverse, include_zero = parts.source, parts.program, parts.inverse, parts.include_zero
    if include_zero is None:
        return lambda frame: inverse(frame) if _is_false(source(frame)) else program(frame)

    def write(frame: Frame) -> str:
        value = source(frame)
        is_false = _is_empty(value) if truthy(include_zero(frame)) else _is_false(value)
        return inverse(frame) if is_false else program(frame)

    return write


def _unless(parts: BlockParts) -> Write:
    return _if(replace(parts, program=parts.inverse, inverse=parts.program))


def _turns(program: Write, part: str) -> Callable[[Frame, list[Any], list[str] | None], str]:
    """Writes the inside of a block once for each item; ``keys`` are those of an object's members."""

    def write(frame: Frame, items: list[Any], keys: list[str] | None) -> str:
        rendering = frame.rendering
        outer_names = frame.names
        loop = Loop(len(items), frame.loop)
        inner = Frame(None, frame, loop, outer_names, rendering)
        pieces: list[str] = []
        written = 0
        for index, item in enumerate(items):
            loop.index = index
            loop.key = key = index if keys is None else keys[index]
            inner.this = item
            inner.names = (item, key, outer_names)
            piece = program(inner)
            written += len(piece) + 1
            if written > rendering.left:
                break
            pieces.append(piece)
        rendering.spend(written, part)
        return "".join(pieces)

    return write


def _each(parts: BlockParts) -> Write:
    source, inverse = parts.source, parts.inverse
    turns = _turns(parts.program, parts.part)

    def write(frame: Frame) -> str:
        value = source(frame)
        if value.__class__ is list:
            return turns(frame, value, None) if value else inverse(frame)
        if isinstance(value, Mapping) and value:
            keys = list(keys_in_order(value))
            return turns(frame, [value[key] for key in keys], keys)
        return inverse(frame)

    return write


def _with(parts: BlockParts) -> Write:
    source, program, inverse = parts.source, parts.program, parts.inverse

    def write(frame: Frame) -> str:
        value = source(frame)
        if _is_empty(value):
            return inverse(frame)
        return program(_inside(frame, value))

    return write


def _inside(frame: Frame, value: Any) -> Frame:
    """The frame of a block over ``value``: one level below, unless the value is what ``this`` was before."""
    names = (value, NOTHING, frame.names)
    parent = frame.parent if value is frame.this and isinstance(value, Mapping | list) else frame
    return Frame(value, parent, frame.loop, names, frame.rendering)


def _with_json_path(parts: BlockParts) -> Write:
    source, program, inverse, part = parts.source, parts.program, parts.inverse, parts.part
    fixed = compile_path(parts.constant) if isinstance(parts.constant, str) else None

    def write(frame: Frame) -> str:
        path = fixed or _path(source(frame), part)
        rendering = frame.rendering
        try:
            value = path.find(rendering.root, rendering.loader(part))
        except ExpressionEvaluationError as error:
            raise ExpressionEvaluationError(f"{part}: {error}") from error
        value = read(value, frame, part)
        if value is NOTHING:
            return inverse(frame)
        names = (value, NOTHING, frame.names)
        return program(Frame(frame.this, frame.parent, frame.loop, names, rendering))

    return write


def _path(text: Any, part: str) -> Path:
    if not isinstance(text, str):
        raise ExpressionEvaluationError(f"{part}: the path must be a text that begins with '$'")
    try:
        return compile_path(text)
    except ExpressionSyntaxError as error:
        raise ExpressionEvaluationError(f"{part}: {error}") from error


def section(parts: BlockParts) -> Write:
    """``{{#name}}``: a list is looped over, true keeps ``this``, false and null take the inverse."""
    source, program, inverse = parts.source, parts.program, parts.inverse
    turns = _turns(program, parts.part)

    def write(frame: Frame) -> str:
        value = source(frame)
        if value.__class__ is list and value:
            return turns(frame, value, None)
        if value is False or value is None or value is NOTHING or value == []:
            return inverse(frame)
        if value is True:
            names = (value, NOTHING, frame.names)
            return program(Frame(frame.this, frame.parent, frame.loop, names, frame.rendering))
        return program(_inside(frame, value))

    return write


_INCLUDE_ZERO: Final = frozenset({"includeZero"})

BLOCKS: Final[Mapping[str, BlockHelper]] = MappingProxyType(
    {
        helper.name: helper
        for helper in (
            BlockHelper("if", _if, named=_INCLUDE_ZERO),
            BlockHelper("unless", _unless, named=_INCLUDE_ZERO),
            BlockHelper("each", _each, parameters=2),
            BlockHelper("with", _with, parameters=1),
            BlockHelper("with_json_path", _with_json_path, parameters=1),
        )
    }
)
"""Every block helper, by name."""
