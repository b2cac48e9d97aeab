"""How a step's ``onError`` handles an error."""

from __future__ import annotations

from enum import Enum, auto

from airflow_allma.engine.program import CompiledStep
from airflow_allma.engine.state import RunInfo
from airflow_allma.exceptions import PermanentStepError, StepError

__all__ = ["Route", "add_location", "fallback_of", "may_retry", "route_error"]


class Route(Enum):
    """How a run continues after a step failed."""

    RETRY = auto()
    """The caller tries the step again."""
    CONTINUE = auto()
    """The error becomes the step's output."""
    FALLBACK = auto()
    """The run continues at the fallback step."""
    FAIL = auto()
    """The run fails."""


def may_retry(step: CompiledStep, error: StepError) -> bool:
    """Return whether ``onError.retries`` covers this error.

    A PermanentStepError is covered only if ``errorEquals`` has its name: its author knows better then.
    """
    on_error = step.model.on_error
    if on_error is None or on_error.retries is None or on_error.retries.count == 0:
        return False
    names = on_error.retries.error_equals
    if names is None:
        return not isinstance(error, PermanentStepError)
    return error.error_name in names


def route_error(step: CompiledStep, error: StepError, *, has_input: bool, last_try: bool | None) -> Route:
    """Return the route after an error.

    Args:
        step: the step that failed.
        error: the error.
        has_input: whether its input had been built; ``continueOnFailure`` covers only errors after that.
        last_try: False when the caller can try the step again.
    """
    if last_try is False and may_retry(step, error):
        return Route.RETRY
    on_error = step.model.on_error
    if on_error is None:
        return Route.FAIL
    if on_error.continue_on_failure and has_input and not _is_transition_limit(error):
        return Route.CONTINUE
    return Route.FALLBACK if on_error.fallback_step_instance_id is not None else Route.FAIL


def fallback_of(step: CompiledStep) -> str | None:
    """Return the step at which the flow continues when this one fails, if there is one."""
    return step.model.on_error.fallback_step_instance_id if step.model.on_error else None


def _is_transition_limit(error: StepError) -> bool:
    return "maxTransitions" in error.details


def add_location(error: StepError, step_id: str, info: RunInfo) -> StepError:
    """Add where the error happened to its details, and return it; an inner location is kept."""
    error.details.setdefault("failedStepInstanceId", step_id)
    if info.branch_id is not None:
        error.details.setdefault("branchId", info.branch_id)
        error.details.setdefault("itemIndex", info.item_index)
    return error
