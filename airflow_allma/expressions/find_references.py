"""Finds what paths, conditions and templates read, for checks of flows before they run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from airflow_allma.common.reference import Reference
from airflow_allma.expressions.conditions import Condition
from airflow_allma.expressions.paths import CACHE_SIZE, Path, compile_path
from airflow_allma.expressions.syntax_tree import (
    And,
    Comparison,
    DynamicKey,
    Filter,
    Key,
    Not,
    Or,
    Predicate,
    Query,
    Segment,
    Truthiness,
)
from airflow_allma.expressions.templates.blocks import BLOCKS
from airflow_allma.expressions.templates.helpers import HELPERS
from airflow_allma.expressions.templates.parser import parse
from airflow_allma.expressions.templates.template import SlottedTemplate, Template
from airflow_allma.expressions.templates.tree import (
    Block,
    Call,
    Expression,
    Literal,
    Lookup,
    Mustache,
    Program,
)

__all__ = ["references", "template_references"]

_ROOT: Final = "root"
_DATA: Final = frozenset({_ROOT, "first", "index", "key", "last"})
_TESTS: Final = frozenset({"if", "unless"})
# Their body sees the same value as what is around them.
_TRANSPARENT: Final = frozenset({"if", "unless", "with_json_path"})


def references(
    compiled: Path | Condition | Template | SlottedTemplate | None,
) -> tuple[Reference, ...]:
    """Return what a compiled expression reads, a JSONPath also inside its brackets and filters.

    Returns:
        One entry for each place; none for a string that cannot be parsed (None).
    """
    if isinstance(compiled, Path | Condition):
        return _cached(compiled)
    return () if compiled is None else tuple(_of_program(compiled.program, (False,), frozenset()))


def template_references(source: str) -> tuple[Reference, ...]:
    """Return what a template reads, one that cannot be compiled (an unknown helper) as well.

    Raises:
        ExpressionSyntaxError: it does not even have the form of a template.
    """
    return tuple(_of_program(parse(source), (False,), frozenset()))


@lru_cache(maxsize=CACHE_SIZE)
def _cached(compiled: Path | Condition) -> tuple[Reference, ...]:
    # The same object for the same source, as long as it is cached. The trees of templates can be large.
    if isinstance(compiled, Path):
        return tuple(_of_segments(compiled.segments))
    return tuple(_of_predicate(compiled.predicate))


def _of_segments(segments: Iterable[Segment]) -> Iterator[Reference]:
    names: list[str] = []
    is_plain = True
    for segment in segments:
        if isinstance(segment, Key) and is_plain:
            names.append(segment.name)
            continue
        is_plain = False
        if isinstance(segment, DynamicKey):
            yield from _of_segments(segment.query.segments)
        elif isinstance(segment, Filter):
            yield from _of_predicate(segment.predicate)
    if names:
        yield Reference(tuple(names))


def _of_predicate(predicate: Predicate) -> Iterator[Reference]:
    match predicate:
        case And() | Or():
            for part in predicate.parts:
                yield from _of_predicate(part)
        case Not():
            yield from _of_predicate(predicate.inner)
        case Truthiness():
            yield from _of_operand(predicate.operand)
        case Comparison():
            yield from _of_operand(predicate.left)
            yield from _of_operand(predicate.right)


def _of_operand(operand: object) -> Iterator[Reference]:
    if isinstance(operand, Query) and not operand.from_item:
        yield from _of_segments(operand.segments)


_Levels = tuple[bool, ...]
"""For each value that ``../`` can reach, the innermost last: whether it is something other than the root."""


def _of_program(program: Program | None, levels: _Levels, bound: frozenset[str]) -> Iterator[Reference]:
    for statement in program.body if program else ():
        if isinstance(statement, Mustache):
            yield from _of_expression(statement.expression, levels, bound)
        elif isinstance(statement, Block):
            yield from _of_block(statement, levels, bound)


def _of_block(block: Block, levels: _Levels, bound: frozenset[str]) -> Iterator[Reference]:
    call = block.call
    name = call.callee.source if call.callee.is_plain_name and call.callee.source not in bound else ""
    for argument in call.arguments:
        if name == "with_json_path" and isinstance(argument, Literal) and isinstance(argument.value, str):
            yield from references(compile_path(argument.value))
        for found in _of_expression(argument, levels, bound):
            yield found._replace(is_tested=True) if name in _TESTS else found
    if name not in BLOCKS:
        yield from _of_lookup(call.callee, levels, bound)
    inner = levels if name in _TRANSPARENT else (*levels, True)
    yield from _of_program(block.program, inner, bound | {parameter for parameter, _ in block.parameters})
    yield from _of_program(block.inverse, levels, bound)


def _of_expression(expression: Expression, levels: _Levels, bound: frozenset[str]) -> Iterator[Reference]:
    if isinstance(expression, Lookup):
        yield from _of_lookup(expression, levels, bound)
    elif isinstance(expression, Call):
        callee = expression.callee
        if not expression.arguments and callee.source not in HELPERS:
            yield from _of_lookup(callee, levels, bound)
        for argument in (*expression.arguments, *(argument for _, argument in expression.named)):
            yield from _of_expression(argument, levels, bound)


def _of_lookup(lookup: Lookup, levels: _Levels, bound: frozenset[str]) -> Iterator[Reference]:
    names = lookup.names
    if lookup.is_data:
        if names[0] == _ROOT and names[1:]:
            yield Reference(names[1:])
        elif names[0] not in _DATA:
            # Not a name of the root, whatever block it is in.
            yield Reference((f"@{names[0]}", *names[1:]), in_block=True)
        return
    if not names or lookup.up >= len(levels) or (not lookup.is_scoped and names[0] in bound):
        return
    yield Reference(names, levels[-1 - lookup.up])
