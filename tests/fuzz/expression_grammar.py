"""Random expressions of the flow language, valid and nearly valid ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.fuzz import awkward

Make = Callable[[random.Random], str]

NAMES = (
    *(
        "a",
        "b",
        "c",
        "items",
        "name",
        "0",
        "1",
        "length",
        "x y",
        "it's",
        "é",
        "__proto__",
        "constructor",
        "@",
    ),
    *(
        "steps_output",
        "flow_variables",
        "currentItem",
        "_s3_output_pointer",
        "this",
        "..",
        "$",
        "a.b",
        "",
        "-1",
    ),
)
PLAIN_NAMES = ("a", "b", "c", "items", "name", "length", "currentItem", "flow_variables")
LITERALS = (
    *("true", "false", "null", "undefined", "0", "1", "-1.5", "1e3", "1e999", "'a'", '"b"', "''", "'it\\'s'"),
    *("NaN", "'\\u0041'", "9007199254740993", "'10'", "[]", "'$.a'"),
)
OPERATORS = ("==", "!=", "===", "!==", "<", ">", "<=", ">=")
WRONG_OPERATORS = ("=", "contains", "=~", "in", "<>", "&", "|", "")
HELPERS = ("json", "slice", "eq", "neq", "gt", "lt", "default", "base64", "lookup", "nope")
BLOCKS = ("if", "unless", "each", "with", "with_json_path", "nope")
SPECIALS = (
    "this",
    ".",
    "..",
    "../a",
    "@index",
    "@key",
    "@first",
    "@root.a",
    "@../index",
    "else",
    "",
    "[x y]",
)
PIECES = (
    *(
        "$",
        "$.",
        "@",
        ".",
        "..",
        "[",
        "]",
        "(",
        ")",
        "?(",
        "[?(",
        ")]",
        "*",
        ":",
        ",",
        "'",
        '"',
        "\\",
        "`",
        "!",
    ),
    *(
        "&&",
        "||",
        "==",
        "{{",
        "}}",
        "{{{",
        "}}}",
        "{{#",
        "{{/",
        "{{else}}",
        "{{!--",
        "--}}",
        "~",
        "^",
        "|",
        "=",
        " ",
    ),
    *("\n", "\0", "\u2028", "é", "0", "9" * 30, "length", "as |x|", "@index", "../", "#", "/", "-", "+"),
)


def path(rng: random.Random, depth: int = 2, root: str = "$") -> str:
    """Return a JSONPath."""
    count = rng.choice((0, 1, 1, 2, 2, 3, 4))
    return root + "".join(rng.choice(_SEGMENTS)(rng, depth) for _ in range(count))


def _quoted(rng: random.Random) -> str:
    quote = rng.choice("'\"")
    return quote + rng.choice(NAMES).replace(quote, f"\\{quote}") + quote


def _union(rng: random.Random, depth: int) -> str:
    members = [rng.choice((_quoted(rng), str(rng.randrange(-1, 4)))) for _ in range(rng.choice((2, 3, 20)))]
    return f"[{','.join(members)}]"


def _slice(rng: random.Random, depth: int) -> str:
    parts = [rng.choice(("", "", "0", "1", "-1", "9" * 20)) for _ in range(rng.choice((2, 3)))]
    return f"[{':'.join(parts)}]"


def filter_expression(rng: random.Random, depth: int) -> str:
    """Return what may be between ``[?(`` and ``)]``."""
    choice = rng.random()
    if depth <= 0 or choice < 0.5:
        operand = path(rng, depth - 1, "@")
        if choice < 0.15:
            return operand
        other = rng.choice((rng.choice(LITERALS), path(rng, 0, "@"), path(rng, 0)))
        return f"{operand} {_operator(rng)} {other}"
    if choice < 0.6:
        return f"!{filter_expression(rng, depth - 1)}"
    if choice < 0.7:
        return f"({filter_expression(rng, depth - 1)})"
    joint = rng.choice((" && ", " || "))
    return f"{filter_expression(rng, depth - 1)}{joint}{filter_expression(rng, depth - 1)}"


def _operator(rng: random.Random) -> str:
    return rng.choice(OPERATORS if rng.random() < 0.93 else WRONG_OPERATORS)


_SEGMENTS: Sequence[Callable[[random.Random, int], str]] = (
    lambda rng, depth: f".{rng.choice(PLAIN_NAMES)}",
    lambda rng, depth: f".{rng.choice(PLAIN_NAMES)}",
    lambda rng, depth: f".{rng.choice(NAMES)}",
    lambda rng, depth: f"[{_quoted(rng)}]",
    lambda rng, depth: f"[{rng.choice((0, 1, 2, -1, 10**9, 10**30))}]",
    lambda rng, depth: rng.choice((".*", "[*]", "..*")),
    lambda rng, depth: f"..{rng.choice(PLAIN_NAMES)}",
    _slice,
    _union,
    lambda rng, depth: f"[?({filter_expression(rng, depth)})]",
    lambda rng, depth: f"[{path(rng, 0)}]",
)


def condition(rng: random.Random) -> str:
    """Return a condition."""
    atoms = [_atom(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    return atoms[0] + "".join(f"{rng.choice((' && ', ' || ', '&&'))}{atom}" for atom in atoms[1:])


def _atom(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return path(rng)
    return f"{path(rng, 1)} {_operator(rng)} {rng.choice((rng.choice(LITERALS), path(rng, 1)))}"


def template(rng: random.Random, depth: int = 3) -> str:
    """Return a template."""
    return "".join(rng.choice(_PARTS)(rng, depth) for _ in range(rng.choice((1, 1, 2, 3))))


def _operand(rng: random.Random, depth: int = 1) -> str:
    choice = rng.random()
    if choice < 0.5:
        return ".".join(rng.choices(PLAIN_NAMES, k=rng.choice((1, 1, 2, 3))))
    if choice < 0.65:
        return rng.choice(SPECIALS)
    if choice < 0.85 or depth <= 0:
        return rng.choice(LITERALS)
    return f"({_call(rng, depth - 1)})"


def _call(rng: random.Random, depth: int = 1) -> str:
    arguments = [_operand(rng, depth) for _ in range(rng.choice((0, 1, 1, 2, 2, 3)))]
    return " ".join((rng.choice(HELPERS), *arguments))


def _block(rng: random.Random, depth: int) -> str:
    if depth <= 0:
        return "x"
    name = rng.choice(BLOCKS)
    argument = f'"{path(rng, 1)}" as |v|' if name == "with_json_path" else _operand(rng)
    names = rng.choice(("", "", " as |v|", " as |v k|")) if name != "with_json_path" else ""
    other = rng.choice(("", "", "{{else}}y", "{{else if a}}z"))
    closing = name if rng.random() < 0.97 else "if"
    tilde = rng.choice(("", "", "~"))
    return (
        f"{{{{{tilde}#{name} {argument}{names}}}}}{template(rng, depth - 1)}{other}{{{{/{closing}{tilde}}}}}"
    )


_PARTS: Sequence[Callable[[random.Random, int], str]] = (
    lambda rng, depth: awkward.text(rng, 500),
    lambda rng, depth: f"{{{{{_operand(rng)}}}}}",
    lambda rng, depth: f"{{{{{_operand(rng)}}}}}",
    lambda rng, depth: f"{{{{{_call(rng)}}}}}",
    lambda rng, depth: f"{{{{{{{_operand(rng)}}}}}}}",
    lambda rng, depth: f"{{{{!-- {_operand(rng)} --}}}}",
    _block,
    _block,
)


def target(rng: random.Random) -> str:
    """Return a target of an input mapping."""

    def more() -> str:
        return rng.choice((f".{rng.choice(NAMES)}", f"[{rng.choice(_INDEXES)}]", f"[{_quoted(rng)}]"))

    return rng.choice(NAMES) + "".join(more() for _ in range(rng.choice((0, 0, 1, 2))))


_INDEXES = (0, 1, 5, 10**7, 10**20)


def long_expression(rng: random.Random) -> str:
    """Return one piece, many times."""
    piece = rng.choice((rng.choice(PIECES), path(rng, 1), template(rng, 1), "{{#if a}}", "$[", "[?(@"))
    return rng.choice(("", "$", "$.a", "{{")) + piece * rng.choice((40, 65, 130, 1_000, 9_999))


def config(rng: random.Random, depth: int = 3) -> Any:
    """Return a config: JSON with expressions in its strings."""
    choice = rng.random()
    if depth <= 0 or choice < 0.55:
        return (
            rng.choice((template, path, template, path, target))(rng) if choice < 0.5 else awkward.scalar(rng)
        )
    count = rng.randrange(4)
    if choice < 0.7:
        return [config(rng, depth - 1) for _ in range(count)]
    return {rng.choice(NAMES): config(rng, depth - 1) for _ in range(count)}


def mutate(rng: random.Random, source: str) -> str:
    """Return an expression with some characters removed, repeated, moved or added."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, end = sorted((rng.randrange(len(source) + 1), rng.randrange(len(source) + 1)))
        piece = rng.choice(PIECES)
        source = rng.choice(
            (
                source[:at] + source[at + 1 :],
                source[:at] + piece + source[at:],
                source[:at] + piece + source[at + 1 :],
                source[:end] + source[at:end] + source[end:],
                source[:at] + source[end:],
                source[at:] + source[:at],
            )
        )
        if len(source) > 20_000:
            break
    return source


GENERATORS: tuple[Make, ...] = (path, condition, template, target, long_expression)
