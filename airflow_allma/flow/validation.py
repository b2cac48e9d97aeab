"""One flow's JSON as a model, or all of its errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from airflow_allma.exceptions import FlowError
from airflow_allma.flow.airflow_limits import check_airflow_limits
from airflow_allma.flow.catalog import EMPTY_CATALOG, Catalog
from airflow_allma.flow.checks import FlowChecks, ScheduleCheck, SupportCheck
from airflow_allma.flow.completion_actions import CompletionActionType, data_save_step
from airflow_allma.flow.cross_references import check_cross_references
from airflow_allma.flow.definitions import StepDefinitions
from airflow_allma.flow.diagnostics import Diagnostic, Path, Problem, Severity, json_path, quoted
from airflow_allma.flow.event_rules import check_events
from airflow_allma.flow.flow_rules import check_flow_fields
from airflow_allma.flow.fork_cycles import check_fork_cycles
from airflow_allma.flow.formats import is_schedule
from airflow_allma.flow.lints import FlowView, check_lints
from airflow_allma.flow.located_expressions import Expression, read_expressions
from airflow_allma.flow.mcp_rules import check_mcp_steps
from airflow_allma.flow.models import Flow
from airflow_allma.flow.module_settings import check_module_settings
from airflow_allma.flow.normalize import dotted_mappings
from airflow_allma.flow.notification_rules import check_notifications
from airflow_allma.flow.own_runs import check_own_runs
from airflow_allma.flow.pydantic_errors import diagnostics_of
from airflow_allma.flow.references import UNREACHED, check_references
from airflow_allma.flow.secret_rules import check_secrets
from airflow_allma.flow.step_links import StepLinks
from airflow_allma.flow.step_rules import check_steps
from airflow_allma.flow.steps import AnyStep, ParallelForkManagerStep, Step, StepType
from airflow_allma.flow.target_conflicts import check_targets
from airflow_allma.flow.task_count import check_task_count
from airflow_allma.flow.tree_walk import Scope, scopes
from airflow_allma.flow.unknown_fields import check_unknown_fields

__all__ = ["MAX_STEPS", "CheckedFlow", "check_flow", "parse_flow"]

MAX_STEPS: Final = 2_000
"""Steps refer to each other, so checking takes longer than in proportion; Airflow is slow with far fewer."""
_MAX_COUNTED: Final = 100_000
_NO_CHECKS: Final = FlowChecks()
_LINKS: Final = frozenset(
    {"defaultNextStepInstanceId", "fallbackStepInstanceId", "parallelBranches", "transitions"}
)
"""The fields that name steps."""


@dataclass(frozen=True, slots=True)
class CheckedFlow:
    """The result of checking one flow.

    Attributes:
        flow: the flow; None if it has errors.
        diagnostics: errors and warnings, in no order.
    """

    flow: Flow | None
    diagnostics: tuple[Diagnostic, ...]


def check_flow(
    raw: Mapping[str, Any],
    definitions: StepDefinitions | None = None,
    checks: FlowChecks = _NO_CHECKS,
    *,
    catalog: Catalog = EMPTY_CATALOG,
) -> CheckedFlow:
    """Check one flow.

    Args:
        raw: the flow as its file has it, a JSON object; not changed.
        definitions: what its steps may inherit from; None: only what is built in.
        checks: what is checked beyond the flow language.
        catalog: what else it can refer to.
    """
    diagnostics: list[Diagnostic] = []
    inherited = (definitions or StepDefinitions(EMPTY_CATALOG)).inherit(raw, diagnostics)
    if (count := _count_steps(inherited)) > MAX_STEPS:
        too_many = f"{count}" if count < _MAX_COUNTED else f"more than {_MAX_COUNTED}"
        message = (
            f"a flow can have at most {MAX_STEPS} steps, and this one has {too_many}; "
            "split it into several flows"
        )
        return CheckedFlow(None, (Diagnostic(("steps",), message),))
    inherited = dotted_mappings(inherited)
    all_scopes = scopes(inherited)
    flow: Flow | None = None
    try:
        flow = Flow.model_validate(inherited, by_alias=True, by_name=False)
    except ValidationError as error:
        diagnostics += diagnostics_of(error, inherited)
    diagnostics += check_flow_fields(inherited)
    diagnostics += check_notifications(inherited, checks)
    diagnostics += check_events(inherited, all_scopes[0].steps.values())
    diagnostics += check_airflow_limits(inherited, all_scopes)
    diagnostics += check_steps(inherited, all_scopes)
    links = StepLinks(inherited, all_scopes)
    diagnostics += check_references(links)
    diagnostics += check_fork_cycles(all_scopes)
    diagnostics += check_own_runs(inherited, links)
    diagnostics += check_task_count(inherited, all_scopes)
    diagnostics += check_unknown_fields(inherited, all_scopes)
    expressions: list[Expression] | None = None
    if checks.expressions is not None:
        expressions, invalid = read_expressions(inherited, all_scopes, checks.expressions)
        diagnostics += invalid
        diagnostics += check_targets(all_scopes, expressions, checks.expressions)
    if checks.supported is not None:
        diagnostics += _check_support(flow, all_scopes, checks.supported)
    if checks.schedule is not None:
        diagnostics += _check_schedules(inherited, all_scopes, checks.schedule)
        diagnostics += _check_single_schedule(flow)
    if checks.reader is not None:
        view = FlowView(inherited, all_scopes, checks.reader, expressions, links)
        diagnostics += check_secrets(view, checks.allowed)
        diagnostics += check_lints(view)
    if checks.settings is not None:
        diagnostics += check_module_settings(inherited, all_scopes, checks.settings)
    diagnostics += check_cross_references(all_scopes, catalog)
    diagnostics += check_mcp_steps(all_scopes, catalog, checks.allowed)
    diagnostics = _without_consequences(diagnostics)
    is_broken = any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics)
    return CheckedFlow(None if is_broken else flow, tuple(diagnostics))


def parse_flow(raw: Mapping[str, Any], checks: FlowChecks = _NO_CHECKS, *, source: str = "flow") -> Flow:
    """Return the model of a flow that is already a JSON object.

    Args:
        raw: the flow; not changed.
        checks: what is checked beyond the flow language.
        source: what error messages call the flow.

    Raises:
        FlowError: there are errors; the message lists them and the warnings, one a line.
    """
    checked = check_flow(raw, checks=checks)
    if checked.flow is None:
        raise FlowError(
            "\n".join(
                str(
                    Problem(source, 0, 0, json_path(diagnostic.path), diagnostic.message, diagnostic.severity)
                )
                for diagnostic in checked.diagnostics
            )
        )
    return checked.flow


def _count_steps(flow: Mapping[str, Any]) -> int:
    """Return the number of steps, including those in branches, or ``_MAX_COUNTED`` if there are more."""
    count = 0
    waiting = [flow.get("steps")]
    # Definitions that inherit from each other can multiply: what is shared in memory is counted each time.
    while waiting and count < _MAX_COUNTED:
        steps = waiting.pop()
        inside = steps.values() if isinstance(steps, dict) else steps if isinstance(steps, list) else ()
        count += len(inside)
        for step in inside:
            branches = step.get("parallelBranches") if isinstance(step, dict) else None
            if isinstance(branches, list):
                waiting.extend(branch.get("steps") for branch in branches if isinstance(branch, dict))
    return min(count, _MAX_COUNTED)


def _check_support(
    flow: Flow | None, all_scopes: list[Scope], supported: SupportCheck
) -> Iterator[Diagnostic]:
    steps = _steps_of_model(flow.steps, ("steps",)) if flow else _steps_one_by_one(all_scopes)
    for path, step in chain(steps, _steps_of_actions(flow)):
        unsupported = supported(step)
        if unsupported is not None:
            field, reason = unsupported
            yield Diagnostic((*path, field), reason)


def _check_schedules(
    flow: Mapping[str, Any], all_scopes: list[Scope], check: ScheduleCheck
) -> Iterator[Diagnostic]:
    options = flow.get("airflow")
    schedule = options.get("schedule") if isinstance(options, Mapping) else None
    if isinstance(schedule, str) and (reason := check(schedule)):
        yield Diagnostic(("airflow", "schedule"), reason)
    variables = flow.get("flowVariables")
    for scope in all_scopes:
        for step in scope.steps.values():
            expression = step.step.get("scheduleExpression")
            # An expression without the outer form of a schedule is reported by the rules of steps.
            if (
                step.kind == StepType.SCHEDULE_START_POINT
                and isinstance(expression, str)
                and is_schedule(expression)
            ):
                reason = check(expression, variables if isinstance(variables, Mapping) else {})
                if reason:
                    yield Diagnostic((*step.path, "scheduleExpression"), reason)


def _check_single_schedule(flow: Flow | None) -> Iterator[Diagnostic]:
    points = [] if flow is None or flow.airflow.time_schedule is None else flow.enabled_start_points
    if points:
        names = ", ".join(quoted(step.step_instance_id) for step in points)
        yield Diagnostic(
            ("airflow", "schedule"),
            f"a Dag has one schedule, and the flow's start points define it ({names}); remove this one, make "
            "it a start point, or set `enabled` of the start points to false",
        )


def _without_consequences(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """Drop what follows from another error.

    A step whose definition is unknown inherits no type either. Where a step fails to name the next one, that
    step is not reached; the steps of a list have an order that needs a hint of its own.
    """
    broken = {
        _steps_around(diagnostic.path)
        for diagnostic in diagnostics
        if diagnostic.severity is Severity.ERROR
        and not _LINKS.isdisjoint(diagnostic.path[len(_steps_around(diagnostic.path)) :])
    }
    if broken:
        diagnostics = [
            one
            for one in diagnostics
            if not (
                one.message.startswith(UNREACHED)
                and one.path[:-1] in broken
                and isinstance(one.path[-1], str)
            )
        ]
    unknown = {
        diagnostic.path[:-1] for diagnostic in diagnostics if diagnostic.path[-1:] == ("stepDefinitionId",)
    }
    return [
        diagnostic
        for diagnostic in diagnostics
        if not (diagnostic.path[-1:] == ("stepType",) and diagnostic.path[:-1] in unknown)
    ]


def _steps_around(path: Path) -> Path:
    """Return the path of the innermost map or list of steps around a value."""
    last = max((index for index, key in enumerate(path) if key == "steps"), default=-1)
    return path[: last + 1]


def _steps_of_model(steps: Mapping[str, Step], path: Path) -> Iterator[tuple[Path, Step]]:
    for key, step in steps.items():
        yield (*path, key), step
        if isinstance(step, ParallelForkManagerStep):
            for index, branch in enumerate(step.parallel_branches):
                at = (*path, key, "parallelBranches", index)
                if branch.sub_flow is not None:
                    yield at, branch.sub_flow
                elif branch.steps:
                    yield from _steps_of_model(branch.steps, (*at, "steps"))


def _steps_of_actions(flow: Flow | None) -> Iterator[tuple[Path, Step]]:
    for index, action in enumerate(flow.on_completion_actions if flow else ()):
        if action.action_type is CompletionActionType.DATA_SAVE and action.module_identifier:
            yield ("onCompletionActions", index), data_save_step(action, index)


@cache
def _any_step() -> TypeAdapter[Step]:
    # Built only when a broken flow needs it, since building takes longer than parsing twenty flows.
    return TypeAdapter(AnyStep)


def _steps_one_by_one(all_scopes: list[Scope]) -> Iterator[tuple[Path, Step]]:
    """Yield those steps of a broken flow that are valid themselves."""
    for scope in all_scopes:
        for located in scope.steps.values():
            step = {"stepInstanceId": located.id, **located.step, "stepType": located.kind}
            try:
                yield located.path, _any_step().validate_python(step, by_alias=True, by_name=False)
            except ValidationError:
                # Reported with the flow already.
                continue
