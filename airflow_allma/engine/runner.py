"""Running a segment of a flow: take the context, start at a step, follow transitions, stop outside.

This is the one way in which steps run, in every mode. Steps that wait for nothing are run by plain calls, so
that a branch of such steps costs no event loop; all others go through the same functions, awaited.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from time import perf_counter
from typing import Any

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.failures import Route, decide, failed_step
from airflow_allma.engine.offload import offloaded_output, wants_offload
from airflow_allma.engine.pointers import PointerNotLoaded, resolving
from airflow_allma.engine.program import CompiledStep, Program
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, SegmentResult, SegmentStatus, state_view
from airflow_allma.engine.steps import Handler
from airflow_allma.engine.steps.base import StepCall
from airflow_allma.engine.tries import call_with_tries, pause, validate
from airflow_allma.exceptions import PermanentStepError, StepError
from airflow_allma.expressions import NOTHING

__all__ = ["NeedsWaiting", "complete_step", "fail_step", "run_inline", "run_segment", "settle"]


class NeedsWaiting(Exception):  # noqa: N818 - control flow inside the engine, never seen outside
    """A run that was thought to need no waiting does: run it on an event loop instead."""


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
        ended = await _run_step(program.steps[step_id], state, info, services, last_try)
        if ended is not None:
            return ended


def run_inline(program: Program, state: RunState, info: RunInfo, services: Services) -> SegmentResult:
    """Run to the end without an event loop; every step that is met must be inline.

    Raises:
        NeedsWaiting: a pointer has to be loaded or a value offloaded. Nothing outside has happened; start again
            from the beginning with ``run_segment``.
    """
    steps = program.steps
    try:
        while state.next_step is not None:
            ended = _run_inline_step(steps[state.next_step], state, info, services)
            if ended is not None:
                return ended
    except PointerNotLoaded as need:
        raise NeedsWaiting from need
    return SegmentResult(SegmentStatus.COMPLETED, state)


def _run_inline_step(
    step: CompiledStep, state: RunState, info: RunInfo, services: Services
) -> SegmentResult | None:
    """One inline step; None when the run goes on, a result when it failed."""
    started = perf_counter() if services.recorder is not None else 0.0
    state.path.append(step.id)
    if step.ends_path:
        state.next_step = None
        _record(services, step, info, started, None, None, None)
        return None
    step_input: dict[str, Any] | None = None
    handler: Handler = step.handler  # type: ignore[assignment]  # only forks have none
    try:
        step_input = step.input_plan.build(state.context, info, services.pointers.load, services.log)
        call = StepCall(step.id, step_input, state.context, info, services, services.pointers.load)
        output = handler(call)
        if step.required:
            validate(step, output, services.pointers.load)
        if services.settings.offload_location is not None and wants_offload(step, output, services):
            state.path.pop()
            raise NeedsWaiting
        settle(step, state, info, services, output, output, step_input)
    except PointerNotLoaded:
        state.path.pop()
        raise
    except NeedsWaiting:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the flow's to deal with
        return _failed(step, state, info, services, error, step_input, started, last_try=True)
    if services.recorder is not None:
        _record(services, step, info, started, step_input, state, None)
    return None


async def _run_step(
    step: CompiledStep, state: RunState, info: RunInfo, services: Services, last_try: bool | None
) -> SegmentResult | None:
    if step.is_inline:
        try:
            return _run_inline_step(step, state, info, services)
        except (PointerNotLoaded, NeedsWaiting):
            # Nothing has been written yet: the same step again, with waiting.
            pass
    if step.ends_path:
        raise AssertionError("END_FLOW is always inline")
    started = perf_counter()
    state.path.append(step.id)
    step_input: dict[str, Any] | None = None
    tries = 0
    try:
        if step.fork is not None:
            from airflow_allma.engine.forking import run_fork

            step_input = {}
            tries = 1
            output = await run_fork(step.fork, state.context, info, services)
        else:
            await pause(step, "before", services)
            step_input = await resolving(
                services, step.input_plan.build, state.context, info, services.pointers.load, services.log
            )
            output, tries = await call_with_tries(step, step_input, state.context, info, services, last_try)
            await pause(step, "after", services)
        whole = await offloaded_output(step, output, info, services)
        await resolving(services, settle, step, state, info, services, output, whole, step_input)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the flow's to deal with
        return _failed(step, state, info, services, error, step_input, started, last_try, tries)
    _record(services, step, info, started, step_input, state, None, tries)
    return None


def settle(
    step: CompiledStep,
    state: RunState,
    info: RunInfo,
    services: Services,
    output: Any,
    whole: Any,
    step_input: Mapping[str, Any],
) -> None:
    """After a step's work: map its output, count its transition, and set where the run goes on.

    Either everything happens, or, when this raises, only what language rules say stays: an output is mapped even
    if the transition after it is one too many.
    """
    context, journal_length = state.context, len(state.journal) if state.journal is not None else 0
    load = services.pointers.load
    meta: Any = NOTHING
    if output.__class__ is dict and "_meta" in output:
        meta = output["_meta"]
        same = whole is output
        output = {key: value for key, value in output.items() if key != "_meta"}
        whole = output if same else whole
    try:
        step.output_plan.apply(
            state, output, step_input=step_input, meta=meta, whole=whole, load=load, log=services.log
        )
        target, counter, most = _choose(step, state, info, services)
    except PointerNotLoaded:
        # The caller loads it and comes again: take the writes back.
        state.context = context
        if state.journal is not None:
            del state.journal[journal_length:]
        raise
    state.last_output = output
    if counter is not None:
        taken = state.transition_counts.get(counter, 0) + 1
        if most and taken > most:
            raise PermanentStepError(
                f"Step {step.id}: the way to {target} was taken more than {most} times in this run. If the loop is "
                "meant to go on that long, raise maxTransitions (defaultNextMaxTransitions; 0 is no limit).",
                details={"transition": counter, "maxTransitions": most},
            )
        state.transition_counts[counter] = taken
    state.next_step = target


def _choose(
    step: CompiledStep, state: RunState, info: RunInfo, services: Services
) -> tuple[str | None, str | None, int]:
    """The next step, its counter and its limit."""
    for transition in step.transitions:
        if transition.holds is not None:
            root: Mapping[str, Any] = state.context
            if transition.needs_state:
                root = {**state_view(info, root), **root}
            if not transition.holds(root, services.pointers.load):
                continue
        return transition.target, transition.counter, transition.most
    return None, None, 0


def _failed(
    step: CompiledStep,
    state: RunState,
    info: RunInfo,
    services: Services,
    raised: Exception,
    step_input: dict[str, Any] | None,
    started: float,
    last_try: bool | None,
    tries: int = 1,
) -> SegmentResult | None:
    """What the step's ``onError`` makes of an error; None when the run goes on."""
    if not isinstance(raised, StepError):
        services.log.debug("Step %s raised", step.id, exc_info=raised)
    error = failed_step(step_error_from(raised), step.id, info)
    tries = max(tries, getattr(raised, "tries", 1))
    route = decide(step, error, in_handler=step_input is not None, last_try=last_try)
    shown = error.as_dict()
    ended: SegmentResult | None = None
    if route is Route.RETRY:
        state.path.pop()
        ended = SegmentResult(SegmentStatus.RETRY, state, shown)
    elif route is Route.CONTINUE:
        try:
            settle(step, state, info, services, shown, shown, step_input or {})
        except PermanentStepError as too_often:
            return _failed_after_all(step, state, info, services, too_often, step_input, started, tries)
    elif route is Route.FALLBACK:
        state.next_step = step.model.on_error.fallback_step_instance_id  # type: ignore[union-attr]
    else:
        ended = SegmentResult(SegmentStatus.FAILED, state, shown)
    if services.recorder is not None:
        _record(services, step, info, started, step_input, state, shown, tries)
    return ended


def _failed_after_all(
    step: CompiledStep,
    state: RunState,
    info: RunInfo,
    services: Services,
    error: PermanentStepError,
    step_input: dict[str, Any] | None,
    started: float,
    tries: int,
) -> SegmentResult | None:
    """The transition after a continued failure was one too many: only a fallback can help now."""
    shown = failed_step(error, step.id, info).as_dict()
    fallback = step.model.on_error.fallback_step_instance_id if step.model.on_error else None
    if fallback is not None:
        state.next_step = fallback
    _record(services, step, info, started, step_input, state, shown, tries)
    return None if fallback is not None else SegmentResult(SegmentStatus.FAILED, state, shown)


def _record(
    services: Services,
    step: CompiledStep,
    info: RunInfo,
    started: float,
    step_input: dict[str, Any] | None,
    state: RunState | None,
    error: dict[str, Any] | None,
    tries: int = 1,
) -> None:
    if services.recorder is None:
        return
    output = None if state is None or error is not None or state.last_output is NOTHING else state.last_output
    services.recorder(
        StepRecord(
            step_id=step.id,
            step_type=step.model.step_type.value,
            input=step_input,
            output=output,
            error=error,
            next_step=state.next_step if state is not None else None,
            seconds=perf_counter() - started,
            tries=tries,
            branch_id=info.branch_id,
            item_index=info.item_index,
        )
    )


async def complete_step(
    program: Program,
    state: RunState,
    step_id: str,
    output: Any,
    info: RunInfo,
    services: Services,
) -> SegmentResult:
    """End a step whose output was made elsewhere (a fork that was spread over tasks).

    Returns:
        LEFT with the next step, COMPLETED, or FAILED when its transition is one too many.
    """
    step = program.steps[step_id]
    started = perf_counter()
    state.path.append(step_id)
    try:
        whole = await offloaded_output(step, output, info, services)
        await resolving(services, settle, step, state, info, services, output, whole, {})
    except Exception as error:  # noqa: BLE001 - an error of the step, like any other
        return _failed(step, state, info, services, error, {}, started, last_try=True) or _left(state)
    _record(services, step, info, started, {}, state, None)
    return _left(state)


async def fail_step(
    program: Program,
    state: RunState,
    step_id: str,
    error: StepError,
    info: RunInfo,
    services: Services,
    *,
    last_try: bool | None = True,
) -> SegmentResult:
    """End a step that failed elsewhere: ``onError`` decides, as for any step.

    Returns:
        LEFT or COMPLETED when the flow goes on, RETRY (only with ``last_try`` False), or FAILED.
    """
    step = program.steps[step_id]
    started = perf_counter()
    state.path.append(step_id)
    ended = await resolving(services, _failed, step, state, info, services, error, {}, started, last_try)
    return ended or _left(state)


def _left(state: RunState) -> SegmentResult:
    status = SegmentStatus.COMPLETED if state.next_step is None else SegmentStatus.LEFT
    return SegmentResult(status, state)
