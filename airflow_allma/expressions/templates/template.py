"""Compiled templates and their cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from airflow_allma.common.work_budget import current_budget, with_own_budget
from airflow_allma.exceptions import ExpressionSyntaxError, WorkLimitError
from airflow_allma.expressions.pointer_access import LoadPointer
from airflow_allma.expressions.scanner import check_no_slot
from airflow_allma.expressions.syntax_tree import SLOT
from airflow_allma.expressions.templates.compiler import compile_program
from airflow_allma.expressions.templates.concat import to_writer
from airflow_allma.expressions.templates.fast_path import Render, Values, fast_render, fast_values
from airflow_allma.expressions.templates.parser import parse
from airflow_allma.expressions.templates.runtime import Frame, Rendering, Write
from airflow_allma.expressions.templates.tree import Block, Content, Mustache, Program
from airflow_allma.expressions.templates.whitespace import strip_white_space

__all__ = [
    "CACHE_SIZE",
    "SlottedTemplate",
    "Span",
    "Template",
    "compile_slotted_template",
    "compile_template",
]

CACHE_SIZE: Final = 4096
"""Maximum number of cached templates; the least recently used one is dropped first."""

CACHED_LENGTH: Final = 20_000
"""Maximum length of a cached template, in characters; a longer one lives as long as the flow that uses it."""


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A compiled template. It is immutable, so threads can share it.

    Attributes:
        source: the template as written in the flow.
        render: ``render(context, load=None)`` returns the rendered text. ``context`` is any JSON value, or a
            Mapping with the names at the root. ``load`` loads the pointers that the template refers to, each
            once in a rendering. It raises ExpressionEvaluationError if a pointer has to be loaded and
            ``load`` is None, or if a value cannot be written, and WorkLimitError if it does more work than
            a step may do; exceptions of ``load`` pass through.
        is_static: whether the rendered text is the same for all data.
        program: its syntax tree.
    """

    source: str
    render: Render = field(repr=False)
    is_static: bool
    program: Program = field(repr=False)


def compile_template(source: str) -> Template:
    """Compile a Handlebars template. Templates of ordinary length are compiled once and cached.

    Raises:
        ExpressionSyntaxError: this is not a valid template, it is too long or nested too deeply, it uses
            partials, decorators or unknown helpers, or it contains the character ``SLOT``. The error says
            what to use instead.
    """
    if not isinstance(source, str):
        raise ExpressionSyntaxError(
            f"a template must be a string, not {type(source).__name__}; put it in quotes", str(source)
        )
    return _cached(source) if len(source) <= CACHED_LENGTH else _compile(source)


class Span(NamedTuple):
    """A part of a rendered template.

    Attributes:
        text: the rendered characters.
        is_authored: whether they are the template's own text; otherwise they are values.
    """

    text: str
    is_authored: bool


_NO_VALUE: Final = Span("", is_authored=False)


@dataclass(frozen=True, slots=True, eq=False)
class SlottedTemplate:
    """A compiled template whose own text and values are rendered separately; text in blocks is its own too.

    Attributes:
        render: ``render(context, load=None)`` returns the text with ``SLOT`` in place of each value, and the
            values in their order. It raises as ``Template.render`` does.
        pattern: the text with its slots, if it is the same for all data; otherwise None.
        program: its syntax tree.
        texts: its own texts, if they and the values alternate in all data; otherwise None.
        plain_values: returns the values alone, or None if one of them is long or not plain; None if the
            template contains more than lookups.
    """

    render: Callable[..., tuple[str, list[str]]] = field(repr=False)
    pattern: str | None
    program: Program = field(repr=False)
    texts: tuple[Span, ...] | None = field(default=None, repr=False)
    plain_values: Values | None = field(default=None, repr=False)

    def spans(self, context: Any, load: LoadPointer | None = None) -> Sequence[Span]:
        """Return the rendered text as parts that are values and own text in turn, the first one a value.

        It is empty if the template begins with text. Raises the same errors as ``Template.render``.
        """
        pattern, values = self.render(context, load)
        if self.texts is not None:
            made = [Span(value, is_authored=False) for value in values]
            if len(made) < len(self.texts) or not pattern.startswith(SLOT):
                made.insert(0, _NO_VALUE)
            alternating = [_NO_VALUE] * (len(made) + len(self.texts))
            alternating[::2], alternating[1::2] = made, self.texts
            return alternating
        first, *texts = pattern.split(SLOT)
        spans = [_NO_VALUE]
        if first:
            spans.append(Span(first, is_authored=True))
        for value, text in zip(values, texts, strict=True):
            if spans[-1].is_authored:
                spans.append(Span(value, is_authored=False))
            else:
                spans[-1] = Span(spans[-1].text + value, is_authored=False)
            if text:
                spans.append(Span(text, is_authored=True))
        return spans


def compile_slotted_template(source: str, *, block_slots: bool = False) -> SlottedTemplate:
    """Compile a template so that its values can be distinguished from its own text.

    Args:
        source: the template.
        block_slots: whether a block that renders to nothing counts as an empty value.

    Raises:
        ExpressionSyntaxError: as ``compile_template``.
    """
    check_no_slot(source)
    program = parse(source)
    strip_white_space(program)
    write = to_writer(compile_program(program, source, slots=True, block_slots=block_slots))

    def render(context: Any, load: LoadPointer | None = None) -> tuple[str, list[str]]:
        budget = current_budget()
        if budget is None:
            return with_own_budget(render, context, load)
        rendering = Rendering(context, load, budget)
        return _render_all(write, rendering, source), rendering.values

    pattern = None
    if not any(isinstance(statement, Block) for statement in program.body):
        pattern = "".join(
            statement.value if isinstance(statement, Content) else SLOT
            for statement in program.body
            if isinstance(statement, Content | Mustache)
        )
    return SlottedTemplate(render, pattern, program, _alternating_texts(pattern), fast_values(program))


def _alternating_texts(pattern: str | None) -> tuple[Span, ...] | None:
    """Return the texts around the slots of a pattern; None if two slots have no text between them."""
    if pattern is None:
        return None
    first, *rest = pattern.split(SLOT)
    if not all(rest[:-1]):
        return None
    return tuple(Span(text, is_authored=True) for text in (first, *rest) if text)


def _compile(source: str) -> Template:
    check_no_slot(source)
    if "{{" not in source:
        return Template(source, _constant(source), is_static=True, program=Program())
    program = parse(source)
    strip_white_space(program)
    fragment = compile_program(program, source)
    if isinstance(fragment, str):
        return Template(source, _constant(fragment), is_static=True, program=program)
    full = _full_render(fragment, source)
    return Template(source, fast_render(program, full, source) or full, is_static=False, program=program)


_cached = lru_cache(maxsize=CACHE_SIZE)(_compile)


def _constant(text: str) -> Render:
    def render(context: Any, load: LoadPointer | None = None) -> str:  # noqa: ARG001
        return text

    return render


def _full_render(write: Write, source: str) -> Render:
    """Return the function that renders a compiled template and counts the text in the step's budget."""

    def render(context: Any, load: LoadPointer | None = None) -> str:
        budget = current_budget()
        if budget is None:
            return with_own_budget(render, context, load)
        return _render_all(write, Rendering(context, load, budget), source)

    return render


def _render_all(write: Write, rendering: Rendering, source: str) -> str:
    try:
        text = write(Frame(rendering.root, None, None, (), rendering))
        rendering.budget.spend(len(text))
    except WorkLimitError as error:
        raise error.at(f"the template {source}") from None
    return text
