r"""Regular expressions of JavaScript, translated to Python's dialect.

The two differ in the syntax of named groups and of some escapes, and in what ``\d``, ``\s``, ``.`` and ``$``
match. What Python cannot do is reported with its position.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["JsRegexError", "UntranslatableError", "to_python"]

_SPACES: Final = r"\t-\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_NO_SPACES: Final = (
    r"\x00-\x08\x0e-\x1f!-\x9f\xa1-\u167f\u1681-\u1fff\u200b-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u2fff"
    r"\u3001-\ufefe\uff00-\U0010ffff"
)
_SETS: Final = {
    "d": "0-9",
    "D": r"\x00-/:-\U0010ffff",
    "w": "0-9A-Z_a-z",
    "W": r"\x00-/:-@\[-\^`{-\U0010ffff",
    "s": _SPACES,
    "S": _NO_SPACES,
}
_ANY: Final = r"[^\n\r\u2028\u2029]"
_CONTROLS: Final = frozenset("fnrtv")
_NAME: Final = re.compile(r"<([^>]*)>")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUANTIFIER: Final = re.compile(r"\{\d+(?:,\d*)?\}")
_HEX: Final = re.compile(r"x([0-9A-Fa-f]{2})")
_UNICODE: Final = re.compile(r"u(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{4}))")
_PAIR: Final = re.compile(r"u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)
_OCTAL: Final = re.compile(r"0(?![0-9])")
_REFERENCE: Final = re.compile(r"[1-9][0-9]?")
_INLINE_FLAGS: Final = re.compile(r"\?[a-zA-Z]*(?:-[a-zA-Z]+)?[:)]")
_SAME_FLAGS: Final = frozenset({"?:", "?i:", "?-i:"})


class JsRegexError(ValueError):
    """A pattern is not valid in JavaScript.

    Attributes:
        reason: why, the beginning of a sentence.
        position: where, counted in characters from 0.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


class UntranslatableError(JsRegexError):
    """A pattern is valid in JavaScript, but Python has nothing for it."""


def to_python(pattern: str) -> str:
    """Return a pattern that matches in Python what the given one matches in JavaScript, with the flag ``u``.

    The pattern is not checked further: what has the same syntax in both is passed on.

    Raises:
        JsRegexError: JavaScript does not accept the pattern.
        UntranslatableError: Python has nothing for a part of it.
    """
    return _Translation(pattern).run()


@dataclass(slots=True)
class _Ranges:
    """Tells whether a `-` in a class makes a range."""

    may_continue: bool = False
    is_end: bool = False

    def add(self, *, is_set: bool = False) -> None:
        self.may_continue = not (self.is_end or is_set)
        self.is_end = False

    def go_on(self) -> None:
        self.may_continue, self.is_end = False, True


@dataclass(slots=True)
class _Translation:
    pattern: str
    position: int = 0

    def run(self) -> str:
        parts: list[str] = []
        while self.position < len(self.pattern):
            char = self.pattern[self.position]
            parts.append(_PARTS[char](self) if char in _PARTS else self.take(1))
        return "".join(parts)

    def take(self, count: int) -> str:
        taken = self.pattern[self.position : self.position + count]
        self.position += count
        return taken

    def match(self, expression: re.Pattern[str], offset: int = 0) -> re.Match[str] | None:
        return expression.match(self.pattern, self.position + offset)

    def dot(self) -> str:
        self.take(1)
        return _ANY

    def end(self) -> str:
        self.take(1)
        return r"\Z"

    def brace(self) -> str:
        # `{,5}` and a brace alone are text in JavaScript.
        quantifier = self.match(_QUANTIFIER)
        return self.take(len(quantifier[0])) if quantifier else "\\" + self.take(1)

    def group(self) -> str:
        following = self.pattern[self.position + 1 : self.position + 4]
        if following.startswith("?<") and following[2:] not in {"=", "!"}:
            return self.named_group()
        if following.startswith(("?P", "?#", "?>", "?(")):
            raise JsRegexError(f"JavaScript has no `({following[:2]}`", self.position)
        flags = self.match(_INLINE_FLAGS, 1)
        if flags and flags[0].endswith(")"):
            raise JsRegexError(f"JavaScript has no flags for a whole pattern, `({flags[0]}`", self.position)
        if flags and flags[0] not in _SAME_FLAGS:
            raise UntranslatableError(f"the flags `({flags[0]}` are not supported", self.position)
        return self.take(1)

    def named_group(self) -> str:
        name = self.match(_NAME, 2)
        if name is None or not name[1]:
            raise JsRegexError("a group's name ends with `>`", self.position)
        if not _PLAIN_NAME.fullmatch(name[1]):
            raise UntranslatableError(
                "a group's name can only have letters, digits and `_`", self.position + 3
            )
        self.take(2 + len(name[0]))
        return f"(?P<{name[1]}>"

    def escape(self) -> str:
        following = self.pattern[self.position + 1 : self.position + 2]
        if following in {"b", "B"}:
            self.take(2)
            return rf"(?a:\{following})"
        if following == "k" and (name := self.match(_NAME, 2)):
            self.take(2 + len(name[0]))
            return f"(?P={name[1]})"
        if reference := self.match(_REFERENCE, 1):
            return self.take(1 + len(reference[0]))
        characters = self.characters()
        if following not in _SETS:
            return characters
        return f"[{characters}]" if following.islower() else f"[^{_SETS[following.lower()]}]"

    def characters(self) -> str:
        """Take an escape that stands for characters; return them as in a class."""
        start = self.position
        self.take(1)
        char = self.pattern[self.position : self.position + 1]
        if not char:
            raise JsRegexError(r"a `\` at the end escapes nothing", start)
        if char in _SETS:
            self.take(1)
            return _SETS[char]
        if char in {"p", "P"} and self.pattern[self.position + 1 : self.position + 2] == "{":
            raise UntranslatableError(rf"Unicode properties, `\{char}{{...}}`, are not supported", start)
        if char in _CONTROLS:
            return "\\" + self.take(1)
        if char == "c" and self.pattern[self.position + 1 : self.position + 2].isalpha():
            return rf"\x{ord(self.take(2)[1]) % 32:02x}"
        return self.code_point() or re.escape(self.take(1))

    def code_point(self) -> str:
        if hexadecimal := self.match(_HEX):
            return "\\" + self.take(len(hexadecimal[0]))
        if pair := self.match(_PAIR):
            self.take(len(pair[0]))
            high, low = int(pair[1], 16), int(pair[2], 16)
            return rf"\U{0x10000 + ((high - 0xD800) << 10) + low - 0xDC00:08x}"
        if code := self.match(_UNICODE):
            number = int(code[1] or code[2], 16)
            if number > 0x10FFFF:
                raise JsRegexError("a code point is at most 10FFFF", self.position)
            self.take(len(code[0]))
            return rf"\U{number:08x}"
        if self.match(_OCTAL):
            self.take(1)
            return r"\x00"
        return ""

    def character_class(self) -> str:
        start = self.position
        opening = self.take(2 if self.pattern.startswith("[^", start) else 1)
        parts: list[str] = []
        ranges = _Ranges()
        while not self.pattern.startswith("]", self.position):
            char = self.pattern[self.position : self.position + 1]
            if not char:
                raise JsRegexError("this `[` is not closed", start)
            if char == "-" and ranges.may_continue and not self.pattern.startswith("-]", self.position):
                self.take(1)
                parts.append("-")
                ranges.go_on()
            elif self.pattern.startswith(r"\b", self.position):
                self.take(2)
                parts.append(r"\x08")
                ranges.add()
            elif char == "\\":
                is_set = self.pattern[self.position + 1 : self.position + 2] in _SETS
                parts.append(self.characters())
                ranges.add(is_set=is_set)
            else:
                # Python reserves some of them for operations on sets.
                parts.append("\\-" if char == "-" else re.escape(char))
                self.take(1)
                ranges.add()
        self.take(1)
        if not parts:
            # `[]` matches nothing, and `[^]` everything.
            return "(?!)" if opening == "[" else r"[\x00-\U0010ffff]"
        return f"{opening}{''.join(parts)}]"


_PARTS: Final[dict[str, Callable[[_Translation], str]]] = {
    ".": _Translation.dot,
    "$": _Translation.end,
    "{": _Translation.brace,
    "(": _Translation.group,
    "\\": _Translation.escape,
    "[": _Translation.character_class,
}
