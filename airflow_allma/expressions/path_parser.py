"""The parser of JSONPaths: characters to segments.

The parser splits a path into parts, locates its errors, and parses the parts that jsonpath-plus reads in its
own way: names, filters and dynamic keys. A path with nothing else is complete then. A path with
``*``, ``..``, a slice or a list is parsed by jsonpath-ng's grammar, see ``path_grammar``.
"""

from __future__ import annotations

import re
from typing import Final

from airflow_allma.expressions.filter_parser import FilterParser
from airflow_allma.expressions.scanner import QUOTES, Scanner, Token
from airflow_allma.expressions.syntax_tree import DynamicKey, Filter, Query, Segment, make_key

__all__ = ["CONDITION_STOPS", "PATH_STOPS", "parse_segments"]

Part = Segment | tuple[Token, ...]
"""One segment, or its tokens if it is an operator that the grammar parses."""

_SIGNED_INDEX: Final = re.compile(r"-?[0-9]+\Z")
_SLICE_OR_LIST: Final = re.compile(r"[-0-9,: ]{1,1000}\Z")
_NUMBER_OR_SEPARATOR: Final = re.compile(r"-?[0-9]+|\S")

_STRUCTURE: Final = frozenset(".[")
_DYNAMIC_STOPS: Final = frozenset("] \t")
# These end a name and mean something else in jsonpath-plus, or nothing: a name with one of them needs quotes.
_FORBIDDEN: Final = frozenset("]()'\"*^~?,:;<>=!|&`\\{}\n\r")

PATH_STOPS: Final = frozenset[str]()
"""A path that is the whole expression: only the end of the string ends it."""

CONDITION_STOPS: Final = frozenset(" \t\n\r\f\v<>=!")
"""The characters that end a path inside a condition."""


def parse_segments(scanner: Scanner, stops: frozenset[str]) -> tuple[Segment, ...]:
    """Parse the segments after a ``$`` or ``@`` that was just consumed, up to a character in ``stops``.

    Raises:
        ExpressionSyntaxError: this is not a JSONPath, or it has an operator that is not supported.
    """
    parts = _lex(scanner, stops)
    segments = tuple(part for part in parts if not isinstance(part, tuple))
    if len(segments) == len(parts):
        return segments
    # Imported late: only paths with operators pay for jsonpath-ng.
    from airflow_allma.expressions.path_grammar import parse_parts

    return parse_parts(parts, scanner)


def _lex(scanner: Scanner, stops: frozenset[str]) -> list[Part]:
    parts: list[Part] = []
    # "$." alone is the root, like "$".
    if scanner.take("."):
        if scanner.at_end or scanner.current in stops:
            return []
        scanner.position -= 1
    while not scanner.at_end and scanner.current not in stops:
        start = scanner.position
        if scanner.take(".."):
            parts.append((Token("DOUBLEDOT", "..", start),))
            parts.append(_bracket(scanner) if scanner.take("[") else _name(scanner, stops))
        elif scanner.take("."):
            # jsonpath-plus accepts a dot before a bracket as well.
            parts.append(_bracket(scanner) if scanner.take("[") else _name(scanner, stops))
        elif scanner.take("["):
            parts.append(_bracket(scanner))
        else:
            scanner.fail("a path continues with '.name' or '[...]' here")
    return parts


def _name(scanner: Scanner, stops: frozenset[str]) -> Part:
    start = scanner.position
    if scanner.take("*"):
        _expect_segment_end(scanner, stops)
        return (Token("*", "*", start),)
    name = scanner.take_until(_STRUCTURE | stops)
    if not name:
        scanner.fail("a name is missing after the dot; remove the dot or write the name")
    _check_name(scanner, name, start)
    return make_key(name)


def _expect_segment_end(scanner: Scanner, stops: frozenset[str]) -> None:
    if not scanner.at_end and scanner.current not in _STRUCTURE and scanner.current not in stops:
        scanner.fail("'*' must be a segment of its own; put a name that contains a star in quotes: ['a*']")


def _check_name(scanner: Scanner, name: str, start: int) -> None:
    for offset, character in enumerate(name):
        if character in _FORBIDDEN:
            scanner.fail(
                f"{character!r} is not allowed in a name without quotes; "
                "write the name as ['...'], or a comparison in a condition or filter",
                start + offset,
            )


def _bracket(scanner: Scanner) -> Part:
    """Return the part whose opening bracket was just consumed."""
    opening = scanner.position - 1
    scanner.nest()
    scanner.skip_spaces()
    part = _bracket_content(scanner, opening)
    scanner.skip_spaces()
    if not scanner.take("]"):
        if scanner.at_end:
            scanner.fail("the bracket that opens here is not closed; add ']'", opening)
        scanner.fail("']' is expected here")
    scanner.unnest()
    return part


def _bracket_content(scanner: Scanner, opening: int) -> Part:
    current = scanner.current
    start = scanner.position
    if current and current in QUOTES:
        return _quoted(scanner)
    if scanner.take("?"):
        return Filter(FilterParser(scanner, parse_segments).parse())
    if scanner.take("$"):
        segments = parse_segments(scanner, _DYNAMIC_STOPS)
        return DynamicKey(Query(segments), scanner.source[start : scanner.position])
    if scanner.take("*"):
        return (Token("*", "*", start),)
    if current == "(":
        scanner.fail(
            "script expressions in brackets are not supported; write [-1:] for the last item, "
            "or [$.path] for a computed key"
        )
    content = scanner.take_until(frozenset("]["))
    if scanner.current != "]":
        scanner.fail("the bracket that opens here is not closed; add ']'", opening)
    stripped = content.strip()
    if not stripped:
        scanner.fail("the brackets are empty; write an index, a quoted name, '*' or a filter", opening)
    if _SIGNED_INDEX.match(stripped):
        return make_key(stripped)
    if _SLICE_OR_LIST.match(stripped):
        return _slice_or_list(stripped, start)
    if "," in stripped:
        scanner.fail("several names in one pair of brackets must all be quoted: ['a','b']", start)
    if "@" in stripped:
        scanner.fail("'@' is only allowed in filters; write [?(...)]", start)
    _check_name(scanner, stripped, start + content.index(stripped))
    return make_key(stripped)


def _quoted(scanner: Scanner) -> Part:
    """Return the part for a quoted name, or for several names separated by commas."""
    start = scanner.position
    key = make_key(scanner.take_quoted())
    scanner.skip_spaces()
    if scanner.current != ",":
        return key
    tokens = [Token("[", "[", start), Token("ID", key, start)]
    while scanner.take(","):
        scanner.skip_spaces()
        if scanner.at_end or scanner.current not in QUOTES:
            scanner.fail("either all names in one pair of brackets are quoted, or none")
        tokens += Token(",", ",", start), Token("ID", make_key(scanner.take_quoted()), start)
        scanner.skip_spaces()
    return (*tokens, Token("]", "]", start))


def _slice_or_list(content: str, start: int) -> Part:
    """Return the part for ``1:3`` or ``0,2``. Its tokens all point at the start of the brackets' content."""
    tokens = [_number_or_separator(match[0], start) for match in _NUMBER_OR_SEPARATOR.finditer(content)]
    return (Token("[", "[", start), *tokens, Token("]", "]", start))


def _number_or_separator(source: str, start: int) -> Token:
    try:
        return Token("NUMBER", int(source), start)
    except ValueError:
        # A separator; or a stray "-" or a number of thousands of digits, which the grammar rejects.
        return Token(source, source, start)
