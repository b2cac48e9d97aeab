"""The compilation of templates: syntax tree to closures that write text or return values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.common.nearest import nearest
from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions.paths import compile_path
from airflow_allma.expressions.syntax_tree import SLOT, Key, make_key
from airflow_allma.expressions.templates.blocks import BLOCKS, BlockHelper, BlockParts, section
from airflow_allma.expressions.templates.concat import Fragment, concat, to_writer
from airflow_allma.expressions.templates.helpers import HELPERS, REPLACEMENTS, Helper
from airflow_allma.expressions.templates.runtime import Evaluate, Frame, Write, follow_keys, to_output
from airflow_allma.expressions.templates.tree import (
    Block,
    Call,
    Content,
    Expression,
    Literal,
    Lookup,
    Mustache,
    Program,
    Statement,
)
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["compile_program"]

_SECTION: Final = BlockHelper("a plain section", section, parameters=2)


@dataclass(frozen=True, slots=True)
class _Scope:
    """The block parameters that are visible in a part of the template."""

    names: tuple[str, ...]
    outer: _Scope | None

    def find(self, name: str) -> tuple[int, int] | None:
        """Return how many blocks further out the name is defined, and its index there."""
        scope: _Scope | None = self
        hops = 0
        while scope is not None:
            if name in scope.names:
                return hops, scope.names.index(name)
            scope = scope.outer
            hops += 1
        return None


def compile_program(
    program: Program, source: str, *, slots: bool = False, block_slots: bool = False
) -> Fragment:
    """Return the closure that writes a template, or the text itself if nothing in it depends on data.

    Args:
        program: the template.
        source: the template as written, for errors.
        slots: write ``SLOT`` in place of each value, and add the value to the rendering's ``values``.
        block_slots: treat a block that writes nothing as an empty value.

    Raises:
        ExpressionSyntaxError: a helper is unknown, or has arguments that it does not accept.
    """
    return _Compiler(source, slots=slots, block_slots=block_slots).program(program, _Scope((), None))


class _Compiler:
    def __init__(self, source: str, *, slots: bool, block_slots: bool) -> None:
        self.source = source
        self.slots = slots
        self.block_slots = block_slots

    def error(self, reason: str, position: int) -> ExpressionSyntaxError:
        return ExpressionSyntaxError(reason, self.source, position)

    # Statements

    def program(self, program: Program | None, scope: _Scope) -> Fragment:
        if program is None:
            return ""
        return concat([self.statement(statement, scope) for statement in program.body])

    def statement(self, statement: Statement, scope: _Scope) -> Fragment:
        if isinstance(statement, Content):
            return statement.value
        if isinstance(statement, Mustache):
            fragment = self.mustache(statement, scope)
            return _slot_writer(to_writer(fragment), self.source) if self.slots else fragment
        if isinstance(statement, Block):
            fragment = self.block(statement, scope)
            return _block_slot_writer(to_writer(fragment)) if self.block_slots else fragment
        return ""

    def mustache(self, mustache: Mustache, scope: _Scope) -> Fragment:
        expression = mustache.expression
        if isinstance(expression, Literal):
            return to_output(expression.value)
        if self.is_lookup(expression, scope):
            return _lookup_writer(
                expression.callee, self.lookup(expression.callee, scope), _is_bound(expression.callee, scope)
            )
        evaluate = self.helper(expression, scope)
        return lambda frame: to_output(evaluate(frame))

    def block(self, block: Block, scope: _Scope) -> Fragment:
        call = block.call
        helper, argument, constant = self.block_argument(call, scope)
        if len(block.parameters) > helper.parameters:
            name, position = block.parameters[helper.parameters]
            raise self.error(
                f"{helper.name} allows {helper.parameters or 'no'} names after 'as'; remove {name!r}",
                position,
            )
        inner = scope
        if helper.parameters:
            inner = _Scope(tuple(name for name, _ in block.parameters), scope)
        return helper.build(
            BlockParts(
                part=f"{{{{#{call.source}}}}}",
                argument=argument,
                constant=constant,
                include_zero=self.include_zero(call, helper, scope),
                program=to_writer(self.program(block.program, inner)),
                inverse=to_writer(self.program(block.inverse, scope)),
                weight=1 + _size(block.program) // 8,
            )
        )

    def block_argument(self, call: Call, scope: _Scope) -> tuple[BlockHelper, Evaluate, Any]:
        """Return the block's helper, its compiled argument, and the argument's value if it is a literal."""
        helper = BLOCKS.get(call.callee.source) if self.could_be_helper(call, scope) else None
        if helper is None:
            if self.is_lookup(call, scope, in_block=True):
                return _SECTION, self.lookup(call.callee, scope), NOTHING
            raise self.not_a_block_error(call)
        if len(call.arguments) != 1:
            raise self.error(
                f"{helper.name} takes one argument, not {len(call.arguments)}; "
                "write the name of a value after it, or a helper in parentheses",
                call.position,
            )
        argument = call.arguments[0]
        constant = argument.value if isinstance(argument, Literal) else NOTHING
        if helper.name == "with_json_path":
            if constant is NOTHING:
                raise self.error(
                    "with_json_path takes a path in quotes; data cannot choose the path. Use "
                    "{{lookup object name}} for a name that is in the data",
                    argument.position,
                )
            self.check_path(argument, constant)
        return helper, self.expression(argument, scope), constant

    def check_path(self, argument: Expression, path: Any) -> None:
        try:
            compile_path(path)
        except ExpressionSyntaxError as error:
            # The opening quote takes one character.
            offset = 1 + error.position if isinstance(path, str) else 0
            raise self.error(error.reason, argument.position + offset) from None

    def include_zero(self, call: Call, helper: BlockHelper, scope: _Scope) -> Evaluate | None:
        evaluate = None
        for name, expression in call.named:
            if name not in helper.named:
                raise self.error(
                    f"{helper.name} takes no argument named {name!r}; remove it", expression.position
                )
            evaluate = self.expression(expression, scope)
        return evaluate

    def not_a_block_error(self, call: Call) -> ExpressionSyntaxError:
        name = call.callee.source
        if name in HELPERS:
            return self.error(
                f"{name!r} returns a value and is not a block; write {HELPERS[name].usage}", call.position
            )
        return self.unknown_helper_error(call, list(BLOCKS))

    # Expressions

    def could_be_helper(self, call: Call, scope: _Scope) -> bool:
        callee = call.callee
        return callee.is_plain_name and scope.find(callee.names[0]) is None

    def is_lookup(self, call: Call, scope: _Scope, *, in_block: bool = False) -> bool:
        """Return whether a call is only the name of a value."""
        if call.arguments or call.named or call.in_parentheses:
            return False
        if not self.could_be_helper(call, scope):
            return True
        return call.callee.names[0] not in HELPERS and (in_block or call.callee.names[0] not in BLOCKS)

    def expression(self, expression: Expression, scope: _Scope) -> Evaluate:
        if isinstance(expression, Literal):
            value = expression.value
            return lambda frame: value  # noqa: ARG005
        if isinstance(expression, Lookup):
            return self.lookup(expression, scope)
        return self.helper(expression, scope)

    def helper(self, call: Call, scope: _Scope) -> Evaluate:
        name = call.callee.source
        helper = HELPERS.get(name) if self.could_be_helper(call, scope) else None
        if helper is None:
            if name in BLOCKS and self.could_be_helper(call, scope):
                raise self.error(
                    f"{name!r} is a block; open it with '#' and close it with {{{{/{name}}}}}", call.position
                )
            raise self.unknown_helper_error(call, list(HELPERS))
        if not helper.min_arguments <= len(call.arguments) <= helper.max_arguments:
            raise self.argument_count_error(call, helper)
        for argument_name, expression in call.named:
            raise self.error(
                f"{name} takes no argument named {argument_name!r}; remove it", expression.position
            )
        arguments = [self.expression(argument, scope) for argument in call.arguments]
        return _helper_call(helper, arguments, f"{{{{{call.source}}}}}")

    def argument_count_error(self, call: Call, helper: Helper) -> ExpressionSyntaxError:
        expected = (
            f"{helper.min_arguments}"
            if helper.min_arguments == helper.max_arguments
            else f"{helper.min_arguments} to {helper.max_arguments}"
        )
        plural = "" if helper.max_arguments == 1 else "s"
        hint = ""
        if not call.arguments and not call.in_parentheses:
            hint = f"; the value named {helper.name!r} is {{{{this.{helper.name}}}}}"
        return self.error(
            f"{helper.name} takes {expected} argument{plural}, not {len(call.arguments)}: "
            f"{helper.usage}{hint}",
            call.position,
        )

    def unknown_helper_error(self, call: Call, known: list[str]) -> ExpressionSyntaxError:
        name = call.callee.source
        if name in REPLACEMENTS:
            hint = REPLACEMENTS[name]
        else:
            near = nearest(name, known)
            hint = f"did you mean {near}?" if near else f"the helpers are {', '.join(known)}"
            if not call.in_parentheses:
                hint += "; write a name that contains spaces in brackets: {{[a name]}}"
        return self.error(f"unknown helper {name!r}: {hint}", call.position)

    def lookup(self, lookup: Lookup, scope: _Scope) -> Evaluate:
        part = f"{{{{{lookup.source}}}}}"
        keys = tuple(make_key(name) for name in lookup.names)
        if lookup.is_data:
            base = _loop_value(lookup.names[0], lookup.up)
            # The values of a loop are strings, numbers and booleans, never pointers.
            return (
                base if lookup.names[0] in _LOOP_VALUES and not keys[1:] else _walk_from(base, keys[1:], part)
            )
        if not lookup.is_scoped and (position := scope.find(lookup.names[0])) is not None:
            return _walk_from(_block_parameter(*position), keys[1:], part)
        if lookup.up:
            return _walk_from(_up(lookup.up), keys, part)
        return _walk_from_this(keys, part)


def _slot_writer(write: Write, source: str) -> Write:
    def write_slot(frame: Frame) -> str:
        value = write(frame)
        # Loops count the slot; the value is counted here.
        frame.rendering.spend(len(value), source)
        frame.rendering.values.append(value)
        return SLOT

    return write_slot


def _block_slot_writer(write: Write) -> Write:
    def write_block(frame: Frame) -> str:
        if text := write(frame):
            return text
        frame.rendering.values.append("")
        return SLOT

    return write_block


def _size(program: Program | None) -> int:
    """Return how many statements and names a part of a template has, with all blocks in it."""
    size = 0
    for statement in program.body if program is not None else ():
        size += 1
        if isinstance(statement, Mustache):
            size += _expression_size(statement.expression)
        elif isinstance(statement, Block):
            size += _expression_size(statement.call) + _size(statement.program) + _size(statement.inverse)
    return size


def _expression_size(expression: Expression) -> int:
    if isinstance(expression, Lookup):
        return len(expression.names)
    if isinstance(expression, Call):
        return len(expression.callee.names) + sum(map(_expression_size, expression.arguments))
    return 0


def _is_bound(lookup: Lookup, scope: _Scope) -> bool:
    """Return whether a lookup does not begin at ``this``."""
    return (
        lookup.is_data or lookup.up > 0 or (not lookup.is_scoped and scope.find(lookup.names[0]) is not None)
    )


def _lookup_writer(lookup: Lookup, evaluate: Evaluate, is_bound: bool) -> Write:
    """Return the function that writes a value, with a fast path for members of ``this`` that are strings."""
    if is_bound or len(lookup.names) != 1:
        return lambda frame: to_output(evaluate(frame))
    name = lookup.names[0]

    def write(frame: Frame) -> str:
        this = frame.this
        if this.__class__ is dict and (value := this.get(name)).__class__ is str:
            return value
        return to_output(evaluate(frame))

    return write


def _walk_from_this(keys: tuple[Key, ...], part: str) -> Evaluate:
    return lambda frame: follow_keys(frame.this, keys, frame, part)


def _walk_from(base: Evaluate, keys: tuple[Key, ...], part: str) -> Evaluate:
    return lambda frame: follow_keys(base(frame), keys, frame, part)


def _up(count: int) -> Evaluate:
    if count == 1:
        return lambda frame: NOTHING if frame.parent is None else frame.parent.this

    def evaluate(frame: Frame) -> Any:
        outer: Frame | None = frame
        for _ in range(count):
            outer = outer and outer.parent
        return NOTHING if outer is None else outer.this

    return evaluate


def _block_parameter(hops: int, index: int) -> Evaluate:
    def evaluate(frame: Frame) -> Any:
        names = frame.names
        for _ in range(hops):
            names = names[2]
        return names[index]

    return evaluate


def _loop_value(name: str, up: int) -> Evaluate:
    """Return the function for ``@root``, or for a value of the loop that is ``up`` loops further out."""
    if name == "root":
        return lambda frame: frame.rendering.root
    evaluate_loop = _LOOP_VALUES.get(name)
    if evaluate_loop is not None and not up:
        return lambda frame: NOTHING if frame.loop is None else evaluate_loop(frame.loop)

    def evaluate(frame: Frame) -> Any:
        loop = frame.loop
        for _ in range(up):
            loop = loop and loop.parent
        return NOTHING if loop is None or evaluate_loop is None else evaluate_loop(loop)

    return evaluate


_LOOP_VALUES: Final[dict[str, Callable[[Any], Any]]] = {
    "index": lambda loop: loop.index,
    "key": lambda loop: loop.key,
    "first": lambda loop: loop.index == 0,
    "last": lambda loop: loop.index == loop.count - 1,
}


def _helper_call(helper: Helper, arguments: list[Evaluate], part: str) -> Evaluate:
    function = helper.function
    if helper.loads:
        return lambda frame: function(
            frame.rendering.loader(part), *[argument(frame) for argument in arguments]
        )
    if len(arguments) == 1:
        only = arguments[0]
        return lambda frame: function(only(frame))
    if len(arguments) == 2:
        first, second = arguments
        return lambda frame: function(first(frame), second(frame))
    return lambda frame: function(*[argument(frame) for argument in arguments])
