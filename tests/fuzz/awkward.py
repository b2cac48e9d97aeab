"""Awkward JSON values, and a writer for JSON that no ordinary writer produces."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Raw:
    """Text that is written as it is, in place of a value."""

    text: str


@dataclass(frozen=True)
class Members:
    """An object that may repeat keys."""

    pairs: tuple[tuple[str, Any], ...]


def dump(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON; ``Raw`` and ``Members`` are written as they are."""
    return "".join(_parts(value, indent, 1))


def _parts(value: Any, indent: int | None, level: int) -> list[str]:
    if isinstance(value, Raw):
        return [value.text]
    if isinstance(value, dict):
        value = Members(tuple(value.items()))
    if not isinstance(value, list | Members):
        return [json.dumps(value)]
    opening, closing = "[]" if isinstance(value, list) else "{}"
    members = (
        [(f"{json.dumps(key)}: ", member) for key, member in value.pairs]
        if isinstance(value, Members)
        else [("", element) for element in value]
    )
    line = "" if indent is None else "\n" + " " * (indent * level)
    parts = [opening]
    for number, (key, member) in enumerate(members):
        parts += [", " if number else "", line, key, *_parts(member, indent, level + 1)]
    return [*parts, line[: -indent or None] if members and indent else "", closing]


CHARACTERS = (
    *("\0", "\x01", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\ufffe", "\U0001f600", "é"),
    *("e\u0301", "\r\n", "\n", "\t", "'", '"', "\\", "`", "{{", "}}", "$", "$.", "..", "/", "%s", "%(x)s"),
    *("{0}", "<b>", "\u0000x", " ", "\u00a0", "\u3000", "\u0130", "ß", "\u0661", "=1+1", "null", "a" * 70),
)

NUMBERS = (
    *(0, -0.0, 1, -1, 0.1, 1e-320, 1e308, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64, -(2**63) - 1),
    *(10**19, 10**30, 10**300, 0.30000000000000004, 86400, 1e16, 1.5),
)

RAW_NUMBERS = (
    "1e400",
    "-1e400",
    "9" * 400,
    "9" * 5000,
    "1e-400",
    "-0",
    "0.0",
    "1E5",
    "NaN",
    "Infinity",
    "01",
)
RAW_STRINGS = (r'"\ud800"', r'"\udc00\ud800"', r'"\u0000"', r'"a\ud83d"', r'"\ud83d\ude00"', r'"\/"', r'"\x"')


def text(rng: random.Random, longest: int = 5_000) -> str:
    """Return a string: mostly short, sometimes awkward, rarely long."""
    choice = rng.random()
    if choice < 0.35:
        return "".join(rng.choices("abcxyz019_-. ", k=rng.randrange(8)))
    if choice < 0.8:
        return "".join(rng.choices(CHARACTERS, k=rng.randrange(1, 4)))
    if choice < 0.9:
        return chr(rng.choice((rng.randrange(0x20), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000))))
    return rng.choice(CHARACTERS) * rng.choice((60, 251, 2_001, longest))


def scalar(rng: random.Random) -> Any:
    """Return a value without members."""
    return rng.choice(_SCALARS)(rng)


_SCALARS: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: None,
    lambda rng: rng.random() < 0.5,
    lambda rng: rng.randrange(-3, 12),
    lambda rng: rng.choice(NUMBERS),
    text,
    text,
)


def value(rng: random.Random, depth: int = 4, key: Callable[[random.Random], str] = text) -> Any:
    """Return a JSON value that Python can hold."""
    choice = rng.random()
    if depth <= 0 or choice < 0.45:
        return scalar(rng)
    count = rng.randrange(5)
    if choice < 0.7:
        return [value(rng, depth - 1, key) for _ in range(count)]
    return {key(rng): value(rng, depth - 1, key) for _ in range(count)}


def extreme(rng: random.Random) -> Any:
    """Return a value for ``dump`` that a reader may refuse, or that is of the wrong kind everywhere."""
    return rng.choice(_EXTREMES)(rng)


def nested(rng: random.Random) -> Raw:
    """Return lists or objects in one another, perhaps deeper than anything can read."""
    depth = rng.choice((30, 64, 65, 99, 100, 101, 500, 2_000, 100_000))
    opening, closing = rng.choice((("[", "]"), ('{"a": ', "}"), ('[{"steps": ', "}]")))
    return Raw(opening * depth + rng.choice(("1", "null", '"{{a}}"')) + closing * depth)


_EXTREMES: tuple[Callable[[random.Random], Any], ...] = (
    scalar,
    scalar,
    lambda rng: rng.choice(NUMBERS),
    text,
    lambda rng: text(rng, 100_000),
    lambda rng: Raw(rng.choice(RAW_NUMBERS)),
    lambda rng: Raw(rng.choice(RAW_STRINGS)),
    nested,
    lambda rng: [],
    lambda rng: {},
    lambda rng: value(rng, 3),
    lambda rng: [scalar(rng)] * rng.choice((1, 3, 300)),
    lambda rng: Members((("a", 1), ("a", scalar(rng)))),
    lambda rng: {text(rng): scalar(rng) for _ in range(rng.choice((1, 3, 300)))},
)
