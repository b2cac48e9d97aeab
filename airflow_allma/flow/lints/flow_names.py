"""The names that a flow sets: at the root of the context, in ``steps_output`` and in ``flow_variables``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.flow.checks import ExpressionReader
from airflow_allma.flow.diagnostics import Path
from airflow_allma.flow.expression_fields import Expression, Kind
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Scope, select

__all__ = ["LATER_STATE", "STATE", "FlowNames", "first_name", "names_of_flow"]

STATE: Final = frozenset(
    {
        "branchId",
        "completedStepCount",
        "currentContextData",
        "currentStepInstanceId",
        "depth",
        "enableExecutionLogs",
        "executionKind",
        "flowDefinitionId",
        "flowDefinitionVersion",
        "flowExecutionId",
        "rootFlowExecutionId",
        "startTime",
        "status",
        "stepRetryAttempts",
        "transitionCounts",
    }
)
"""The names of the run itself that expressions can read."""

LATER_STATE: Final = frozenset({"parentFlowExecutionId"})
"""Further names of the language that have no value here yet."""

_FIRST_NAME: Final = re.compile(r"\[?['\"]?([^.\[\]'\"]+)")
_INPUT_FIELDS: Final = frozenset({"inputMappings", "literals"})


@dataclass(frozen=True, slots=True)
class FlowNames:
    """The names that a flow sets.

    Attributes:
        roots: at the root of the context: by output mappings, by branches, and by the payload's schema.
        outputs: in ``steps_output``, by output mappings and branches: name -> the deeper names below it, None
            for a value as a whole.
        writes_all_outputs: whether a mapping replaces ``steps_output`` or a part of it that is not known.
        variables: in ``flow_variables``.
        payload: the payload's names, as far as a schema or a start point says.
        inputs: path of a step -> names in its input and its templates' own variables.
        targets: path of a step -> the JSONPaths to which it maps its output, in the order of the file.
    """

    roots: frozenset[str]
    outputs: Mapping[str, frozenset[str | None]]
    writes_all_outputs: bool
    variables: frozenset[str]
    payload: frozenset[str]
    inputs: Mapping[Path, frozenset[str]]
    targets: Mapping[Path, tuple[str, ...]]


def first_name(target: str) -> str:
    """Return the first name of a dotted path, ``user`` of ``user.tags[0]``; empty if it has none."""
    match = _FIRST_NAME.match(target)
    return match[1] if match else ""


def names_of_flow(
    flow: Mapping[str, Any],
    all_scopes: Sequence[Scope],
    expressions: Iterable[Expression],
    reader: ExpressionReader,
) -> FlowNames:
    """Return the names that a flow sets."""
    roots: set[str] = set()
    outputs: dict[str, set[str | None]] = {}
    variables = {"flowExecutionId", *_keys(flow.get("flowVariables"))}
    inputs: dict[Path, set[str]] = {}
    targets: dict[Path, list[str]] = {}
    written: list[tuple[str, ...]] = []
    for expression in expressions:
        step = expression.step
        if step is None:
            continue
        if expression.kind is Kind.PATH_KEYS:
            targets.setdefault(step.path, []).append(expression.source)
            written += _written(expression.source, reader)
        elif expression.kind is Kind.TARGETS and expression.field in _INPUT_FIELDS:
            inputs.setdefault(step.path, set()).add(first_name(expression.source))
        elif expression.kind is Kind.TARGETS:
            names = tuple(re.split(r"[.\[\]]+", expression.source.strip("[]")))
            written.append(names)
    for names in written:
        if names[0] == "steps_output" and names[1:]:
            outputs.setdefault(names[1], set()).add(names[2] if names[2:] else None)
        elif names[0] == "flow_variables" and names[1:]:
            variables.add(names[1])
        roots.add(names[0])
    payload, payload_variables = _payload(flow)
    for scope in all_scopes:
        for step in scope.steps.values():
            inputs.setdefault(step.path, set()).update(_template_variables(step))
    return FlowNames(
        frozenset(roots | payload),
        {name: frozenset(deeper) for name, deeper in outputs.items()},
        any(names == ("steps_output",) for names in written),
        frozenset(variables | payload_variables),
        frozenset(payload),
        {path: frozenset(names) for path, names in inputs.items()},
        {path: tuple(sources) for path, sources in targets.items()},
    )


def _written(target: str, reader: ExpressionReader) -> Iterator[tuple[str, ...]]:
    try:
        for names, _ in reader.path(target):
            yield names
    except ExpressionSyntaxError:
        # Reported as an error already.
        return


def _template_variables(step: LocatedStep) -> Iterator[str]:
    for pattern in (
        ("apiUrlTemplate", "contextMappings"),
        ("apiCallDefinition", "apiUrlTemplate", "contextMappings"),
        ("templateContextMappings",),
    ):
        for _, mappings in select(step.step, pattern):
            yield from _keys(mappings)


def _payload(flow: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Return the names of the payload, and those of its flow variables, that the flow itself states."""
    names: set[str] = set()
    variables: set[str] = set()
    for _, properties in select(flow, ("airflow", "inputSchema", "properties")):
        names.update(_keys(properties))
    for _, properties in select(
        flow, ("airflow", "inputSchema", "properties", "flow_variables", "properties")
    ):
        variables.update(_keys(properties))
    for _, template in select(flow, ("steps", ANY, "payloadTemplate")):
        names.update(_keys(template))
    for _, template in select(flow, ("steps", ANY, "payloadTemplate", "flow_variables")):
        variables.update(_keys(template))
    return names, variables


def _keys(value: Any) -> Iterable[str]:
    return value.keys() if isinstance(value, dict) else ()
