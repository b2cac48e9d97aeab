"""The way of one item through the tasks of a branch, read from what these tasks returned and pushed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.operators.routing import succeeded
from airflow_allma.operators.run_states import load_state
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.transport import restore_key_order
from airflow_allma.operators.xcoms import Key, may_have, pull_returned

if TYPE_CHECKING:
    from airflow_allma.engine import Program, RunInfo, RunState

__all__ = ["BranchPath"]

_MAX_REPEATED: Final = 4
"""Tasks in a row without a pushed state. Each costs every task after it two calls."""


class _BranchTask(Protocol):
    steps: tuple[str, ...]
    after: tuple[str, ...]

    def known_keys(self, program: Program) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class BranchPath:
    """The tasks of a branch for one item.

    A task pushes no state if its return value is enough to repeat what its step did to the state before it.

    Attributes:
        current: the asking task.
        dag: the Dag of the flow.
        program: the branch's steps.
        info: the run as seen inside the branch.
        map_index: the item's map index.
        start: the state in which the branch begins, with an empty journal.
    """

    current: TaskContext
    dag: Any
    program: Program
    info: RunInfo
    map_index: int
    start: RunState

    async def state_before(self, task: _BranchTask) -> RunState | None:
        """Return the state in which the branch reaches a task; None if it takes another path."""
        if not task.after:
            return self.start.copy()
        for upstream in succeeded(self.current, task.after, self.map_index):
            state = await self._state_after(upstream, task.steps)
            if state is not None and state.next_step in task.steps:
                return state
        return None

    async def repeats(self, task: _BranchTask, before: RunState, returned: Any, after: RunState) -> bool:
        """Return whether the return value of a task is enough to make the state after it.

        Args:
            task: a task that has just run.
            before: the state before it.
            returned: its return value.
            after: the state after it.
        """
        (first, *more) = task.steps
        if more or not self.program.steps[first].output_plan.is_default:
            return False
        if self._depth(task) % _MAX_REPEATED == _MAX_REPEATED - 1:
            return False
        try:
            repeated = await self._repeat(before.copy(), first, returned)
        except AllmaError:
            # The step's fallback has handled it.
            return False
        return repeated.to_dict() == after.to_dict()

    async def _state_after(self, task_id: str, only_if: Collection[str]) -> RunState | None:
        from airflow_allma.engine import RunState

        ti = self.current.ti
        if may_have(ti, task_id, Key.STATE):
            saved = load_state(self.current, task_id, self.map_index)
            if saved is not None:
                wanted = saved["nextStep"] in only_if
                return RunState.from_dict(saved, self.start.context) if wanted else None
        returned = pull_returned(ti, task_id, self.map_index)
        if returned is None:
            # Marked as success before it ran.
            return None
        task: _BranchTask = self.dag.get_task(task_id)
        before = await self.state_before(task)
        if before is None:
            raise PermanentStepError(
                f"Task {task_id} ran for item {self.map_index}, but the return values of the tasks before it "
                "are gone. Clear them and their downstream tasks."
            )
        return await self._repeat(
            before, task.steps[0], restore_key_order(returned, task.known_keys(self.program))
        )

    async def _repeat(self, state: RunState, step_id: str, returned: Any) -> RunState:
        from airflow_allma.engine import repeat_step

        await repeat_step(
            self.program, state, step_id, returned, info=self.info, services=self.current.services
        )
        return state

    def _depth(self, task: _BranchTask) -> int:
        """Return how many tasks of the branch come before a task, on the longest way to it."""
        return max((1 + self._depth(self.dag.get_task(name)) for name in task.after), default=0)
