"""What a lint is: a check of what a valid flow probably does not mean. Its findings are warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from airflow_allma.common.nearest import nearest
from airflow_allma.common.reference import Reference
from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.flow.checks import ExpressionReader
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.expression_fields import Kind
from airflow_allma.flow.lints.flow_names import FlowNames
from airflow_allma.flow.lints.step_order import StepOrder
from airflow_allma.flow.located_expressions import Expression, read_expressions
from airflow_allma.flow.step_links import StepLinks
from airflow_allma.flow.tree_walk import LocatedStep, Scope

__all__ = ["FlowView", "Lint", "Read", "Warnings", "lint", "unknown_setting", "warning"]

Warnings = Iterator[Diagnostic]


class Read(msgspec.Struct, frozen=True, gc=False):
    """A value that an expression reads.

    Attributes:
        expression: the expression.
        names: the keys from its root; without ``currentContextData``, which is the root again.
        in_block: whether they begin at the value of a template's block, not at the root.
    """

    expression: Expression
    names: tuple[str, ...]
    in_block: bool

    @property
    def path(self) -> Path:
        """Where the expression is."""
        return self.expression.path

    @property
    def step(self) -> LocatedStep | None:
        """The step that contains the expression; None for a field of the flow."""
        return self.expression.step


class FlowView:
    """A flow as lints see it: it may be invalid. All but the arguments is made when a lint needs it.

    Args:
        flow: the flow with the inherited fields of its steps, a JSON object.
        scopes: its steps; the flow's own scope is the first.
        reader: finds what expressions read.
        expressions: its expressions; None: they are not read yet.
        links: which steps name which others; None: they are not known yet.
    """

    def __init__(
        self,
        flow: Mapping[str, Any],
        scopes: Sequence[Scope],
        reader: ExpressionReader,
        expressions: Sequence[Expression] | None = None,
        links: StepLinks | None = None,
    ) -> None:
        self.flow = flow
        self.scopes = scopes
        self.reader = reader
        self.steps = [step for scope in scopes for step in scope.steps.values()]
        self.expressions = (
            read_expressions(flow, scopes, reader).found if expressions is None else expressions
        )
        self.links = links or StepLinks(flow, scopes)

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """What all expressions read; those that do not have the form of one read nothing."""
        return tuple(self._reads())

    @cached_property
    def names(self) -> FlowNames:
        """The names that the flow itself sets."""
        return FlowNames(self.flow, self.scopes, self.expressions, self.reader)

    @cached_property
    def order(self) -> StepOrder:
        """Which steps can run before others."""
        return StepOrder(self.links)

    @cached_property
    def features(self) -> frozenset[object]:
        """What lints can look at: types and fields of steps, fields of the flow, first names, kinds."""
        return frozenset().union(
            self.flow,
            *[step.step for step in self.steps],
            [step.kind for step in self.steps],
            [read.names[0] for read in self.reads],
            [expression.kind for expression in self.expressions],
        )

    def _reads(self) -> Iterator[Read]:
        for expression in self.expressions:
            if expression.kind in _READING:
                for names, in_block, _ in self._references(expression):
                    if names[0] == "currentContextData" and names[1:] and not in_block:
                        yield Read(expression, names[1:], in_block)
                    else:
                        yield Read(expression, names, in_block)

    def _references(self, expression: Expression) -> Sequence[Reference]:
        try:
            if expression.compiled is not None:
                return self.reader.reads(expression.compiled)
            if expression.kind is Kind.TEMPLATE:
                return self.reader.template_reads(expression.source)
        except ExpressionSyntaxError:
            # Reported as an error already.
            pass
        return ()


_READING = frozenset({Kind.PATH, Kind.CONDITION, Kind.TEMPLATE})
_Find = Callable[[FlowView], Warnings]


class Lint:
    """A check of a flow, and what it looks at: flows without any of that need no check.

    Args:
        find: yields what it finds in a flow.
        kinds: types of steps.
        fields: fields of steps, or of the flow.
        names: first names of what expressions read.
        expressions: kinds of expressions.
    """

    def __init__(
        self,
        find: _Find,
        kinds: Iterable[str] = (),
        fields: Iterable[str] = (),
        names: Iterable[str] = (),
        expressions: Iterable[Kind] = (),
    ) -> None:
        self.find = find
        self.__name__ = find.__name__
        self.__doc__ = find.__doc__
        # One set, although a name can be that of a field: the lint then only finds nothing.
        self._looks_at: frozenset[object] = frozenset().union(kinds, fields, names, expressions)

    def __call__(self, view: FlowView) -> Warnings:
        """Yield what it finds in a flow."""
        return self.find(view) if self.concerns(view) else iter(())

    def concerns(self, view: FlowView) -> bool:
        """Return whether the flow can have something that the lint looks at."""
        return not self._looks_at or not self._looks_at.isdisjoint(view.features)


def lint(
    *,
    kinds: Iterable[str] = (),
    fields: Iterable[str] = (),
    names: Iterable[str] = (),
    expressions: Iterable[Kind] = (),
) -> Callable[[_Find], Lint]:
    """Make a lint of a function; see ``Lint`` for what it can look at. Without any it looks at every flow."""
    return lambda find: Lint(find, kinds, fields, names, expressions)


def warning(path: Path, message: str, *, at_key: bool = False) -> Diagnostic:
    """Return a warning."""
    return Diagnostic(path, message, Severity.WARNING, at_key)


def unknown_setting(path: Path, known: Iterable[str], why: str) -> Diagnostic:
    """Return the warning about a setting that does not exist.

    Args:
        path: where it is.
        known: the settings that could be meant.
        why: why it has no effect, and what to do.
    """
    guess = nearest(str(path[-1]), known)
    hint = f"; did you mean {quoted(guess)}?" if guess else ""
    return warning(path, f"this has no effect: {why}{hint}", at_key=True)
