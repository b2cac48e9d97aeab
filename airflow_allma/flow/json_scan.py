"""The position of each value in a JSON document, and what exactly is wrong with one that is not JSON.

The fast decoder reports little about either, so this scanner reads the source a second time, and only when
there is something to report.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from airflow_allma.flow.diagnostics import Path

__all__ = ["MAX_DEPTH", "JsonNode", "JsonScan", "JsonSyntaxError", "line_and_column", "scan"]

MAX_DEPTH = 100
"""Levels of objects and lists; far more than any flow needs, far less than Python's stack allows."""

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?=[,\]} \t\n\r])")
_STRING_PART = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_WORD = re.compile(r"[^\s,:\[\]{}\"]+")
_SHORT_NUMBER = 300
_LITERALS = ("true", "false", "null")

# Words of other languages that people write, and what to write instead.
_FOREIGN_WORDS = {
    "True": "write true in lower case",
    "False": "write false in lower case",
    "None": "write null",
    "undefined": "write null, or leave the field out",
    "NaN": "JSON has no NaN; write null or a number",
    "Infinity": "JSON has no Infinity; write null or a number",
    "-Infinity": "JSON has no Infinity; write null or a number",
}


class JsonSyntaxError(ValueError):
    """A string is not JSON.

    Attributes:
        reason: what is wrong and what was expected.
        offset: its position in the source, counted in characters from 0.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


@dataclass(slots=True)
class JsonNode:
    """The position of a value: ``source[start:end]``.

    Attributes:
        start: offset of its first character.
        end: offset after its last character.
        members: of an object: key -> (offset of the key, value); the last of a repeated key, as decoders do.
        elements: of a list: its values.
    """

    start: int
    end: int = 0
    # A file of small values has millions of nodes: those without members share one empty dict.
    members: dict[str, tuple[int, JsonNode]] = field(default_factory=lambda: _NO_MEMBERS)
    elements: list[JsonNode] = field(default_factory=lambda: _NO_ELEMENTS)


_NO_MEMBERS: Final[dict[str, tuple[int, JsonNode]]] = {}
_NO_ELEMENTS: Final[list[JsonNode]] = []


@dataclass(slots=True)
class JsonScan:
    """A whole document.

    Attributes:
        root: the outermost value.
        repeated: keys that occur again in their object: (path, offset, offset of the first occurrence).
    """

    root: JsonNode
    repeated: list[tuple[Path, int, int]]

    def offset(self, path: Path, *, at_key: bool = False) -> int:
        """Return where the value at a path begins, or the deepest value on the way that exists.

        A key ``a.b`` that does not exist is ``b`` in the object ``a``: see ``normalize.dotted_mappings``.
        """
        node, offset = self.root, self.root.start
        remaining = list(reversed(path))
        while remaining:
            segment = remaining.pop()
            if isinstance(segment, str) and segment not in node.members:
                outer = next((key for key in node.members if segment.startswith(f"{key}.")), None)
                if outer is not None:
                    remaining.append(segment[len(outer) + 1 :])
                    segment = outer
            if isinstance(segment, str) and segment in node.members:
                key_offset, node = node.members[segment]
                offset = key_offset if at_key else node.start
            elif isinstance(segment, int) and 0 <= segment < len(node.elements):
                node = node.elements[segment]
                offset = node.start
            else:
                return node.start
        return offset


def line_and_column(source: str, offset: int) -> tuple[int, int]:
    """Return line and column of an offset, both counted from 1; the column in characters."""
    return source.count("\n", 0, offset) + 1, offset - source.rfind("\n", 0, offset)


def scan(source: str) -> JsonScan:
    """Find the position of every value in a JSON document.

    Raises:
        JsonSyntaxError: the source is not JSON, or is nested deeper than ``MAX_DEPTH``.
    """
    scanner = _Scanner(source)
    return JsonScan(scanner.document(), scanner.repeated)


_Member = Callable[[JsonNode], None]


class _Scanner:
    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.path: list[str | int] = []
        self.repeated: list[tuple[Path, int, int]] = []

    def document(self) -> JsonNode:
        self.skip_space()
        if self.at == len(self.source):
            raise JsonSyntaxError("the file is empty; a flow is a JSON object, { ... }", self.at)
        root = self.value()
        self.skip_space()
        if self.at < len(self.source):
            self.fail("the document ends before this; remove what follows")
        return root

    def skip_space(self) -> None:
        self.at = self.end_of(_SPACE)

    def end_of(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.source, self.at)
        return match.end() if match else self.at

    def next_char(self) -> str:
        return self.source[self.at : self.at + 1]

    def fail(self, reason: str) -> NoReturn:
        if self.source.startswith(("//", "/*", "#"), self.at):
            reason = "JSON has no comments; remove this one"
        elif self.at >= len(self.source):
            reason = f"the file ends too early: {reason}"
        raise JsonSyntaxError(reason, self.at)

    def value(self) -> JsonNode:
        char = self.next_char()
        if char and char in "{[":
            return self.container(char)
        node = JsonNode(self.at)
        if char == '"':
            self.string()
        elif char and char in "-0123456789":
            self.number()
        else:
            self.literal()
        node.end = self.at
        return node

    def container(self, opening: str) -> JsonNode:
        if len(self.path) >= MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels; make the structure flatter")
        node = JsonNode(self.at, 0, {}, [])
        closing, what, member = (
            ("}", "object", self.member) if opening == "{" else ("]", "list", self.element)
        )
        self.at += 1
        self.skip_space()
        if self.next_char() != closing:
            self.members(node, closing, what, member)
        self.at += 1
        node.end = self.at
        return node

    def members(self, node: JsonNode, closing: str, what: str, member: _Member) -> None:
        while True:
            member(node)
            self.skip_space()
            char = self.next_char()
            if char == closing:
                return
            if char != ",":
                self.fail(f"expected , and more of the {what}, or {closing} at its end")
            comma = self.at
            self.at += 1
            self.skip_space()
            if self.next_char() == closing:
                raise JsonSyntaxError(f"a comma is not allowed before {closing}; remove it", comma)

    def member(self, node: JsonNode) -> None:
        key_at = self.at
        if self.next_char() != '"':
            self.fail('expected a key in double quotes, as in "stepType": ...')
        key = self.string()
        self.skip_space()
        if self.next_char() != ":":
            self.fail("expected : between a key and its value")
        self.at += 1
        self.skip_space()
        self.path.append(key)
        if key in node.members:
            self.repeated.append((tuple(self.path), key_at, node.members[key][0]))
        node.members[key] = (key_at, self.value())
        self.path.pop()

    def element(self, node: JsonNode) -> None:
        self.path.append(len(node.elements))
        node.elements.append(self.value())
        self.path.pop()

    def string(self) -> str:
        start = self.at
        self.at += 1
        while True:
            self.at = self.end_of(_STRING_PART)
            char = self.next_char()
            if char == '"':
                self.at += 1
                return self.decoded(start)
            if char == "\\":
                end = self.end_of(_ESCAPE)
                if end == self.at:
                    self.fail(
                        'unknown escape; write \\\\ for a backslash, \\n for a new line, \\" for a quote'
                    )
                self.at = end
            elif char in {"\n", "\r"}:
                self.fail('a string must end with " on its line; write \\n for a line break inside it')
            elif char:
                self.fail(f"write this control character as \\u{ord(char):04x}")
            else:
                raise JsonSyntaxError('the file ends inside this string; its closing " is missing', start)

    def decoded(self, start: int) -> str:
        decoded: str = json.loads(self.source[start : self.at])
        if any("\ud800" <= char <= "\udfff" for char in decoded):
            raise JsonSyntaxError("this string contains half of a surrogate pair (\\ud800 to \\udfff)", start)
        return decoded

    def number(self) -> None:
        # Most numbers are plain integers; a file can contain a million of them.
        if plain := _WHOLE_NUMBER.match(self.source, self.at):
            self.at = plain.end()
            return
        end = self.end_of(_NUMBER)
        word_end = self.end_of(_WORD)
        if end != word_end or end == self.at:
            word = self.source[self.at : word_end]
            self.fail(
                _FOREIGN_WORDS.get(
                    word, "not a JSON number; write digits as in -12.5e3, without a leading 0 or +"
                )
            )
        digits = self.source[self.at : end]
        # Most numbers are short, without an exponent, and so never too large.
        if (len(digits) > _SHORT_NUMBER or "e" in digits.lower()) and math.isinf(float(digits)):
            self.fail("this number is too large; write it as a string if all its digits count")
        self.at = end

    def literal(self) -> None:
        word = self.source[self.at : self.end_of(_WORD)]
        if word not in _LITERALS:
            self.fail(_value_expected(word))
        self.at += len(word)


def _value_expected(word: str) -> str:
    if word in _FOREIGN_WORDS:
        return _FOREIGN_WORDS[word]
    if word.startswith("'"):
        return "strings need double quotes, not single ones"
    lowered = word.casefold()
    if lowered in _LITERALS:
        return f"write {lowered} in lower case"
    return "expected a value: an object, a list, a string in double quotes, a number, true, false or null"
