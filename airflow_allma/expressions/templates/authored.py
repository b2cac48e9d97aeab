"""Templates whose rendering says which characters their author wrote, and which are values."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.expressions.pointer_access import LoadPointer
from airflow_allma.expressions.templates.compiler import compile_program
from airflow_allma.expressions.templates.concat import to_writer
from airflow_allma.expressions.templates.parser import parse
from airflow_allma.expressions.templates.runtime import Frame, Rendering, Write
from airflow_allma.expressions.templates.tree import Block, Content, Program
from airflow_allma.expressions.templates.whitespace import strip_white_space

__all__ = ["AuthoredTemplate", "Span", "compile_authored"]

# Surrounds the author's text in a rendering. No value can contain it, as nobody can guess it.
_MARK: Final = f"\x02{secrets.token_hex(12)}\x02"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a rendered template.

    Attributes:
        text: the rendered characters.
        is_authored: whether they are the template's own text; otherwise they are values.
    """

    text: str
    is_authored: bool


@dataclass(frozen=True, slots=True, eq=False)
class AuthoredTemplate:
    """A compiled template; see ``compile_authored``."""

    source: str
    _write: Write
    _ends_with_text: bool

    def spans(self, context: Any, load: LoadPointer | None = None) -> Sequence[Span]:
        """Return the rendered text as parts, values and the author's text in turn; parts can be empty.

        The text in blocks is the author's, too. Raises the same errors as ``Template.render``.
        """
        rendered = self._write(Frame(context, None, None, (), Rendering(context, load)))
        texts = rendered.split(_MARK)
        if self._ends_with_text and not texts[-1]:
            # Not a value that rendered to nothing: there is none.
            texts.pop()
        return [Span(text, is_authored=bool(number % 2)) for number, text in enumerate(texts)]


def compile_authored(source: str) -> AuthoredTemplate:
    """Compile a Handlebars template so that its rendering tells the author's text from values.

    Raises:
        ExpressionSyntaxError: as ``compile_template``.
    """
    program = parse(source)
    strip_white_space(program)
    _mark(program)
    ends_with_text = bool(program.body) and isinstance(program.body[-1], Content)
    return AuthoredTemplate(source, to_writer(compile_program(program, source)), ends_with_text)


def _mark(program: Program | None) -> None:
    for statement in program.body if program is not None else ():
        if isinstance(statement, Content):
            if statement.value:
                statement.value = f"{_MARK}{statement.value}{_MARK}"
        elif isinstance(statement, Block):
            _mark(statement.program)
            _mark(statement.inverse)
