"""Running a segment of a flow: take the context, start at a step, follow transitions, stop outside.

This is the one way in which steps run, in every mode. Steps that wait for nothing are run by plain calls, so
that a branch of such steps costs no event loop; all others go through the same functions, awaited.
"""

from __future__ import annotations

from collections.abc import Container
from time import perf_counter
from typing import Any, Final

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.failures import Route, decide, failed_step, fallback_of
from airflow_allma.engine.offload import offloaded_output, wants_offload
from airflow_allma.engine.pointers import PointerNotLoaded, fetch, resolving
from airflow_allma.engine.program import CompiledStep, Program
from airflow_allma.engine.retry import call_handler, call_with_tries, pause, validate
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, SegmentResult, SegmentStatus
from airflow_allma.engine.step_execution import StepExecution, commit_output
from airflow_allma.engine.steps.base import StepCall
from airflow_allma.exceptions import StepError

__all__ = ["NeedsWaiting", "complete_step", "fail_step", "pass_step", "run_inline", "run_segment"]


_MOST_FALLBACKS: Final = 1000
_COMPLETED: Final = SegmentStatus.COMPLETED  # looking up a member takes longer than making a result


class NeedsWaiting(Exception):  # noqa: N818 - control flow inside the engine, never seen outside
    """A run that was thought to need no waiting does: go on from ``state`` on an event loop.

    Attributes:
        state: where the run stands, before the step that has to wait; None when it has not begun.
    """

    def __init__(self, state: RunState | None = None) -> None:
        super().__init__()
        self.state = state


async def run_segment(
    program: Program,
    state: RunState,
    info: RunInfo,
    services: Services,
    *,
    inside: Container[str] | None = None,
    last_try: bool | None = None,
) -> SegmentResult:
    """Run from ``state.next_step`` until the run leaves the segment, ends, fails or suspends.

    Args:
        program: the steps.
        state: where to begin; it is changed, its context replaced.
        info: the run.
        services: what steps may use.
        inside: the steps of the segment; None: all.
        last_try: who does the tries of ``onError.retries``. None: the engine, with waits in between. False:
            the caller, who gets RETRY for an error that may be tried again. True: nobody any more.

    Returns:
        How it ended. A failure of a step is a result, not an exception.
    """
    while True:
        step_id = state.next_step
        if step_id is None:
            return SegmentResult(SegmentStatus.COMPLETED, state)
        if inside is not None and step_id not in inside:
            return SegmentResult(SegmentStatus.LEFT, state)
        step = program.steps[step_id]
        ended: SegmentResult | None
        if step.is_inline:
            try:
                ended = _run_inline_step(step, state, info, services)
            except (PointerNotLoaded, NeedsWaiting):
                # Nothing has been written yet: the same step again, with waiting.
                ended = await _run_step(step, state, info, services, last_try)
        else:
            ended = await _run_step(step, state, info, services, last_try)
        if ended is not None:
            return ended


def run_inline(program: Program, state: RunState, info: RunInfo, services: Services) -> SegmentResult:
    """Run to the end without an event loop; every step that is met must be inline.

    Raises:
        NeedsWaiting: a pointer has to be loaded or a value offloaded; ``run_segment`` takes its state on.
    """
    steps = program.steps
    try:
        while state.next_step is not None:
            ended = _run_inline_step(steps[state.next_step], state, info, services)
            if ended is not None:
                return ended
    except (PointerNotLoaded, NeedsWaiting) as need:
        raise NeedsWaiting(state) from need
    return SegmentResult(_COMPLETED, state)


def _run_inline_step(
    step: CompiledStep, state: RunState, info: RunInfo, services: Services
) -> SegmentResult | None:
    """One inline step; None when the run goes on, a result when it failed."""
    started = perf_counter() if services.recorder is not None else 0.0
    run = StepExecution(step, state, info, services, None, 1, started)
    state.path.append(step.id)
    if step.ends_path:
        state.next_step = None
        run.record()
        return None
    load = services.pointers.load
    try:
        made = step.input_plan.build(state.context, info, load, services.log)
        run.step_input = made
        output = step.handler(StepCall(step.id, made, state.context, info, services, load))  # type: ignore[misc]
        if step.required:
            validate(step, output, load)
        if services.settings.offload_location is not None and wants_offload(step, output, state, services):
            raise NeedsWaiting  # noqa: TRY301 - not an error: the caller goes another way
        commit_output(run, output, output)
    except (PointerNotLoaded, NeedsWaiting):
        state.path.pop()
        raise
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the flow's to deal with
        try:
            return _fail(run, error, last_try=True)
        except PointerNotLoaded:
            state.path.pop()
            raise
    if services.recorder is not None:
        run.record()
    return None


async def _run_step(
    step: CompiledStep, state: RunState, info: RunInfo, services: Services, last_try: bool | None
) -> SegmentResult | None:
    started = perf_counter() if services.recorder is not None else 0.0
    run = StepExecution(step, state, info, services, None, 1, started)
    state.path.append(step.id)
    try:
        await pause(step, "before", services)
        output = await call_with_tries(run, _work, last_try=last_try)
        await pause(step, "after", services)
        await _settle(run, output)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the flow's to deal with
        return await _failed(run, error, last_try=last_try)
    run.record()
    return None


async def _work(run: StepExecution) -> Any:
    """One try of a step: make its input, if that is not done yet, and its output."""
    step, services = run.step, run.services
    if step.fork is not None:
        # A fork runs segments, and a segment runs forks.
        from airflow_allma.engine.forking import run_fork

        run.step_input = {}
        output = await run_fork(step.fork, run.state.context, run.info, services)
        await _require(run, output)
        return output
    if run.step_input is None:
        build = step.input_plan.build
        run.step_input = await resolving(
            services, build, run.state.context, run.info, services.pointers.load, services.log
        )
    return await call_handler(run)


async def _require(run: StepExecution, output: Any) -> None:
    if run.step.required:
        await resolving(run.services, validate, run.step, output, run.services.pointers.load)


async def _settle(run: StepExecution, output: Any) -> None:
    whole = await offloaded_output(run, output)
    await resolving(run.services, commit_output, run, output, whole)


async def _failed(run: StepExecution, raised: Exception, *, last_try: bool | None) -> SegmentResult | None:
    """As ``_fail``, loading the pointers that the way on from an error reads."""
    while True:
        try:
            return _fail(run, raised, last_try=last_try)
        except PointerNotLoaded as need:
            try:
                await fetch(need.pointer, run.services)
            except StepError as worse:
                return _fail(run, worse, last_try=True, may_continue=False)


def _fail(
    run: StepExecution, raised: Exception, *, last_try: bool | None, may_continue: bool = True
) -> SegmentResult | None:
    """What the step's ``onError`` makes of an error; None when the run goes on.

    Raises:
        PointerNotLoaded: the flow would go on after the error, and how depends on a pointer; nothing has
            changed.
    """
    unexpected = raised.__cause__ if isinstance(raised, StepError) else raised
    if unexpected is not None:
        run.services.log.debug("Step %s raised", run.step.id, exc_info=unexpected)
    error = failed_step(step_error_from(raised), run.step.id, run.info)
    in_handler = may_continue and run.step_input is not None
    route = decide(run.step, error, in_handler=in_handler, last_try=last_try)
    shown = error.as_dict()
    if route is Route.RETRY:
        run.state.path.pop()
        run.record(shown)
        return SegmentResult(SegmentStatus.RETRY, run.state, shown)
    if route is Route.CONTINUE:
        try:
            commit_output(run, shown, shown)
        except Exception as worse:  # noqa: BLE001 - an error of the step, like the first
            # The way out was taken too often, or cannot be found: now only a fallback can help.
            return _fail(run, worse, last_try=True, may_continue=False)
    if route is Route.FALLBACK:
        if _runs_in_circles(run):
            route = Route.FAIL
        else:
            run.state.next_step = fallback_of(run.step)
    run.record(shown)
    return SegmentResult(SegmentStatus.FAILED, run.state, shown) if route is Route.FAIL else None


def _runs_in_circles(run: StepExecution) -> bool:
    """Whether a step has fallen back so often that its fallback must lead back to it."""
    counts = run.state.transition_counts
    counter = f"{run.step.id}:fallback"
    counts[counter] = counts.get(counter, 0) + 1
    if counts[counter] <= _MOST_FALLBACKS:
        return False
    run.services.log.error(
        "Step %s has fallen back %d times in this run: its fallback leads back to it",
        run.step.id,
        _MOST_FALLBACKS,
    )
    return True


async def complete_step(
    program: Program,
    state: RunState,
    step_id: str,
    output: Any,
    *,
    info: RunInfo,
    services: Services,
) -> SegmentResult:
    """End a step whose output was made elsewhere (a fork that was spread over tasks).

    Its ``delay`` after the work and its ``outputValidation`` are done here.

    Returns:
        LEFT with the next step, COMPLETED, or FAILED when its transition is one too many.
    """
    run = StepExecution(program.steps[step_id], state, info, services, {}, started=perf_counter())
    state.path.append(step_id)
    try:
        await _require(run, output)
        await pause(run.step, "after", services)
        await _settle(run, output)
    except Exception as error:  # noqa: BLE001 - an error of the step, like any other
        return await _failed(run, error, last_try=True) or _left(state)
    run.record()
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
    """End a step that failed elsewhere: ``onError`` decides, as for any step.

    Returns:
        LEFT or COMPLETED when the flow goes on, RETRY (only with ``last_try`` False), or FAILED.
    """
    run = StepExecution(program.steps[step_id], state, info, services, {}, started=perf_counter())
    state.path.append(step_id)
    return await _failed(run, error, last_try=last_try) or _left(state)


async def pass_step(
    program: Program, state: RunState, step_id: str, *, info: RunInfo, services: Services
) -> SegmentResult:
    """Go on as if a step had run and given nothing: its output is ``{}``, and nothing is asked of it.

    Returns:
        LEFT with the next step, or COMPLETED.

    Raises:
        AllmaError: the way on cannot be found, or was taken too often.
    """
    run = StepExecution(program.steps[step_id], state, info, services, {}, started=perf_counter())
    state.path.append(step_id)
    await _settle(run, {})
    return _left(state)


def _left(state: RunState) -> SegmentResult:
    status = SegmentStatus.COMPLETED if state.next_step is None else SegmentStatus.LEFT
    return SegmentResult(status, state)
