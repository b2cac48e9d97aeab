"""Running a segment in a process that stays: what can be waited for by sleeping is, here."""

from __future__ import annotations

from collections.abc import Container

from airflow_allma.engine.program import Program
from airflow_allma.engine.runner import run_segment
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, SegmentResult, SegmentStatus
from airflow_allma.engine.suspension import next_due, only_polls

__all__ = ["run_while_polling"]


async def run_while_polling(
    program: Program,
    state: RunState,
    info: RunInfo,
    services: Services,
    *,
    inside: Container[str] | None = None,
    last_try: bool | None = None,
) -> SegmentResult:
    """Run a segment as ``run_segment`` does, and sleep between the calls of a POLL_EXTERNAL_API.

    Returns:
        As ``run_segment``; SUSPENDED only if the run waits for an event or another run.
    """
    while True:
        result = await run_segment(program, state, info, services, inside=inside, last_try=last_try)
        if result.status is not SegmentStatus.SUSPENDED or not only_polls(result.waits):
            return result
        await services.sleep(max(0.0, next_due(result.waits) - services.now()))
