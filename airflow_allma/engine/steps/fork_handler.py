"""PARALLEL_FORK_MANAGER as a step: the whole fork, run in one process."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from airflow_allma.engine.flow_runs import visits
from airflow_allma.engine.forking import run_fork
from airflow_allma.engine.program import CompiledFork, Program
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.flow import ParallelForkManagerStep

__all__ = ["ForkHandler"]


class ForkHandler(AsyncHandler):
    """Runs a fork's branches for all of its items and returns ``{"aggregatedData": ...}``.

    Where and how the items run is up to ``Services.fork_runner``; without one they run on this event loop.

    Attributes:
        fork: the fork's branches.
    """

    reads_mappings: ClassVar[bool] = False
    stores_output: ClassVar[bool] = True
    bounds_itself = True

    def __init__(self, step: ParallelForkManagerStep, scope: Program) -> None:
        self.fork = CompiledFork(step, scope)

    async def __call__(self, call: StepCall) -> Any:
        """Run the fork.

        Raises:
            StepError: the items cannot be read, or more branch runs failed than the fork tolerates.
            SuspendStep: branch runs wait for events.
        """
        run = call.services.fork_runner or run_fork
        visit = visits(call.step_id, call.state)
        info = msgspec.structs.replace(call.info, fork_visit=visit) if visit else call.info
        if call.services.tracer is not None and call.state is not None:
            info = msgspec.structs.replace(info, trace=call.services.tracer.trace_of(call.state, info))
        return await run(self.fork, call.context, info, call.services, call.saved)
