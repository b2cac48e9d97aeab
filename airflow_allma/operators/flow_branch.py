"""The task of a segment in a fork's branch, mapped over the fork's items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.operators.flow_step import FlowStepOperator
from airflow_allma.operators.mapped_item import Element, read_mapped_item
from airflow_allma.operators.routing import incoming_state
from airflow_allma.operators.xcoms import Key, push

if TYPE_CHECKING:
    from airflow_allma.engine import CompiledBranch, CompiledFork, Program, RunInfo, RunState, SegmentResult
    from airflow_allma.operators.task_context import TaskContext

__all__ = ["FlowBranchOperator"]


class FlowBranchOperator(FlowStepOperator):
    """Runs a segment of a branch for one item.

    The item comes from the fork's list; the context from which the branch began is read from the fork's
    ``items`` task, and what the branch itself has set from the task before. The task in which the branch
    ends, well or not, pushes the branch's result under ``allma_result``.

    Args:
        fork: the fork's step id.
        branch: the branch's place in the fork.
        items: full id of the fork's ``items`` task.
        element: the mapped argument, one entry of what ``items`` returned.
        kwargs: as for ``FlowStepOperator``; an empty ``after`` means that the branch begins here.
    """

    template_fields = ("element",)

    def __init__(self, *, fork: str, branch: int, items: str, element: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fork = fork
        self.branch = branch
        self.items = items
        self.element = element

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Run the segment; in the task's own process."""
        try:
            return super().execute(context)
        except AirflowTaskTimeout as error:
            seconds = self.execution_timeout.total_seconds() if self.execution_timeout else 0
            late = PermanentStepError(
                f"Step {self.step} ran longer than {seconds:g} s (airflow.executionTimeoutSeconds).",
                error_name="TaskTimeout",
            )
            self._push_failure(context["ti"], late.as_dict())
            raise error from None

    @property
    def item_label(self) -> str:
        """What names the item; for the task's label."""
        return self._entry.label

    @property
    def _entry(self) -> Element:
        return read_mapped_item(self.element)

    def _fork(self, run: TaskContext) -> CompiledFork:
        return run.handle.fork(self.fork)

    def _branch(self, run: TaskContext) -> CompiledBranch:
        return self._fork(run).branches[self.branch]

    def arrive(self, run: TaskContext) -> Callable[[], Awaitable[RunState]]:
        """Find the item, the fork's context and, but for the first task, what the branch has set so far."""
        from airflow_allma.engine import RunState, branch_state, resolving

        base = run.saved_state(self.items)
        if base is None:
            raise PermanentStepError(
                f"Fork {self.fork}: task {self.items} left no state. Clear it and what comes after it."
            )
        saved = None
        if self.after:
            saved = incoming_state(run, self.after, self.steps, run.map_index)
            if saved is None:
                raise AirflowSkipException("The branch takes another way for this item.")
        item_context = {**base["context"], "currentItem": self._entry.item}

        async def begin() -> RunState:
            services, info, branch = run.services, self.run_info(run), self._branch(run)
            load = services.pointers.load
            if saved is None:
                fork = self._fork(run)
                if not await resolving(services, _runs, fork, branch, item_context, info, load):
                    push(run.ti, Key.RESULT, fork.not_applicable(branch, self._entry.index).to_dict())
                    raise AirflowSkipException("The branch's condition does not hold for this item.")
            state = await resolving(services, branch_state, branch, item_context, info, services)
            if saved is not None:
                return RunState.from_dict(saved, state.context)
            state.journal = []
            return state

        return begin

    def steps_around(self, run: TaskContext) -> Program:
        """The branch's own steps, or those around it."""
        return self._branch(run).program

    def run_info(self, run: TaskContext) -> RunInfo:
        """The run, seen from the branch."""
        return run.info.in_branch(self._branch(run).branch_id, self._entry.index)

    def done(self, run: TaskContext, ended: SegmentResult) -> None:
        """Push the branch's result if it ends here; no task goes on from its state then."""
        from airflow_allma.engine import SegmentStatus, resolving
        from airflow_allma.engine.errors import step_error_from
        from airflow_allma.exceptions import AllmaError

        if ended.status is not SegmentStatus.COMPLETED:
            super().done(run, ended)
            return
        fork, load = self._fork(run), run.services.pointers.load
        try:
            result = run.run(
                lambda: resolving(
                    run.services, fork.result, self._branch(run), self._entry.index, ended, load
                )
            )
        except AllmaError as error:
            self.broken(run, step_error_from(error).as_dict())
        push(run.ti, Key.RESULT, result.to_dict())

    def broken(self, run: TaskContext, error: dict[str, Any]) -> NoReturn:
        """Push the failure as the branch's result, and fail."""
        self._push_failure(run.ti, error)
        self.fail(run, error)

    def _push_failure(self, ti: Any, error: dict[str, Any]) -> None:
        from airflow_allma.engine import BranchResult, BranchStatus

        branch = self.flow.fork(self.fork).branches[self.branch]
        result = BranchResult(
            self._entry.index, branch.index, branch.branch_id, BranchStatus.FAILED, error=error
        )
        push(ti, Key.RESULT, result.to_dict())


def _runs(
    fork: CompiledFork, branch: CompiledBranch, context: Mapping[str, Any], info: RunInfo, load: Any
) -> bool:
    """Whether a branch runs for the item; an error in another branch's condition is that branch's."""
    if fork.first_only:
        return branch in fork.eligible(context, info, load)
    return branch.applies(context, info, load)
