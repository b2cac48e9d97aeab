"""The parser of templates: tokens to syntax tree."""

from __future__ import annotations

from typing import Final

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions.js_values import number_to_string
from airflow_allma.expressions.templates.lexer import Kind, Token, tokenize
from airflow_allma.expressions.templates.tree import (
    Block,
    Call,
    Comment,
    Content,
    Expression,
    Literal,
    Lookup,
    Mustache,
    Program,
    StripFlags,
)
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["MAX_LENGTH", "MAX_NESTING", "parse"]

MAX_LENGTH: Final = 1_000_000
"""Maximum length of a template, in characters."""

MAX_NESTING: Final = 64
"""Maximum nesting of blocks, ``else if`` parts and parentheses."""

_WORDS: Final = {"true": True, "false": False, "null": None, "undefined": NOTHING}
_CLOSINGS: Final = frozenset({Kind.CLOSE, Kind.CLOSE_TRIPLE})
_ENDS_PROGRAM: Final = frozenset({Kind.OPEN_CLOSING, Kind.ELSE, Kind.ELSE_CHAIN, Kind.END})
_LITERALS: Final = frozenset({Kind.STRING, Kind.NUMBER, Kind.WORD})
_STARTS_LOOKUP: Final = frozenset({Kind.NAME, Kind.UP, Kind.HERE, Kind.DATA})
_STARTS_ARGUMENT: Final = _LITERALS | _STARTS_LOOKUP | {Kind.OPEN_PARENTHESIS}
_UP_OR_HERE: Final = frozenset({Kind.UP, Kind.HERE})

_EXACT_DIGITS: Final = 15  # longer numbers are doubles in JavaScript


def parse(source: str) -> Program:
    """Return the syntax tree of a template, before white space is stripped.

    Raises:
        ExpressionSyntaxError: this is not a valid template, or it is too long or nested too deeply.
    """
    if len(source) > MAX_LENGTH:
        raise ExpressionSyntaxError(
            f"the template has {len(source)} characters, but at most {MAX_LENGTH} are allowed; "
            "render it in parts, in several steps",
            source[:80] + "...",
        )
    parser = _Parser(source)
    program = parser.program()
    parser.expect_end()
    return program


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = tokenize(source)
        self.index = 0
        self.depth = 0

    def peek(self) -> Token:
        return self.tokens[self.index]

    def take(self) -> Token:
        token = self.tokens[self.index]
        self.index += 1
        return token

    def error(self, reason: str, position: int | None = None) -> ExpressionSyntaxError:
        return ExpressionSyntaxError(reason, self.source, self.peek().start if position is None else position)

    def nest(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self.error(
                f"the template is nested deeper than {MAX_NESTING} levels; split it into several steps"
            )

    def expect_end(self) -> None:
        token = self.peek()
        if token.kind is Kind.OPEN_CLOSING:
            self.take()
            name = self.lookup_or_literal().source
            raise self.error(f"{{{{/{name}}}}} closes a block that was never opened; remove it", token.start)
        if token.kind is not Kind.END:
            raise self.error("{{else}} belongs inside a block: between {{#if}} and {{/if}}, for example")

    # Statements

    def program(self) -> Program:
        body = Program()
        while (token := self.peek()).kind not in _ENDS_PROGRAM:
            if token.kind is Kind.TEXT:
                body.body.append(Content(token.value, token.value))
                self.take()
            elif token.kind is Kind.RAW:
                body.body.append(
                    Content(token.value, token.value, is_right_stripped=True, is_left_stripped=True)
                )
                self.take()
            elif token.kind is Kind.COMMENT:
                body.body.append(Comment(StripFlags(token.strips_left, token.strips_right)))
                self.take()
            elif token.kind in (Kind.OPEN, Kind.OPEN_TRIPLE):
                body.body.append(self.mustache())
            else:
                body.body.append(self.block())
        return body

    def mustache(self) -> Mustache:
        opening = self.take()
        call = self.call()
        if self.peek().kind is Kind.OPEN_PARAMETERS:
            raise self.error("only blocks support 'as'; open the block with '#'")
        closing = self.close(Kind.CLOSE_TRIPLE if opening.kind is Kind.OPEN_TRIPLE else Kind.CLOSE)
        return Mustache(call, StripFlags(opening.strips_left, closing.strips_right))

    def close(self, kind: Kind = Kind.CLOSE) -> Token:
        if self.peek().kind is kind:
            return self.take()
        if self.peek().kind in _CLOSINGS:
            raise self.error(
                "three braces close two opening braces; put a space before the third brace"
                if kind is Kind.CLOSE
                else "two braces close three opening braces; add a brace"
            )
        raise self.error(f"{self.peek().source!r} is not expected here; close the braces before it")

    def block(self) -> Block:
        opening = self.peek()
        call, parameters, strip = self.block_opening()
        program: Program | None = self.program()
        if opening.kind is Kind.OPEN_INVERSE and self.peek().kind is Kind.ELSE_CHAIN:
            raise self.error("an inverse block cannot have {{else if}}; use {{#unless}} instead")
        inverse, inverse_strip = self.inverse()
        closing = self.block_closing(opening, call)
        if inverse is not None:
            _close_chain(inverse, closing)
        self.depth -= 1
        if opening.kind is Kind.OPEN_INVERSE:
            program, inverse = inverse, program
        return Block(call, parameters, program, inverse, strip, inverse_strip, closing)

    def block_opening(self) -> tuple[Call, tuple[tuple[str, int], ...], StripFlags]:
        self.nest()
        opening = self.take()
        call = self.call()
        parameters = self.block_parameters()
        closing = self.close()
        return call, parameters, StripFlags(opening.strips_left, closing.strips_right)

    def inverse(self) -> tuple[Program | None, StripFlags]:
        """Parse an ``{{else}}`` or ``{{else if}}`` and what follows, if there is one."""
        token = self.peek()
        if token.kind is Kind.ELSE:
            self.take()
            program = self.program()
            if self.peek().kind in (Kind.ELSE, Kind.ELSE_CHAIN):
                raise self.error("this block has a second {{else}}; remove one of them")
            return program, StripFlags(token.strips_left, token.strips_right)
        if token.kind is not Kind.ELSE_CHAIN:
            return None, StripFlags()
        call, parameters, strip = self.block_opening()
        program = self.program()
        inverse, inverse_strip = self.inverse()
        if inverse is not None:
            _close_chain(inverse, inverse_strip)
        self.depth -= 1
        block = Block(call, parameters, program, inverse, strip, inverse_strip, inverse_strip)
        return Program([block], is_chained=True), strip

    def block_closing(self, opening: Token, call: Call) -> StripFlags:
        name = call.callee.source
        token = self.peek()
        if token.kind is Kind.END:
            raise self.error(
                f"the block {opening.source}{name}}}}} is not closed; add {{{{/{name}}}}}", opening.start
            )
        self.take()
        closed = self.lookup_or_literal().source
        if closed != name:
            raise self.error(
                f"{{{{/{closed}}}}} closes {opening.source}{name}}}}}; write {{{{/{name}}}}} first",
                token.start,
            )
        closing = self.close()
        return StripFlags(token.strips_left, closing.strips_right)

    def block_parameters(self) -> tuple[tuple[str, int], ...]:
        if self.peek().kind is not Kind.OPEN_PARAMETERS:
            return ()
        opening = self.take()
        names: list[tuple[str, int]] = []
        while self.peek().kind is Kind.NAME:
            token = self.take()
            names.append((token.value, token.start))
        if not names or self.peek().kind is not Kind.CLOSE_PARAMETERS:
            raise self.error(
                "'as |' must be followed by names and another bar: as |item index|", opening.start
            )
        self.take()
        return tuple(names)

    # Expressions

    def call(self, *, in_parentheses: bool = False) -> Call:
        start = self.peek().start
        callee = self.lookup_or_literal()
        arguments: list[Expression] = []
        named: list[tuple[str, Expression]] = []
        while self.peek().kind in _STARTS_ARGUMENT:
            if self.peek().kind in _UP_OR_HERE and self.peek().start == self.tokens[self.index - 1].end:
                raise self.error("a name is missing after this dot; put a name with dots in brackets: [a.b]")
            if self.peek().kind is Kind.NAME and self.tokens[self.index + 1].kind is Kind.EQUALS:
                name = self.take().value
                self.take()
                named.append((name, self.argument()))
            elif named:
                raise self.error("positional arguments must come before named arguments")
            else:
                arguments.append(self.argument())
        source = self.source[start : self.tokens[self.index - 1].end]
        if isinstance(callee, Literal):
            # A literal in the position of a name is a name: {{"a b"}} is {{[a b]}}.
            callee = Lookup(callee.source, start, (callee.source,))
        return Call(source, start, callee, tuple(arguments), tuple(named), in_parentheses)

    def argument(self) -> Expression:
        if self.peek().kind is not Kind.OPEN_PARENTHESIS:
            return self.lookup_or_literal()
        self.nest()
        opening = self.take()
        call = self.call(in_parentheses=True)
        if self.peek().kind is not Kind.CLOSE_PARENTHESIS:
            raise self.error("the parenthesis that opens here is not closed; add )", opening.start)
        self.take()
        self.depth -= 1
        return call

    def lookup_or_literal(self) -> Lookup | Literal:
        token = self.peek()
        if token.kind in _STARTS_LOOKUP:
            return self.lookup()
        if token.kind not in _LITERALS:
            if token.kind in _CLOSINGS:
                raise self.error("a name is missing before the braces close")
            if token.kind is Kind.OPEN_PARENTHESIS:
                raise self.error(
                    "parentheses are only allowed around arguments; begin with the name of a helper"
                )
            raise self.error(f"a name or a value is expected here, not {token.source!r}")
        self.take()
        if token.kind is Kind.STRING:
            return Literal(token.value, token.start, token.value)
        if token.kind is Kind.WORD:
            return Literal(token.source, token.start, _WORDS[token.source])
        number = _number(token.source)
        return Literal(number_to_string(number), token.start, number)

    def lookup(self) -> Lookup:
        start = self.peek().start
        is_data = self.peek().kind is Kind.DATA
        if is_data:
            self.take()
        source = "@" if is_data else ""
        names: list[str] = []
        up = 0
        is_scoped = False
        while True:
            token = self.segment()
            source += token.value
            if token.kind in _UP_OR_HERE or token.source == "this":
                if names:
                    raise self.error(
                        f"{token.source!r} can only begin a path; put a name in brackets: .[{token.source}]",
                        token.start,
                    )
                up += token.kind is Kind.UP
                is_scoped = True
            elif token.kind is Kind.NUMBER:
                names.extend(token.source.split("."))
            else:
                names.append(token.value)
            if self.peek().kind is not Kind.SEPARATOR:
                break
            source += self.take().source
        if is_data and not names:
            raise self.error("a name is missing after '@': root, index, key, first or last", start)
        return Lookup(source, start, tuple(names), up, is_data, is_scoped)

    def segment(self) -> Token:
        """Consume one segment of a path. A number or a word like true is a name there."""
        token = self.peek()
        if token.kind in _UP_OR_HERE or token.kind is Kind.NAME:
            return self.take()
        if self.tokens[self.index - 1].kind is Kind.SEPARATOR and token.kind in (Kind.NUMBER, Kind.WORD):
            return self.take()
        raise self.error("a name is missing here")


def _close_chain(inverse: Program, closing: StripFlags) -> None:
    """Close the ``else if`` of a block with the block's own end."""
    if inverse.is_chained:
        first = inverse.body[0]
        if isinstance(first, Block):
            first.closing = closing


def _number(source: str) -> float:
    return int(source) if "." not in source and len(source) <= _EXACT_DIGITS else float(source)
