"""One flow's JSON as a model, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from airflow_allma.exceptions import FlowError
from airflow_allma.flow.definitions import StepDefinitions
from airflow_allma.flow.diagnostics import Diagnostic, Path, Problem, Severity, json_path, quoted
from airflow_allma.flow.expression_fields import ExpressionChecks, check_expressions
from airflow_allma.flow.flow_rules import check_flow_fields, check_unknown_fields
from airflow_allma.flow.models import Flow
from airflow_allma.flow.pydantic_errors import diagnostics_of
from airflow_allma.flow.references import check_references
from airflow_allma.flow.step_rules import check_steps
from airflow_allma.flow.steps import AnyStep, ParallelForkManagerStep, Step, StepType
from airflow_allma.flow.tree_walk import Scope, scopes
from airflow_allma.flow.values import is_schedule

__all__ = ["Checked", "ScheduleCheck", "SupportCheck", "Validator", "parse_flow"]

SupportCheck = Callable[[Step], tuple[str, str] | None]
"""Says which field of a step keeps it from running here, and a sentence why; None if it runs."""


class ScheduleCheck(Protocol):
    """Says what is wrong with a schedule and how to mend it; None if nothing is."""

    def __call__(self, schedule: str, /, flow_variables: Mapping[str, Any] | None = None) -> str | None:
        """``flow_variables``: what a start point's expression may name; None for ``airflow.schedule``."""


_NO_DEFINITIONS = StepDefinitions()


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking one flow said.

    Attributes:
        flow: the flow, or None when it has errors.
        findings: errors and warnings, in no order.
    """

    flow: Flow | None
    findings: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class Validator:
    """Checks flows.

    Attributes:
        checks: can expressions be read? None: they are not looked at.
        supported: can a step's type and module run? None: all can.
        schedule: can the flow's schedule be read? None: it is not looked at.
    """

    checks: ExpressionChecks | None = None
    supported: SupportCheck | None = None
    schedule: ScheduleCheck | None = None

    def check(self, raw: Mapping[str, Any], definitions: StepDefinitions = _NO_DEFINITIONS) -> Checked:
        """Check one flow.

        Args:
            raw: the flow as its file says it, a JSON object; not changed.
            definitions: what its steps may inherit from.
        """
        findings: list[Diagnostic] = []
        written = definitions.inherit(raw, findings)
        all_scopes = scopes(written)
        flow: Flow | None = None
        try:
            flow = Flow.model_validate(written, by_alias=True, by_name=False)
        except ValidationError as error:
            findings.extend(diagnostics_of(error, written))
        findings.extend(check_flow_fields(written))
        findings.extend(check_steps(all_scopes))
        findings.extend(check_references(written, all_scopes))
        findings.extend(check_unknown_fields(written, all_scopes))
        if self.checks is not None:
            findings.extend(check_expressions(written, all_scopes, self.checks))
        if self.supported is not None:
            findings.extend(self._unsupported(flow, all_scopes, self.supported))
        if self.schedule is not None:
            findings.extend(_schedule_findings(written, all_scopes, self.schedule))
            findings.extend(_two_schedules(flow))
        findings = _without_consequences(findings)
        broken = any(finding.severity is Severity.ERROR for finding in findings)
        return Checked(None if broken else flow, tuple(findings))

    def _unsupported(
        self, flow: Flow | None, all_scopes: list[Scope], supported: SupportCheck
    ) -> Iterator[Diagnostic]:
        found = _steps_of_model(flow.steps, ("steps",)) if flow else _steps_one_by_one(all_scopes)
        for path, step in found:
            unsupported = supported(step)
            if unsupported is not None:
                field, reason = unsupported
                yield Diagnostic((*path, field), reason)


def _schedule_findings(
    flow: Mapping[str, Any], all_scopes: list[Scope], check: ScheduleCheck
) -> Iterator[Diagnostic]:
    options = flow.get("airflow")
    text = options.get("schedule") if isinstance(options, Mapping) else None
    if isinstance(text, str) and (reason := check(text)):
        yield Diagnostic(("airflow", "schedule"), reason)
    variables = flow.get("flowVariables")
    for scope in all_scopes:
        for place in scope.steps.values():
            text = place.step.get("scheduleExpression")
            # One without the outer form of a schedule is told with the other rules of steps.
            if place.kind == StepType.SCHEDULE_START_POINT and isinstance(text, str) and is_schedule(text):
                reason = check(text, variables if isinstance(variables, Mapping) else {})
                if reason:
                    yield Diagnostic((*place.path, "scheduleExpression"), reason)


def _two_schedules(flow: Flow | None) -> Iterator[Diagnostic]:
    points = [] if flow is None or flow.airflow.schedule is None else flow.enabled_start_points
    if points:
        named = ", ".join(quoted(step.step_instance_id) for step in points)
        yield Diagnostic(
            ("airflow", "schedule"),
            f"a Dag has one schedule, and the flow's start points make it ({named}); remove this one, make a "
            "start point of it, or set `enabled` of the others to false",
        )


def _without_consequences(findings: list[Diagnostic]) -> list[Diagnostic]:
    """A step whose definition is unknown inherits no type: only the first of the two is worth saying."""
    unknown = {finding.path[:-1] for finding in findings if finding.path[-1:] == ("stepDefinitionId",)}
    return [
        finding
        for finding in findings
        if not (finding.path[-1:] == ("stepType",) and finding.path[:-1] in unknown)
    ]


def _steps_of_model(steps: Mapping[str, Step], path: Path) -> Iterator[tuple[Path, Step]]:
    for key, step in steps.items():
        yield (*path, key), step
        if isinstance(step, ParallelForkManagerStep):
            for index, branch in enumerate(step.parallel_branches):
                if branch.steps:
                    yield from _steps_of_model(branch.steps, (*path, key, "parallelBranches", index, "steps"))


@cache
def _any_step() -> TypeAdapter[Step]:
    # Built when a broken flow needs it, since building takes longer than parsing twenty flows.
    return TypeAdapter(AnyStep)


def _steps_one_by_one(all_scopes: list[Scope]) -> Iterator[tuple[Path, Step]]:
    """Those steps of a broken flow that are sound themselves."""
    for scope in all_scopes:
        for place in scope.steps.values():
            step = {"stepInstanceId": place.id, **place.step, "stepType": place.kind}
            try:
                yield place.path, _any_step().validate_python(step, by_alias=True, by_name=False)
            except ValidationError:
                # Reported with the flow already.
                continue


def parse_flow(
    raw: Mapping[str, Any],
    *,
    checks: ExpressionChecks | None = None,
    supported: SupportCheck | None = None,
    source: str = "flow",
) -> Flow:
    """The model of a flow that is at hand as a JSON object.

    Args:
        raw: the flow; not changed.
        checks: can expressions be read? None: they are not looked at.
        supported: can a step run? None: all can.
        source: what error messages call the flow.

    Raises:
        FlowError: there are errors; the message lists them and the warnings, one a line.
    """
    checked = Validator(checks, supported).check(raw)
    if checked.flow is None:
        raise FlowError(
            "\n".join(
                str(Problem(source, 0, 0, json_path(finding.path), finding.message, finding.severity))
                for finding in checked.findings
            )
        )
    return checked.flow
