"""PARALLEL_FORK_MANAGER as a step: the whole fork, run in one process."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow_allma.engine.forking import run_fork
from airflow_allma.engine.program import CompiledFork, Program
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.flow import ParallelForkManagerStep

__all__ = ["ForkHandler", "fork_problem"]


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
        """
        run = call.services.fork_runner or run_fork
        return await run(self.fork, call.context, call.info, call.services)


def fork_problem(step: ParallelForkManagerStep) -> tuple[str, str] | None:
    """Return the field and the reason why a fork cannot run here; None if it can."""
    for branch in step.parallel_branches:
        if branch.step_type is not None:
            return "parallelBranches", (
                f"branch {branch.branch_id!r} is a sub-flow, which is not supported yet; "
                "set its first step instead"
            )
    return None
