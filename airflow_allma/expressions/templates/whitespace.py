"""White-space stripping: next to a ``~``, and around blocks and comments on lines of their own.

A block's opening, ``{{else}}`` or closing that has a line to itself leaves no empty line. Text is visited
and stripped in the order of Handlebars, because it can be stripped from both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_allma.expressions.templates.tree import (
    Block,
    Comment,
    Content,
    Mustache,
    Program,
    Statement,
    StripFlags,
)

__all__ = ["strip_white_space"]


@dataclass(frozen=True, slots=True)
class _Edges:
    """How a statement affects the text before and after it."""

    strip: StripFlags
    opening_ends_line: bool = False
    closing_begins_line: bool = False
    is_inline: bool = False


def strip_white_space(root: Program) -> None:
    """Strip the text of a whole template in place."""
    _strip_program(root, is_root=True)


def _strip_program(program: Program, *, is_root: bool = False) -> None:
    body = program.body
    for index, statement in enumerate(body):
        if isinstance(statement, Content):
            continue
        edges = _edges_of(statement)
        begins = _line_begins_before(body, index, is_root=is_root)
        ends = _line_ends_after(body, index, is_root=is_root)
        if edges.strip.right:
            _strip_start(body, index + 1, all_white_space=True)
        if edges.strip.left:
            _strip_end(body, index - 1, all_white_space=True)
        if edges.is_inline and begins and ends:
            _strip_start(body, index + 1)
            _strip_end(body, index - 1)
        if isinstance(statement, Block):
            if edges.opening_ends_line and begins:
                _strip_start(_first(statement).body, 0)
                _strip_end(body, index - 1)
            if edges.closing_begins_line and ends:
                _strip_start(body, index + 1)
                last = (statement.inverse or _first(statement)).body
                _strip_end(last, len(last) - 1)


def _first(block: Block) -> Program:
    return block.program or block.inverse or Program()


def _edges_of(statement: Statement) -> _Edges:
    if isinstance(statement, Mustache):
        return _Edges(statement.strip)
    if isinstance(statement, Comment):
        return _Edges(statement.strip, is_inline=True)
    if isinstance(statement, Block):
        return _edges_of_block(statement)
    return _Edges(StripFlags())


def _edges_of_block(block: Block) -> _Edges:
    for part in (block.program, block.inverse):
        if part is not None:
            _strip_program(part)
    program = _first(block)
    inverse = block.inverse if block.program is not None else None
    first_inverse, last_inverse = _ends_of_chain(inverse)
    after_else = first_inverse or program
    edges = _Edges(
        StripFlags(block.opening.left, block.closing.right),
        opening_ends_line=_line_ends_after(program.body, -1),
        closing_begins_line=_line_begins_before(after_else.body, len(after_else.body)),
    )
    if block.opening.right:
        _strip_start(program.body, 0, all_white_space=True)
    if first_inverse is None or last_inverse is None:
        if block.closing.left:
            _strip_end(program.body, len(program.body) - 1, all_white_space=True)
        return edges
    if block.inverse_strip.left:
        _strip_end(program.body, len(program.body) - 1, all_white_space=True)
    if block.inverse_strip.right:
        _strip_start(first_inverse.body, 0, all_white_space=True)
    if block.closing.left:
        _strip_end(last_inverse.body, len(last_inverse.body) - 1, all_white_space=True)
    if _line_begins_before(program.body, len(program.body)) and _line_ends_after(first_inverse.body, -1):
        _strip_end(program.body, len(program.body) - 1)
        _strip_start(first_inverse.body, 0)
    return edges


def _ends_of_chain(inverse: Program | None) -> tuple[Program | None, Program | None]:
    """Return the program right after the first ``{{else if}}``, and the one before the block's closing."""
    if inverse is None or not inverse.is_chained:
        return inverse, inverse
    first, last = inverse, inverse
    link = inverse.body[0]
    if isinstance(link, Block):
        first = _first(link)
    while last.is_chained:
        link = last.body[-1]
        if not isinstance(link, Block):
            break
        last = _first(link)
    return first, last


def _line_begins_before(body: list[Statement], index: int, *, is_root: bool = False) -> bool:
    """Return whether there is only white space between a line's start and ``body[index]``."""
    if index == 0:
        return is_root
    previous = body[index - 1]
    if not isinstance(previous, Content):
        return False
    blank = previous.original[len(previous.original.rstrip()) :]
    at_start = is_root and index == 1
    return "\n" in blank or (at_start and len(blank) == len(previous.original))


def _line_ends_after(body: list[Statement], index: int, *, is_root: bool = False) -> bool:
    """Return whether there is only white space between ``body[index]`` and the line's end."""
    if index + 1 >= len(body):
        return is_root
    following = body[index + 1]
    if not isinstance(following, Content):
        return False
    blank = following.original[: len(following.original) - len(following.original.lstrip())]
    at_end = is_root and index + 2 >= len(body)
    return "\n" in blank or (at_end and len(blank) == len(following.original))


def _strip_start(body: list[Statement], index: int, *, all_white_space: bool = False) -> None:
    """Strip the rest of the line, or all white space, from the start of the text at ``index``."""
    content = body[index] if 0 <= index < len(body) else None
    if not isinstance(content, Content) or (content.is_right_stripped and not all_white_space):
        return
    if all_white_space:
        stripped = content.value.lstrip()
    else:
        stripped = content.value.lstrip(" \t").removeprefix("\r").removeprefix("\n")
    content.is_right_stripped = stripped != content.value
    content.value = stripped


def _strip_end(body: list[Statement], index: int, *, all_white_space: bool = False) -> None:
    """Strip the blanks before a line's first braces, or all white space, from the end of the text."""
    content = body[index] if 0 <= index < len(body) else None
    if not isinstance(content, Content) or (content.is_left_stripped and not all_white_space):
        return
    stripped = content.value.rstrip() if all_white_space else content.value.rstrip(" \t")
    content.is_left_stripped = stripped != content.value
    content.value = stripped
