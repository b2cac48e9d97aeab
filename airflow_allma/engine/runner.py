"""Running a segment of a flow: start at a step, follow transitions, stop outside the segment.

Steps that wait for nothing are run by plain calls, so that a branch of such steps needs no event loop; all
others go through the same functions, awaited.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.engine.program import Program
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, SegmentResult, SegmentStatus
from airflow_allma.engine.step_runner import NeedsWaiting, run_inline_step, run_step
from airflow_allma.engine.suspension import next_due, only_polls

__all__ = ["run_inline", "run_segment"]

_COMPLETED: Final = SegmentStatus.COMPLETED  # looking up an enum member takes longer than creating a result


async def run_segment(
    program: Program,
    state: RunState,
    info: RunInfo,
    services: Services,
    *,
    inside: Container[str] | None = None,
    last_try: bool | None = None,
    stays: bool = False,
) -> SegmentResult:
    """Run from ``state.next_step`` until the run leaves the segment, ends, fails or suspends.

    Args:
        program: the steps.
        state: where to begin; it is advanced, its context replaced.
        info: the run.
        services: what steps can use.
        inside: the steps of the segment; None for all.
        last_try: who does the retries of ``onError.retries``. None: the engine, with delays in between.
            False: the caller, who gets RETRY for an error that can be retried. True: no one; this is
            the last try.
        stays: whether the process stays while the run polls: between the calls it sleeps here.

    Returns:
        The result of the segment. A failure of a step is a result, not an exception.
    """
    while True:
        step_id = state.next_step
        if step_id is None:
            return SegmentResult(SegmentStatus.COMPLETED, state)
        if inside is not None and step_id not in inside:
            return SegmentResult(SegmentStatus.LEFT, state)
        step = program.steps[step_id]
        result: SegmentResult | None
        if step.is_inline:
            try:
                result = run_inline_step(step, state, info, services)
            except (PointerNotLoaded, NeedsWaiting):
                # Nothing has been written yet: run the same step again, with waiting.
                result = await run_step(step, state, info, services, last_try)
        else:
            result = await run_step(step, state, info, services, last_try)
        if result is None:
            continue
        if not (stays and result.status is SegmentStatus.SUSPENDED and only_polls(result.waits)):
            return result
        await services.sleep(max(0.0, next_due(result.waits) - services.now()))


def run_inline(program: Program, state: RunState, info: RunInfo, services: Services) -> SegmentResult:
    """Run to the end without an event loop; every step on the way must be inline.

    Raises:
        NeedsWaiting: a pointer has to be loaded or a value offloaded; ``run_segment`` can continue.
    """
    steps = program.steps
    try:
        while state.next_step is not None:
            result = run_inline_step(steps[state.next_step], state, info, services)
            if result is not None:
                return result
    except (PointerNotLoaded, NeedsWaiting) as error:
        raise NeedsWaiting(state) from error
    return SegmentResult(_COMPLETED, state)
