"""The names that a flow sets: at the root of the context, in ``steps_output`` and in ``flow_variables``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from airflow_allma.flow.checks import ExpressionReader
from airflow_allma.flow.diagnostics import Path
from airflow_allma.flow.expression_fields import Kind
from airflow_allma.flow.located_expressions import Expression
from airflow_allma.flow.tree_walk import LocatedStep, Scope, select

__all__ = ["ROOTS", "FlowNames", "first_name"]

ROOTS: Final = ("currentItem", "flow_variables", "initialContextData", "steps_output")
"""The names at the root of the context that every run has, or every branch run."""

_FIRST_NAME: Final = re.compile(r"\[?['\"]?([^.\[\]'\"]+)")
_INPUT_FIELDS: Final = frozenset({"inputMappings", "literals"})
_VARIABLES: Final = (
    ("apiUrlTemplate", ("contextMappings",)),
    ("apiCallDefinition", ("apiUrlTemplate", "contextMappings")),
    ("templateContextMappings", ()),
)
"""Where a step names variables of its templates: the field, and the way from its value."""


def first_name(target: str) -> str:
    """Return the first name of a dotted path, ``user`` of ``user.tags[0]``; empty if it has none."""
    if target.isidentifier():
        return target
    match = _FIRST_NAME.match(target)
    return match[1] if match else ""


class FlowNames:
    """The names that a flow sets.

    Attributes:
        roots: at the root of the context: by output mappings, by branches, and by the payload's schema.
        outputs: in ``steps_output``, by output mappings and branches: name -> the deeper names below it, None
            for a value as a whole.
        writes_all_outputs: whether a mapping replaces ``steps_output`` or a part of it that is not known.
        variables: in ``flow_variables``.
        payload: the payload's names, as far as a schema or a start point says.
        targets: path of a step -> the JSONPaths to which it maps its output, in the order of the file.
    """

    def __init__(
        self,
        flow: Mapping[str, Any],
        all_scopes: Sequence[Scope],
        expressions: Iterable[Expression],
        reader: ExpressionReader,
    ) -> None:
        self.targets: dict[Path, list[str]] = {}
        self._input_targets: dict[Path, list[str]] = {}
        self._inputs: dict[Path, frozenset[str]] = {}
        written: list[tuple[str, ...]] = []
        for expression in expressions:
            step = expression.step
            if step is None:
                continue
            if expression.kind is Kind.PATH_KEYS:
                self.targets.setdefault(step.path, []).append(expression.source)
                if expression.compiled is not None:
                    written += [one.names for one in reader.reads(expression.compiled)]
            elif expression.kind is Kind.TARGETS and expression.field in _INPUT_FIELDS:
                self._input_targets.setdefault(step.path, []).append(expression.source)
            elif expression.kind is Kind.TARGETS:
                written.append(tuple(re.split(r"[.\[\]]+", expression.source.strip("[]"))))
        self.payload, variables = _payload(flow, all_scopes[0])
        self.roots = {names[0] for names in written} | self.payload
        self.variables = {"flowExecutionId", *_keys(flow.get("flowVariables")), *variables}
        self.outputs: dict[str, set[str | None]] = {}
        for names in written:
            if names[0] == "steps_output" and names[1:]:
                self.outputs.setdefault(names[1], set()).add(names[2] if names[2:] else None)
            elif names[0] == "flow_variables" and names[1:]:
                self.variables.add(names[1])
        self.writes_all_outputs = any(names == ("steps_output",) for names in written)

    def inputs_of(self, step: LocatedStep | None) -> frozenset[str]:
        """Return the names in a step's input, and its templates' own variables; none without a step."""
        if step is None:
            return frozenset()
        if step.path not in self._inputs:
            mapped = map(first_name, self._input_targets.get(step.path, ()))
            self._inputs[step.path] = frozenset([*mapped, *_template_variables(step)])
        return self._inputs[step.path]


def _template_variables(step: LocatedStep) -> Iterator[str]:
    for field, pattern in _VARIABLES:
        if field in step.step:
            for _, mappings in select(step.step[field], pattern):
                yield from _keys(mappings)


def _payload(flow: Mapping[str, Any], main: Scope) -> tuple[set[str], set[str]]:
    """Return the names of the payload, and those of its flow variables, that the flow itself states."""
    names: set[str] = set()
    variables: set[str] = set()
    for _, properties in select(flow, ("airflow", "inputSchema", "properties")):
        names.update(_keys(properties))
        for _, inner in select(properties, ("flow_variables", "properties")):
            variables.update(_keys(inner))
    for step in main.steps.values():
        template = step.step.get("payloadTemplate")
        names.update(_keys(template))
        for _, inner in select(template, ("flow_variables",)):
            variables.update(_keys(inner))
    return names, variables


def _keys(value: Any) -> Iterable[str]:
    return value.keys() if isinstance(value, dict) else ()
