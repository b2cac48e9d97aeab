"""The life cycle of a step: delay, input, handler with retries, validation, offload, commit, ``onError``.

Every step runs through these functions, in every mode. A step whose work is spread over processes (a fork
whose items run as tasks) runs through the same ones: ``start_step`` in the process where it begins, and
``complete_step`` or ``fail_step`` where its output is known.
"""

from __future__ import annotations

import random
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

from airflow_allma.common.work_budget import MEASURE_AFTER, begin_step, note_data
from airflow_allma.engine.checkpoints import pass_milestone
from airflow_allma.engine.context_size import json_size_up_to
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.failures import Route, add_location, fallback_of, route_error
from airflow_allma.engine.offload import needs_offload, offload_output
from airflow_allma.engine.outside_calls import NO_CALLS
from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.engine.pointer_loading import evaluate, fetch
from airflow_allma.engine.program import CompiledStep, Program
from airflow_allma.engine.retry import call_with_retries, check_output
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, SegmentResult, SegmentStatus
from airflow_allma.engine.step_execution import StepExecution, commit_output, discards_context
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.suspension import SuspendStep
from airflow_allma.exceptions import AllmaError, StepError

__all__ = [
    "NeedsWaiting",
    "complete_step",
    "fail_step",
    "pass_checkpoint",
    "repeat_step",
    "run_inline_step",
    "run_one_step",
    "run_step",
    "skip_step",
    "start_step",
]

_MAX_FALLBACKS: Final = 1000


class NeedsWaiting(Exception):  # noqa: N818 - control flow inside the engine, never raised to callers
    """A run that was not expected to wait has to: continue from ``state`` on an event loop.

    Attributes:
        state: the run's state before the step that has to wait; None when the run has not begun.
    """

    def __init__(self, state: RunState | None = None) -> None:
        super().__init__()
        self.state = state


def _begin(step: CompiledStep, state: RunState, info: RunInfo, services: Services) -> StepExecution:
    state.path.append(step.id)
    begin_step(services.settings.max_step_work, step.id)
    if step.milestone is not None:
        pass_checkpoint(step, state, info, services)
    is_timed = services.recorder is not None or services.tracer is not None
    return StepExecution(step, state, info, services, None, 1, perf_counter() if is_timed else 0.0)


def pass_checkpoint(step: CompiledStep, state: RunState, info: RunInfo, services: Services) -> None:
    """Note that the run has passed the checkpoint of a step, if it has one and has not been further."""
    reached = None if step.milestone is None else pass_milestone(step.milestone, state.checkpoint)
    if reached is not None:
        state.checkpoint = reached
        if services.on_checkpoint is not None:
            services.on_checkpoint(reached, info)


def run_inline_step(
    step: CompiledStep, state: RunState, info: RunInfo, services: Services
) -> SegmentResult | None:
    """Run a step that never waits, without an event loop.

    Returns:
        None if the run continues, a result if it failed.

    Raises:
        PointerNotLoaded: a pointer has to be loaded first; nothing has changed.
        NeedsWaiting: the output has to be stored; nothing has changed.
    """
    execution = _begin(step, state, info, services)
    if step.ends_path:
        state.next_step = None
        execution.record()
        return None
    load = services.pointers.load
    try:
        step_input = step.input_plan.build(state.context, info, load, services.log, step.id, state)
        execution.step_input = step_input
        output = step.call_inline(
            StepCall(step.id, step_input, state.context, info, services, load, NO_CALLS, state)
        )
        if step.required:
            check_output(execution, output, load)
        if services.settings.offload_location is not None and needs_offload(step, output, state, services):
            raise NeedsWaiting  # noqa: TRY301 - not an error: the caller takes another path
        commit_output(execution, output, output)
    except (PointerNotLoaded, NeedsWaiting):
        state.path.pop()
        raise
    except Exception as error:  # noqa: BLE001 - the flow's onError handles whatever a handler raises
        try:
            return _handle_error(execution, error, last_try=True)
        except PointerNotLoaded:
            state.path.pop()
            raise
    # Looked at here, since calling a function would cost more.
    if services.recorder is not None or (
        services.tracer is not None and not (state.ends_untraced and state.next_step is None)
    ):
        execution.record()
    return None


async def run_step(
    step: CompiledStep, state: RunState, info: RunInfo, services: Services, last_try: bool | None
) -> SegmentResult | None:
    """Run any step.

    Args:
        step: the step.
        state: the run's state, which is advanced.
        info: the run.
        services: what the step can use.
        last_try: see ``run_segment``.

    Returns:
        None if the run continues, a result if it failed, is to be retried, or waits.
    """
    execution = _begin(step, state, info, services)
    if state.suspended is not None:
        _resume(execution)
    try:
        if step.model.delay is not None and execution.resumes is None:
            await _delay(execution, "before")
        output = await call_with_retries(execution, last_try=last_try)
        if services.settings.max_context_bytes and not step.notes_data:
            note_data(json_size_up_to(output, MEASURE_AFTER))
        if step.model.delay is not None or not _commit_at_once(execution, output):
            await _finish(execution, output)
    except SuspendStep as suspension:
        state.path.pop()
        return SegmentResult(SegmentStatus.SUSPENDED, state, waits=suspension.waits)
    except Exception as error:  # noqa: BLE001 - the flow's onError handles whatever a handler raises
        return await _fail(execution, error, last_try=last_try)
    return None


def _resume(execution: StepExecution) -> None:
    """Take what the step kept when it suspended out of the run's state."""
    suspended, execution.state.suspended = execution.state.suspended, None
    if suspended is not None and suspended.step_id == execution.step.id:
        execution.resumes = suspended
        execution.step_input = suspended.step_input
        execution.began_before = suspended.began


async def run_one_step(program: Program, state: RunState, info: RunInfo, services: Services) -> SegmentResult:
    """Run the state's next step alone.

    Returns:
        LEFT with the step at which the run would continue, COMPLETED, or FAILED.
    """
    step = program.steps[state.next_step or ""]
    if step.ends_path:
        result = run_inline_step(step, state, info, services)
    else:
        result = await run_step(step, state, info, services, None)
    return result or _left(state)


async def start_step(program: Program, step_id: str, services: Services) -> None:
    """Begin a step whose work is done elsewhere: wait its ``delay`` before the work."""
    await _delay_step(program.steps[step_id], "before", services)


async def complete_step(
    program: Program,
    state: RunState,
    step_id: str,
    output: Any,
    *,
    info: RunInfo,
    services: Services,
) -> SegmentResult:
    """End a step whose work was done elsewhere: validate, delay, offload and commit its output.

    Returns:
        LEFT with the next step, COMPLETED, or FAILED.
    """
    execution = _begin_elsewhere(program, state, step_id, info, services)
    try:
        if execution.step.required:
            await evaluate(services, check_output, execution, output, services.pointers.load)
        await _finish(execution, output)
    except Exception as error:  # noqa: BLE001 - an error of the step, like any other
        return await _fail(execution, error, last_try=True) or _left(state)
    return _left(state)


async def fail_step(
    program: Program,
    state: RunState,
    step_id: str,
    error: StepError,
    *,
    info: RunInfo,
    services: Services,
    last_try: bool | None = True,
) -> SegmentResult:
    """End a step whose work failed elsewhere: ``onError`` decides, as for any step.

    Returns:
        LEFT or COMPLETED if the flow continues, RETRY (only with ``last_try`` False), or FAILED.
    """
    execution = _begin_elsewhere(program, state, step_id, info, services)
    return await _fail(execution, error, last_try=last_try) or _left(state)


async def skip_step(
    program: Program, state: RunState, step_id: str, *, info: RunInfo, services: Services
) -> SegmentResult:
    """Continue as if a step had run with the output ``{}``, without validating it.

    Returns:
        LEFT with the next step, or COMPLETED.

    Raises:
        AllmaError: the next step cannot be determined, or a transition was taken too often.
    """
    execution = _begin_elsewhere(program, state, step_id, info, services)
    await _commit(execution, {})
    return _left(state)


async def repeat_step(
    program: Program, state: RunState, step_id: str, output: Any, *, info: RunInfo, services: Services
) -> None:
    """Advance a state as a step did that ran before with this output; nothing is stored or recorded.

    Raises:
        AllmaError: the next step cannot be determined, or a transition was taken too often.
    """
    execution = _begin_elsewhere(program, state, step_id, info, services)
    if services.tracer is None:
        await evaluate(services, commit_output, execution, output, output)
        return
    step_input = None
    # Only for the trace: no object is loaded for it.
    with suppress(AllmaError, PointerNotLoaded):
        plan, load = execution.step.input_plan, services.pointers.load
        step_input = plan.build(state.context, info, load, services.log, step_id, state)
    await evaluate(services, commit_output, execution, output, output)
    services.tracer.trace_of(state, info).add_repeated(execution.step, state, step_input)


def _begin_elsewhere(
    program: Program, state: RunState, step_id: str, info: RunInfo, services: Services
) -> StepExecution:
    execution = _begin(program.steps[step_id], state, info, services)
    execution.step_input = {}
    return execution


def _left(state: RunState) -> SegmentResult:
    status = SegmentStatus.COMPLETED if state.next_step is None else SegmentStatus.LEFT
    return SegmentResult(status, state)


async def _delay(execution: StepExecution, position: str) -> None:
    await _delay_step(execution.step, position, execution.services)


async def _delay_step(step: CompiledStep, position: str, services: Services) -> None:
    """Wait the step's ``delay`` if it is at this position."""
    delay = step.model.delay
    if delay is None or delay.position != position:
        return
    if delay.milliseconds is not None:
        await services.sleep(delay.milliseconds / 1000)
    elif delay.delay_from is not None and delay.delay_to is not None:
        await services.sleep(random.randint(delay.delay_from, delay.delay_to) / 1000)  # noqa: S311 - no secret


async def _finish(execution: StepExecution, output: Any) -> None:
    if execution.step.model.delay is not None:
        await _delay(execution, "after")
    await _commit(execution, output)
    execution.record()


def _commit_at_once(execution: StepExecution, output: Any) -> bool:
    """Commit and record an output that nothing reads but the fork; return False if it is another one."""
    if not discards_context(execution.step, execution.state):
        return False
    commit_output(execution, output, output)
    execution.record()
    return True


async def _commit(execution: StepExecution, output: Any) -> None:
    whole = output
    if needs_offload(execution.step, output, execution.state, execution.services):
        whole = await offload_output(execution, output)
    try:
        commit_output(execution, output, whole)
    except PointerNotLoaded as missing:
        await fetch(missing.pointer, execution.services)
        await evaluate(execution.services, commit_output, execution, output, whole)


async def _fail(
    execution: StepExecution, raised: Exception, *, last_try: bool | None
) -> SegmentResult | None:
    """Handle an error, loading the pointers that the next step depends on."""
    while True:
        try:
            return _handle_error(execution, raised, last_try=last_try)
        except PointerNotLoaded as missing:
            try:
                await fetch(missing.pointer, execution.services)
            except StepError as second:
                return _handle_error(execution, second, last_try=True, may_continue=False)


def _handle_error(
    execution: StepExecution, raised: Exception, *, last_try: bool | None, may_continue: bool = True
) -> SegmentResult | None:
    """Apply the step's ``onError``; return None if the run continues.

    Raises:
        PointerNotLoaded: the flow would continue after the error, and where depends on a pointer; nothing has
            changed.
    """
    step, services, state = execution.step, execution.services, execution.state
    unexpected = raised.__cause__ if isinstance(raised, StepError) else raised
    if unexpected is not None:
        services.log.debug("Step %s raised", step.id, exc_info=unexpected)
    error = services.secrets.mask_error(add_location(step_error_from(raised), step.id, execution.info))
    has_input = may_continue and execution.step_input is not None
    route = route_error(step, error, has_input=has_input, last_try=last_try)
    shown = error.as_dict()
    if route is Route.RETRY:
        state.path.pop()
        execution.record(shown)
        return SegmentResult(SegmentStatus.RETRY, state, shown)
    if route is Route.CONTINUE:
        try:
            commit_output(execution, shown, shown)
        except Exception as second:  # noqa: BLE001 - an error of the step, like the first
            # A transition was taken too often or cannot be determined: now only a fallback can help.
            return _handle_error(execution, second, last_try=True, may_continue=False)
    if route is Route.FALLBACK:
        if _loops_through_fallback(execution):
            route = Route.FAIL
        else:
            state.next_step = fallback_of(step)
    execution.record(shown)
    return SegmentResult(SegmentStatus.FAILED, state, shown) if route is Route.FAIL else None


def _loops_through_fallback(execution: StepExecution) -> bool:
    """Count a fallback; return whether the step has fallen back so often that it must be a loop."""
    counts = execution.state.transition_counts
    counter = f"{execution.step.id}:fallback"
    counts[counter] = counts.get(counter, 0) + 1
    if counts[counter] <= _MAX_FALLBACKS:
        return False
    execution.services.log.error(
        "Step %s has fallen back %d times in this run: its fallback leads back to it",
        execution.step.id,
        _MAX_FALLBACKS,
    )
    return True
