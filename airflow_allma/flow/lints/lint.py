"""What a lint is: a check of what a valid flow probably does not mean. Its findings are warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_allma.common.reference import Reference
from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.flow.checks import ExpressionReader
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity
from airflow_allma.flow.expression_fields import Expression, Kind, expressions_of
from airflow_allma.flow.lints.flow_names import FlowNames, names_of_flow
from airflow_allma.flow.lints.step_order import StepOrder
from airflow_allma.flow.tree_walk import LocatedStep, Scope

__all__ = ["FlowView", "Lint", "Read", "Warnings", "warning"]

Warnings = Iterator[Diagnostic]


@dataclass(frozen=True, slots=True)
class Read:
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


@dataclass(frozen=True)
class FlowView:
    """A flow as lints see it: it may be invalid.

    Attributes:
        flow: the flow with the inherited fields of its steps, a JSON object.
        scopes: its steps; the flow's own scope is the first.
        reader: finds what expressions read.
    """

    flow: Mapping[str, Any]
    scopes: list[Scope]
    reader: ExpressionReader

    @property
    def steps(self) -> Iterator[LocatedStep]:
        """All steps, also those of branches."""
        for scope in self.scopes:
            yield from scope.steps.values()

    @cached_property
    def expressions(self) -> tuple[Expression, ...]:
        """All expressions of the flow."""
        return tuple(expressions_of(self.flow, self.scopes))

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """What all expressions read; those that cannot be parsed read nothing."""
        return tuple(read for expression in self.expressions for read in self._reads_of(expression))

    @cached_property
    def names(self) -> FlowNames:
        """The names that the flow itself sets."""
        return names_of_flow(self.flow, self.scopes, self.expressions, self.reader)

    @cached_property
    def order(self) -> StepOrder:
        """Which steps can run before others."""
        return StepOrder(self.flow, self.scopes)

    def _reads_of(self, expression: Expression) -> Iterator[Read]:
        find: Callable[[str], Iterable[Reference]] | None = {
            Kind.PATH: self.reader.path,
            Kind.CONDITION: self.reader.condition,
            Kind.TEMPLATE: self.reader.template,
        }.get(expression.kind)
        if find is None:
            return
        try:
            for names, in_block in find(expression.source):
                if names[0] == "currentContextData" and names[1:] and not in_block:
                    yield Read(expression, names[1:], in_block)
                else:
                    yield Read(expression, names, in_block)
        except ExpressionSyntaxError:
            # Reported as an error already.
            return


Lint = Callable[[FlowView], Warnings]
"""Yields what it finds in a flow."""


def warning(path: Path, message: str, *, at_key: bool = False) -> Diagnostic:
    """Return a warning."""
    return Diagnostic(path, message, Severity.WARNING, at_key)
