"""The parsing of paths with operators by jsonpath-ng: tokens to segments.

This is the only module that imports jsonpath-ng. Its grammar reads our tokens, and its tree becomes segments.
Its lexer is not used: it rejects names that jsonpath-plus knows (``where``, ``naïve``, ``a b``) and cannot
carry filters that are already parsed. Its evaluator is not used: it does not know undefined, pointers or
``.length``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

from jsonpath_ng import Child, Fields, Index, Root
from jsonpath_ng import Descendants as ParsedDescendants
from jsonpath_ng import Slice as ParsedSlice
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.parser import JsonPathParser

from airflow_allma.expressions.scanner import Scanner, Token
from airflow_allma.expressions.syntax_tree import Descendants, Segment, Slice, Union, Wildcard, make_key

__all__ = ["parse_parts"]

_WILDCARD: Final = ("*",)


class _Parsers(threading.local):
    """One jsonpath-ng parser for each thread: a parser keeps state while it parses."""

    def __init__(self) -> None:
        self.parser: Any = JsonPathParser()


_parsers = _Parsers()


class _Lexer:
    """The lexer that jsonpath-ng's parser reads from. ``position`` is that of the token that it read last."""

    def __init__(self, parts: Sequence[Segment | tuple[Token, ...]]) -> None:
        self.position = 0
        self._parts = parts

    def tokenize(self, source: str) -> Iterator[Token]:  # noqa: ARG002 (jsonpath-ng's signature)
        yield Token("$", "$", 0)
        after_descent = False
        for part in self._parts:
            if not isinstance(part, tuple):
                # The grammar takes a segment that is already parsed for a name.
                yield from (Token("[", "[", 0), Token("ID", part, 0), Token("]", "]", 0))
                after_descent = False
                continue
            if part[0].type == "*" and not after_descent:
                yield Token(".", ".", 0)
            for token in part:
                self.position = token.position
                yield token
            after_descent = part[0].type == "DOUBLEDOT"


def parse_parts(parts: Sequence[Segment | tuple[Token, ...]], scanner: Scanner) -> tuple[Segment, ...]:
    """Parse a path with operators.

    Args:
        parts: one for each segment: the segment itself, or the tokens of an operator.
        scanner: points at the expression, for errors.

    Raises:
        ExpressionSyntaxError: brackets contain neither a slice nor a list, or a slice's step is not positive.
    """
    lexer = _Lexer(parts)
    try:
        tree = _parsers.parser.parse(scanner.source, lexer=lexer)
    except JSONPathError:
        scanner.fail(
            "these brackets contain neither a slice nor a list; write [start:end:step], [0,2] or ['a','b']",
            lexer.position,
        )
    return tuple(
        _segment(node, part[0].position, scanner) if isinstance(part, tuple) else part
        for node, part in zip(_flatten(tree), parts, strict=True)
    )


def _flatten(tree: Any) -> Iterator[Any]:
    """Yield the tree's nodes from left to right; ``Descendants()`` represents the ``..`` between two."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Child):
            pending += (node.right, node.left)
        elif isinstance(node, ParsedDescendants):
            pending += (node.right, Descendants(), node.left)
        elif not isinstance(node, Root):
            yield node


def _segment(node: Any, position: int, scanner: Scanner) -> Segment:
    match node:
        case Descendants():
            return node
        case Fields() if node.fields != _WILDCARD:
            keys: Any = node.fields  # the values of our ID tokens
            return Union(keys)
        case Index():
            return Union(tuple(make_key(str(index)) for index in node.indices))
        case ParsedSlice():
            step = 1 if node.step is None else node.step
            if step < 1:
                scanner.fail(
                    "the step of a slice must be at least 1; sort or reverse the list in a "
                    "transformation step",
                    position,
                )
            return Slice(node.start, node.end, step)
        case _:
            # A class of its own in new releases of jsonpath-ng, a field with this name in old ones.
            return Wildcard()
