"""Parts of conditions that are false for all data."""

from __future__ import annotations

from airflow_allma.flow.diagnostics import quoted
from airflow_allma.flow.expression_fields import Kind
from airflow_allma.flow.lints.lint import FlowView, Warnings, lint, warning

__all__ = ["conditions_never_true"]


@lint(expressions=(Kind.CONDITION,))
def conditions_never_true(view: FlowView) -> Warnings:
    """Yield comparisons that are always false: unknown operators, literals on the left, missing paths."""
    for expression in view.expressions:
        if expression.kind is not Kind.CONDITION or expression.compiled is None:
            # Reported as an error already.
            continue
        for part, reason in view.reader.never_true(expression.source):
            subject = f"{quoted(part)} is" if part else "this condition has a part that is"
            yield warning(expression.path, f"{subject} never true: {reason}")
