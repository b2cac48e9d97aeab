"""The task of a segment in a fork's branch, mapped over the fork's items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowSkipException

from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.operators.flow_step import FlowStepOperator
from airflow_allma.operators.mapped_item import MappedItem, decode_mapped_item
from airflow_allma.operators.routing import incoming_state
from airflow_allma.operators.run_states import load_state
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.xcoms import Key, push

if TYPE_CHECKING:
    from airflow_allma.engine import CompiledBranch, CompiledFork, Program, RunInfo, RunState, SegmentResult

__all__ = ["FlowBranchOperator"]


class FlowBranchOperator(FlowStepOperator):
    """Runs a segment of a branch for one item.

    The item comes from the fork's list. The context in which the branch began is read from the fork's
    ``items`` task, and what the branch itself has set from the upstream task. The task in which the branch
    ends, in success or failure, pushes the branch's result under ``allma_result``.

    Args:
        fork: the fork's step id.
        branch: the branch's index in the fork.
        items: full id of the fork's ``items`` task.
        mapped_item: the mapped argument, one entry of what ``items`` returned.
        kwargs: as for ``FlowStepOperator``; an empty ``after`` means that the branch begins here.
    """

    template_fields = ("mapped_item",)

    def __init__(self, *, fork: str, branch: int, items: str, mapped_item: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fork = fork
        self.branch = branch
        self.items = items
        self.mapped_item = mapped_item

    @property
    def item_label(self) -> str:
        """The item's name, for the task's label."""
        return self._entry.label

    @property
    def _entry(self) -> MappedItem:
        return decode_mapped_item(self.mapped_item)

    def _branch(self, current: TaskContext) -> CompiledBranch:
        return current.fork(self.fork).branches[self.branch]

    def prepare(self, current: TaskContext) -> Callable[[], Awaitable[RunState]]:
        """Find the item, the fork's context and, except in the first task, what the branch has set so far."""
        from airflow_allma.engine import RunState, branch_state, evaluate

        base = load_state(current, self.items)
        if base is None:
            raise PermanentStepError(
                f"Fork {self.fork}: task {self.items} pushed no state. Clear it and its downstream tasks."
            )
        saved = None
        if self.after:
            saved = incoming_state(current, self.after, self.steps, current.map_index)
            if saved is None:
                raise AirflowSkipException("The branch takes another path for this item.")
        item_context = {**base["context"], "currentItem": self._entry.item}

        async def begin() -> RunState:
            services, info, branch = current.services, self.info_of(current), self._branch(current)
            load = services.pointers.load
            if saved is None:
                fork = current.fork(self.fork)
                if not await evaluate(services, _applies, fork, branch, item_context, info, load):
                    push(current.ti, Key.RESULT, fork.not_applicable(branch, self._entry.index).to_dict())
                    raise AirflowSkipException("The branch's condition does not match this item.")
            state = await evaluate(services, branch_state, branch, item_context, info, services)
            if saved is not None:
                return RunState.from_dict(saved, state.context)
            state.journal = []
            return state

        return begin

    def program_of(self, current: TaskContext) -> Program:
        """Return the branch's own steps, or those of the flow."""
        return self._branch(current).program

    def info_of(self, current: TaskContext) -> RunInfo:
        """Return the run as seen inside the branch."""
        return current.info.in_branch(self._branch(current).branch_id, self._entry.index)

    def on_success(self, current: TaskContext, result: SegmentResult) -> None:
        """Push the branch's result if it ends here; then no other task needs its state."""
        from airflow_allma.engine import SegmentStatus, evaluate
        from airflow_allma.engine.errors import step_error_from

        if result.status is not SegmentStatus.COMPLETED:
            super().on_success(current, result)
            return
        fork, branch, index = current.fork(self.fork), self._branch(current), self._entry.index
        load = current.services.pointers.load
        try:
            branch_result = current.run(
                lambda: evaluate(current.services, fork.result, branch, index, result, load)
            )
        except AllmaError as error:
            self.on_failure(current, step_error_from(error).as_dict())
        push(current.ti, Key.RESULT, branch_result.to_dict())

    def on_timeout(self, current: TaskContext) -> None:
        """Push the timeout as the branch's result."""
        seconds = self.execution_timeout.total_seconds() if self.execution_timeout else 0
        timeout = PermanentStepError(
            f"Step {self.step} ran longer than {seconds:g} s (airflow.executionTimeoutSeconds).",
            error_name="TaskTimeout",
        )
        self._push_failure(current.ti, timeout.as_dict())

    def on_failure(self, current: TaskContext, error: dict[str, Any]) -> NoReturn:
        """Push the failure as the branch's result, and fail without a retry."""
        self._push_failure(current.ti, error)
        self.fail(current.ti, error)

    def _push_failure(self, ti: Any, error: dict[str, Any]) -> None:
        from airflow_allma.engine import BranchResult, BranchStatus

        branch = self.flow.fork(self.fork).branches[self.branch]
        result = BranchResult(
            self._entry.index, branch.index, branch.branch_id, BranchStatus.FAILED, error=error
        )
        push(ti, Key.RESULT, result.to_dict())


def _applies(
    fork: CompiledFork, branch: CompiledBranch, context: Mapping[str, Any], info: RunInfo, load: Any
) -> bool:
    """Return whether a branch runs for the item; errors in other branches' conditions are ignored."""
    if fork.first_only:
        return branch in fork.eligible(context, info, load)
    return branch.applies(context, info, load)
