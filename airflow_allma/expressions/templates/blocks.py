"""The block helpers: ``if``, ``unless``, ``each``, ``with`` and ``with_json_path``, and plain sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.common.work_budget import POINTS
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.js_values import truthy
from airflow_allma.expressions.json_stringify import js_key_order
from airflow_allma.expressions.paths import compile_path
from airflow_allma.expressions.templates.runtime import Evaluate, Frame, Loop, Write, resolve
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["BLOCKS", "BlockHelper", "BlockParts", "section"]


@dataclass(frozen=True, slots=True)
class BlockParts:
    """The compiled parts of one block.

    Attributes:
        part: the opening as written, for errors.
        argument: evaluates the argument.
        constant: the argument if it is a literal, otherwise NOTHING.
        include_zero: evaluates ``includeZero=``; None without it.
        program: writes the body.
        inverse: writes the body of ``else``.
        weight: how much work the body is for one turn of a loop, at least 1.
    """

    part: str
    argument: Evaluate
    constant: Any
    include_zero: Evaluate | None
    program: Write
    inverse: Write
    weight: int


@dataclass(frozen=True, slots=True)
class BlockHelper:
    """A block helper, which takes one argument.

    Attributes:
        name: its name in templates.
        build: returns the closure that writes the block.
        parameters: the maximum number of names after ``as``.
        named: the named arguments that it accepts.
    """

    name: str
    build: Callable[[BlockParts], Write]
    parameters: int = 0
    named: frozenset[str] = frozenset()


def _is_empty(value: Any) -> bool:
    """Return whether ``with`` and ``if includeZero=true`` skip a value: false but not 0, or an empty list."""
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
    argument, program, inverse, include_zero = (
        parts.argument,
        parts.program,
        parts.inverse,
        parts.include_zero,
    )
    if include_zero is None:
        return lambda frame: inverse(frame) if _is_false(argument(frame)) else program(frame)

    def write(frame: Frame) -> str:
        value = argument(frame)
        is_false = _is_empty(value) if truthy(include_zero(frame)) else _is_false(value)
        return inverse(frame) if is_false else program(frame)

    return write


def _unless(parts: BlockParts) -> Write:
    return _if(replace(parts, program=parts.inverse, inverse=parts.program))


def _loop_writer(parts: BlockParts) -> Callable[[Frame, list[Any], list[str] | None], str]:
    """Return the function that writes a block's body for each item; ``keys`` are the keys of an object."""
    program, part = parts.program, parts.part
    points_of_turn = parts.weight * POINTS

    def write(frame: Frame, items: list[Any], keys: list[str] | None) -> str:
        rendering = frame.rendering
        outer_names = frame.names
        loop = Loop(len(items), frame.loop)
        inner = Frame(None, frame, loop, outer_names, rendering)
        written: list[str] = []
        budget = rendering.budget
        points = 0
        for index, item in enumerate(items):
            loop.index = index
            loop.key = key = index if keys is None else keys[index]
            inner.this = item
            inner.names = (item, key, outer_names)
            output = program(inner)
            points += len(output) + points_of_turn
            if points > budget.left:
                break
            written.append(output)
        rendering.spend(points, part)
        return "".join(written)

    return write


def _each(parts: BlockParts) -> Write:
    argument, inverse = parts.argument, parts.inverse
    write_loop = _loop_writer(parts)

    def write(frame: Frame) -> str:
        value = argument(frame)
        if value.__class__ is list:
            return write_loop(frame, value, None) if value else inverse(frame)
        if isinstance(value, Mapping) and value:
            keys = list(js_key_order(value))
            return write_loop(frame, [value[key] for key in keys], keys)
        return inverse(frame)

    return write


def _with(parts: BlockParts) -> Write:
    argument, program, inverse = parts.argument, parts.program, parts.inverse

    def write(frame: Frame) -> str:
        value = argument(frame)
        if _is_empty(value):
            return inverse(frame)
        return program(_inner_frame(frame, value))

    return write


def _inner_frame(frame: Frame, value: Any) -> Frame:
    """Return the frame of a block for ``value``: one level down, unless the value is the current ``this``."""
    names = (value, NOTHING, frame.names)
    parent = frame.parent if value is frame.this and isinstance(value, Mapping | list) else frame
    return Frame(value, parent, frame.loop, names, frame.rendering)


def _with_json_path(parts: BlockParts) -> Write:
    program, inverse, part = parts.program, parts.inverse, parts.part
    path = compile_path(parts.constant)

    def write(frame: Frame) -> str:
        rendering = frame.rendering
        try:
            value = path.find(rendering.root, rendering.loader(part))
        except ExpressionEvaluationError as error:
            raise ExpressionEvaluationError(f"{part}: {error}") from error
        value = resolve(value, frame, part)
        if value is NOTHING:
            return inverse(frame)
        names = (value, NOTHING, frame.names)
        return program(Frame(frame.this, frame.parent, frame.loop, names, rendering))

    return write


def section(parts: BlockParts) -> Write:
    """Build ``{{#name}}``: a loop over a list; ``this`` stays for true; false and null write the inverse."""
    argument, program, inverse = parts.argument, parts.program, parts.inverse
    write_loop = _loop_writer(parts)

    def write(frame: Frame) -> str:
        value = argument(frame)
        if value.__class__ is list and value:
            return write_loop(frame, value, None)
        if value is False or value is None or value is NOTHING or value == []:
            return inverse(frame)
        if value is True:
            names = (value, NOTHING, frame.names)
            return program(Frame(frame.this, frame.parent, frame.loop, names, frame.rendering))
        return program(_inner_frame(frame, value))

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
