"""Targets below other targets of the same step: ``a`` and ``a.b``.

A value is never set below a string, a number or a boolean, and setting ``a`` replaces what is below it. So
one of the two can be lost, which depends on data. Objects can be combined on purpose, so this is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.flow.checks import ExpressionChecks
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.expression_fields import Kind
from airflow_allma.flow.located_expressions import Expression
from airflow_allma.flow.tree_walk import Scope, branches_of

__all__ = ["check_targets"]


@dataclass(frozen=True, slots=True)
class _Target:
    """A target.

    Attributes:
        order: its place among the targets of the step: later ones are set later.
        path: where it is in the flow.
        keys: from the outermost on.
        combines: whether its value is known to be combined with what is below it.
    """

    order: int
    path: Path
    keys: tuple[str, ...]
    combines: bool


def check_targets(
    all_scopes: Sequence[Scope], expressions: Iterable[Expression], checks: ExpressionChecks
) -> Iterator[Diagnostic]:
    """Yield a warning for each target that can be lost because of another target of the same step."""
    targets, outputs = Kind.TARGETS, Kind.PATH_KEYS
    # Only a target of several keys can be below another one; an output's path begins with `$.` or `$[`.
    owners = {
        expression.path[:-2]
        for expression in expressions
        if (expression.kind is targets and _has_separator(expression.source))
        or (expression.kind is outputs and _has_separator(expression.source[2:]))
    }
    if not owners:
        return
    for scope in all_scopes:
        for located in scope.steps.values():
            if located.path in owners:
                yield from _input_conflicts(located.step, located.path, checks)
                yield from _conflicts(_output_targets(located.step, located.path, checks))
            for path, branch in branches_of(located):
                if path in owners:
                    yield from _input_conflicts(branch, path, checks)


def _has_separator(target: str) -> bool:
    return "." in target or "[" in target


def _input_conflicts(owner: Mapping[str, Any], path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    yield from _conflicts(_input_targets(owner, ("inputMappings", "literals"), path, checks))
    yield from _conflicts(_input_targets(owner, ("inputMappingsToSubFlow",), path, checks))


def _input_targets(
    owner: Mapping[str, Any], fields: Sequence[str], path: Path, checks: ExpressionChecks
) -> list[_Target]:
    targets: list[_Target] = []
    for field in fields:
        values = owner.get(field)
        if not isinstance(values, dict):
            continue
        is_literal = field == "literals"
        for target in values if is_literal else sorted(values):
            try:
                keys = checks.target_keys(target)
            except ExpressionSyntaxError:
                continue  # reported as such
            combines = is_literal and _can_be_object(values[target])
            targets.append(_Target(len(targets), (*path, field, target), keys, combines))
    return targets


def _can_be_object(literal: Any) -> bool:
    return isinstance(literal, dict) or (isinstance(literal, str) and literal.startswith("$."))


def _output_targets(owner: Mapping[str, Any], path: Path, checks: ExpressionChecks) -> list[_Target]:
    targets: list[_Target] = []
    mappings = owner.get("outputMappings")
    for target in mappings if isinstance(mappings, dict) else ():
        try:
            keys = checks.path_keys(target)
        except ExpressionSyntaxError:
            continue  # reported as such
        # The root is merged with what is there.
        if keys:
            targets.append(_Target(len(targets), (*path, "outputMappings", target), keys, combines=False))
    return targets


def _conflicts(targets: Sequence[_Target]) -> Iterator[Diagnostic]:
    by_keys = {target.keys: target for target in targets}
    for target in targets:
        for end in range(len(target.keys) - 1, 0, -1):
            above = by_keys.get(target.keys[:end])
            if above is None or above.combines:
                continue
            name, other = quoted(str(target.path[-1])), quoted(str(above.path[-1]))
            if above.order < target.order:
                reason = f"it is left out if {other} gets a string, a number or a boolean"
            else:
                reason = f"{other} is set later and replaces it"
            yield Diagnostic(
                target.path,
                f"{name} is below {other}, which is set too: {reason}; set only one of them",
                Severity.WARNING,
                at_key=True,
            )
            break
