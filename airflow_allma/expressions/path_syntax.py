"""Reads JSONPath text into segments.

Names, quoted names, indices, dynamic segments and filters are read here; lists of names or indices
and slices are given to jsonpath-ng's parser, one bracket at a time and only when they consist of quoted
names, or of digits, commas and colons. Its evaluator is not used: it knows neither undefined, nor pointers,
nor ``.length``.
"""

from __future__ import annotations

import re
from typing import Any, Final

from airflow_allma.expressions.filter_syntax import read_filter
from airflow_allma.expressions.scanner import QUOTES, Scanner
from airflow_allma.expressions.segments import (
    Descend,
    Dynamic,
    Each,
    Filter,
    Key,
    Query,
    Segment,
    Slice,
    Union,
)

__all__ = ["CONDITION_STOPS", "MAX_INDEX", "PATH_STOPS", "key_segment", "read_path"]

MAX_INDEX: Final = 10**9
"""Positions from here on are names of object members, not positions in a list."""

_INDEX: Final = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z")
_SIGNED_INDEX: Final = re.compile(r"-?[0-9]+\Z")
_SELECTORS: Final = re.compile(r"[-0-9,: ]{1,1000}\Z")

_STRUCTURE: Final = frozenset(".[")
_DYNAMIC_STOPS: Final = frozenset("] \t")
# These end a name and mean something else in jsonpath-plus, or nothing: a name that has them needs quotes.
_FORBIDDEN: Final = frozenset("]()'\"*^~?,:;<>=!|&`\\{}\n\r")

PATH_STOPS: Final = frozenset[str]()
"""A path that is the whole expression: only its end ends it."""

CONDITION_STOPS: Final = frozenset(" \t\n\r\f\v<>=!")
"""What ends a path within a condition."""


def key_segment(name: str) -> Key:
    """The segment that takes the member ``name`` of an object, or that item of a list."""
    return Key(name, int(name) if _INDEX.match(name) else -1)


def read_path(scanner: Scanner, stops: frozenset[str]) -> tuple[Segment, ...]:
    """The segments after a ``$`` or ``@`` that was just read, up to a character of ``stops``.

    Raises:
        ExpressionSyntaxError: no JSONPath, or one with an operator that is not supported.
    """
    segments: list[Segment] = []
    # "$." alone is the root, like "$".
    if scanner.take("."):
        if scanner.at_end or scanner.current in stops:
            return ()
        scanner.position -= 1
    while not scanner.at_end and scanner.current not in stops:
        if scanner.take(".."):
            segments.append(Descend())
            segments.append(_bracket(scanner) if scanner.take("[") else _name(scanner, stops))
        elif scanner.take("."):
            # jsonpath-plus takes a dot before a bracket as well
            segments.append(_bracket(scanner) if scanner.take("[") else _name(scanner, stops))
        elif scanner.take("["):
            segments.append(_bracket(scanner))
        else:
            scanner.fail("a path goes on with '.name' or '[...]' here")
    return tuple(segments)


def _name(scanner: Scanner, stops: frozenset[str]) -> Segment:
    if scanner.take("*"):
        _expect_segment_end(scanner, stops)
        return Each()
    start = scanner.position
    name = scanner.take_until(_STRUCTURE | stops)
    if not name:
        scanner.fail("a name is missing after the dot; remove the dot or write the name")
    _check_name(scanner, name, start)
    return key_segment(name)


def _expect_segment_end(scanner: Scanner, stops: frozenset[str]) -> None:
    if not scanner.at_end and scanner.current not in _STRUCTURE and scanner.current not in stops:
        scanner.fail("'*' stands alone; put a name that has a star in quotes: ['a*']")


def _check_name(scanner: Scanner, name: str, start: int) -> None:
    for offset, character in enumerate(name):
        if character in _FORBIDDEN:
            scanner.fail(
                f"{character!r} cannot stand in a name without quotes; "
                "write the name as ['...'], or a comparison in a condition or filter",
                start + offset,
            )


def _bracket(scanner: Scanner) -> Segment:
    """One segment whose opening bracket was just read."""
    opened = scanner.position - 1
    scanner.nest()
    scanner.skip_spaces()
    segment = _bracket_content(scanner, opened)
    scanner.skip_spaces()
    if not scanner.take("]"):
        if scanner.at_end:
            scanner.fail("the bracket that opens here is not closed; add ']'", opened)
        scanner.fail("']' is expected here")
    scanner.unnest()
    return segment


def _bracket_content(scanner: Scanner, opened: int) -> Segment:
    current = scanner.current
    if current and current in QUOTES:
        return _quoted(scanner)
    if scanner.take("?"):
        return Filter(read_filter(scanner, read_path))
    if current == "$":
        start = scanner.position
        scanner.position += 1
        segments = read_path(scanner, _DYNAMIC_STOPS)
        return Dynamic(Query(segments), scanner.text[start : scanner.position])
    if scanner.take("*"):
        return Each()
    if current == "(":
        scanner.fail(
            "script expressions in brackets are not supported; write [-1:] for the last item, "
            "or [$.path] for a computed key"
        )
    start = scanner.position
    content = scanner.take_until(frozenset("]["))
    if scanner.current != "]":
        scanner.fail("the bracket that opens here is not closed; add ']'", opened)
    stripped = content.strip()
    if not stripped:
        scanner.fail("the brackets are empty; write an index, a quoted name, '*' or a filter", opened)
    if _SIGNED_INDEX.match(stripped):
        return key_segment(stripped)
    if _SELECTORS.match(stripped):
        return _parsed_by_library(scanner, stripped, start)
    if "," in stripped:
        scanner.fail("several names in one pair of brackets are all quoted: ['a','b']", start)
    if "@" in stripped:
        scanner.fail("'@' is known in filters only; write [?(...)]", start)
    _check_name(scanner, stripped, start + content.index(stripped))
    return key_segment(stripped)


def _quoted(scanner: Scanner) -> Segment:
    """A quoted name, or several with commas between."""
    start = scanner.position
    names = [scanner.take_quoted()]
    scanner.skip_spaces()
    while scanner.take(","):
        scanner.skip_spaces()
        if scanner.at_end or scanner.current not in QUOTES:
            scanner.fail("either all or none of the names in one pair of brackets are quoted")
        names.append(scanner.take_quoted())
        scanner.skip_spaces()
    if len(names) == 1:
        return key_segment(names[0])
    quoted = [name.replace("\\", "\\\\").replace("'", "\\'") for name in names]
    return _parsed_by_library(scanner, ",".join(f"'{name}'" for name in quoted), start)


def _parsed_by_library(scanner: Scanner, content: str, start: int) -> Segment:
    """What jsonpath-ng reads in ``[content]``."""
    # Imported on first use: only paths with slices or lists of names pay for it.
    from jsonpath_ng import Fields
    from jsonpath_ng import Slice as ParsedSlice
    from jsonpath_ng.exceptions import JSONPathError
    from jsonpath_ng.parser import parse

    try:
        tree: Any = parse(f"$[{content}]")
    except (JSONPathError, ValueError) as error:
        scanner.fail(f"[{content}] is neither a slice nor a list of indices or names ({error})", start)
    selector = tree.right
    if isinstance(selector, ParsedSlice):
        step = 1 if selector.step is None else selector.step
        if step < 1:
            scanner.fail("the step of a slice is 1 or more; sort or reverse in a transformation step", start)
        return Slice(selector.start, selector.end, step)
    names = selector.fields if isinstance(selector, Fields) else selector.indices
    return Union(tuple(key_segment(str(name)) for name in names))
