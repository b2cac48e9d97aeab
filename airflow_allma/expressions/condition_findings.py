"""Finds the parts of conditions that are false for all data."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final

from airflow_allma.expressions.conditions import parse_atoms
from airflow_allma.expressions.filter_parser import LITERAL_WORDS, NUMBER_PATTERN
from airflow_allma.expressions.scanner import QUOTES
from airflow_allma.expressions.syntax_tree import Or

__all__ = ["never_true"]

_OPERATORS: Final = "`==`, `!=`, `===`, `!==`, `>`, `<`, `>=` and `<=`"
_TYPOGRAPHIC: Final = frozenset(
    map(
        unicodedata.lookup,
        (
            "LEFT SINGLE QUOTATION MARK",
            "RIGHT SINGLE QUOTATION MARK",
            "LEFT DOUBLE QUOTATION MARK",
            "RIGHT DOUBLE QUOTATION MARK",
            "DOUBLE LOW-9 QUOTATION MARK",
        ),
    )
)
_CONNECTORS: Final = {"and": "&&", "or": "||"}
_CONNECTED: Final = re.compile(r"\s(and|or)\s", re.IGNORECASE)
_COMPARED: Final = re.compile(r"[<>=!]=?=?")
_AFTER_PATH: Final = re.compile(
    r"\$(?:\['[^']*'\]|\[\"[^\"]*\"\]|\[[^\]]*\]|[^\s<>=!~&|\[])*\s*(.*)", re.DOTALL
)
_OPERATOR: Final = re.compile(r"[<>=!~&|*+/%^?-]+|\w+")
_NAME: Final = re.compile(r"[A-Za-z_][\w.]*")
_LENGTH: Final = re.compile(r"(?:len|length|size|count)\s*\(\s*(\$[^\s()]*)\s*\)", re.IGNORECASE)
_OTHER_OPERATORS: Final = {
    "&": "&&",
    "|": "||",
    "<>": "!=",
    "=<": "<=",
    "=>": ">=",
    "eq": "==",
    "equals": "==",
    "ge": ">=",
    "gt": ">",
    "is": "==",
    "le": "<=",
    "lt": "<",
    "ne": "!=",
}
_RIGHT_SIDE: Final = re.compile(r"(===?|!==?|>=?|<=?|=)(?![<>=!~])\s*(.*)", re.DOTALL)


def never_true(source: str) -> Iterator[tuple[str, str]]:
    """Yield each part of a condition that is false for all data, and why, with what to write.

    Raises:
        ExpressionSyntaxError: this is not a condition.
    """
    for atom, predicate in parse_atoms(source):
        if predicate == Or(()):
            yield atom, _reason(atom)


def _reason(atom: str) -> str:
    for rule in _RULES:
        if reason := rule(atom):
            return reason
    return f"a comparison is a path, one of {_OPERATORS}, and a literal or a path"


def _empty(atom: str) -> str | None:
    return None if atom else "nothing is written here; write a path, or remove `&&` or `||`"


def _template(atom: str) -> str | None:
    if not atom.startswith("{{"):
        return None
    return "conditions are not templates; write a path, such as `$.order.total > 100`"


def _literal_first(atom: str) -> str | None:
    word = re.split(r"[\s<>=!]", atom, maxsplit=1)[0]
    if atom[0] not in QUOTES and word not in LITERAL_WORDS and not NUMBER_PATTERN.fullmatch(word):
        return None
    if _COMPARED.search(atom) and "$" in atom:
        return "a literal cannot be on the left; begin with the path, such as `$.total > 5`"
    return "it does not begin with a path; for a step that always follows, use `defaultNextStepInstanceId`"


def _negation(atom: str) -> str | None:
    if not re.match(r"not\b", atom, re.IGNORECASE):
        return None
    return "`not` is not an operator; write `$.done == false`"


def _no_path(atom: str) -> str | None:
    if atom.startswith("$"):
        return None
    if atom.startswith("@"):
        return "`@` has a meaning only in filters; begin with `$.`"
    if atom.lower() in {"default", "else", "otherwise"}:
        return (
            "it does not begin with a path; for a step that always follows, use `defaultNextStepInstanceId`"
        )
    if call := _LENGTH.match(atom):
        return f"there are no functions; write `{call[1]}.length`"
    name = _NAME.match(atom)
    return "it does not begin with a path; " + (f"write `$.{name[0]}`" if name else "begin with `$.`")


def _operator(atom: str) -> str | None:
    rest = _AFTER_PATH.match(atom)
    if rest is None or _RIGHT_SIDE.fullmatch(rest[1]):
        return None
    operator = _OPERATOR.match(rest[1])
    if operator is None:
        return None
    word = operator[0]
    if connector := _CONNECTORS.get(word.lower()):
        return f"`{word}` is not an operator; write `{connector}`"
    if other := _OTHER_OPERATORS.get(word.lower()):
        return f"`{word}` is not an operator; write `{other}`"
    if word == "not":
        return "`not` is not an operator; write `!=`, or `== false`"
    return f"`{word}` is not an operator; the operators are {_OPERATORS}"


def _quotes_or_connector(atom: str) -> str | None:
    rest = _AFTER_PATH.match(atom)
    comparison = _RIGHT_SIDE.fullmatch(rest[1]) if rest else None
    if comparison is None or not comparison[2]:
        return None
    if comparison[2][0] in _TYPOGRAPHIC:
        return "these are typographic quotes; write `'` or `\"`"
    if single := re.search(r"\s([&|])\s", comparison[2]):
        return f"`{single[1]}` is not an operator; write `{single[1] * 2}`"
    return None


def _right_side(atom: str) -> str | None:
    rest = _AFTER_PATH.match(atom)
    comparison = _RIGHT_SIDE.fullmatch(rest[1]) if rest else None
    if comparison is None:
        return None
    right = comparison[2]
    if connected := _CONNECTED.search(right):
        word = connected[1]
        return f"`{word}` is not an operator; write `{_CONNECTORS[word.lower()]}`"
    if right.startswith("{{"):
        return "conditions are not templates; write a path on the right, such as `$.limit`"
    if re.match(r"\$\s*[<>=!]", atom):
        return "the whole data cannot be compared; name a value in it, such as `$.total`"
    if right.lower() in {"none", "nil"}:
        return "the word for no value is `null`"
    if right.lower() in LITERAL_WORDS:
        return f"literals are lower case; write `{right.lower()}`"
    if right.startswith(("[", "(", "{")):
        return "lists and objects cannot be written in a condition; compare with one value at a time"
    return "the right side is neither a literal nor a path; put text in quotes, and begin a path with `$.`"


_RULES: Final[tuple[Callable[[str], str | None], ...]] = (
    _empty,
    _template,
    _negation,
    _literal_first,
    _no_path,
    _operator,
    _quotes_or_connector,
    _right_side,
)
