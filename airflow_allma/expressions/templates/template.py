"""A compiled template, and where it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions.templates.compiler import compile_program
from airflow_allma.expressions.templates.fast_path import Render, direct_render
from airflow_allma.expressions.templates.parser import parse
from airflow_allma.expressions.templates.runtime import Frame, Rendering, Write
from airflow_allma.expressions.templates.whitespace import strip_white_space
from airflow_allma.expressions.values import LoadPointer

__all__ = ["CACHE_SIZE", "Template", "compile_template"]

CACHE_SIZE: Final = 4096
"""Compiled templates that are kept; the one unused for longest goes first."""

CACHED_LENGTH: Final = 20_000
"""Longest template that is kept, in characters: what is larger belongs to the flow that holds it."""


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A compiled template. It never changes: threads may share it.

    Attributes:
        text: the template as it was written.
        render: ``render(context, load=None)`` gives the text. ``context`` is any JSON value, or a Mapping
            with names at the root. ``load`` loads the pointers that the template names, each once in a
            rendering. It raises ExpressionEvaluationError when a pointer has to be loaded and ``load`` is
            None, when the text gets too long, or when a value cannot be written; exceptions of ``load`` pass
            through.
        is_static: whether the text is the same for all data.
    """

    text: str
    render: Render = field(repr=False)
    is_static: bool


def compile_template(text: str) -> Template:
    """The compiled form of a Handlebars template; one of ordinary length is compiled once and cached.

    Raises:
        ExpressionSyntaxError: the text is no template, too long, or nested too deep; or it uses what is not
            supported: partials, decorators, unknown helpers. The error says what to use instead.
    """
    if not isinstance(text, str):
        raise ExpressionSyntaxError(
            f"a template is a text, not {type(text).__name__}; put it in quotes", str(text)
        )
    return _cached(text) if len(text) <= CACHED_LENGTH else _compile(text)


def _compile(text: str) -> Template:
    if "{{" not in text:
        return Template(text, _constant(text), is_static=True)
    program = parse(text)
    strip_white_space(program)
    piece = compile_program(program, text)
    if isinstance(piece, str):
        return Template(text, _constant(piece), is_static=True)
    general = _general(piece)
    return Template(text, direct_render(program, general) or general, is_static=False)


_cached = lru_cache(maxsize=CACHE_SIZE)(_compile)


def _constant(text: str) -> Render:
    def render(context: Any, load: LoadPointer | None = None) -> str:  # noqa: ARG001
        return text

    return render


def _general(write: Write) -> Render:
    def render(context: Any, load: LoadPointer | None = None) -> str:
        return write(Frame(context, None, None, (), Rendering(context, load)))

    return render
