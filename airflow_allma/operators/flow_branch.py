"""The task of a segment in a fork's branch, mapped over the fork's items."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_allma.compat import note_label
from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.operators.branch_path import BranchPath
from airflow_allma.operators.flow_step import FlowStepOperator
from airflow_allma.operators.fork_results import push_result
from airflow_allma.operators.run_states import load_state, save_state
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.transport import is_unchanged, json_bytes

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_allma.engine import (
        CompiledBranch,
        CompiledFork,
        Program,
        RunInfo,
        RunState,
        SegmentResult,
        Services,
    )

__all__ = ["FlowBranchOperator"]

_HEAD: Final = re.compile(r"[.\[]")


@dataclass(frozen=True, slots=True)
class _BranchItem:
    """The item that a task runs for, the context in which its branch begins, and its name in the UI."""

    index: int
    item: Any
    context: dict[str, Any]
    label: str


class FlowBranchOperator(FlowStepOperator):
    """Runs a segment of a branch for one item.

    The item and the context in which the branch began are read from the state that the fork's ``items`` task
    has pushed, and what the branch itself has set from the tasks upstream: their return values or, if
    they are not sufficient, what they pushed under ``allma_state``. The result of the branch is what the
    task in which it ends has returned or, if that is not the same, pushed under ``allma_result``.

    Args:
        fork: the fork's step id.
        branch: the branch's index in the fork.
        items: full id of the fork's ``items`` task.
        kwargs: as for ``FlowStepOperator``; an empty ``after`` means that the branch begins here.
    """

    template_fields = ("item",)
    forks_around: ClassVar[int] = 1

    def __init__(self, *, fork: str, branch: int, items: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fork = fork
        self.branch = branch
        self.items = items
        self.item: str | None = None
        """The item as JSON, for the UI; set in the task's process."""
        self.item_label = ""
        """The item's name, for the task's label; empty until it is to be shown."""
        self._found: _BranchItem | None = None
        self._path: BranchPath
        self._before: RunState

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:  # noqa: ARG002
        """Find the item of this map index.

        Raises:
            AirflowFailException: the ``items`` task of this run has pushed no state with such an item.
        """
        current = TaskContext(self.flow, context)
        found = self._found = self._find_item(current)
        self.item = json_bytes(found.item).decode()
        steps = self._branch(current).program.steps
        if not all(steps[step].is_inline for step in self.steps):
            self.item_label = found.label

    def before_steps(self, current: TaskContext) -> None:
        """Find the item, in each process of the task."""
        self._found = self._found or self._find_item(current)
        self.item_label = self._found.label
        # Airflow sends it with the task's end. A request of its own is for tasks that take a while.
        note_label(current.ti, self.item_label)

    def _find_item(self, current: TaskContext) -> _BranchItem:
        from airflow_allma.engine import label_of, list_in_context

        fork, index = current.fork(self.fork), current.map_index
        saved = load_state(current, self.items)
        items = saved and (saved.get("items") or list_in_context(fork, saved["context"]))
        if not saved or not items or not 0 <= index < len(items):
            raise AirflowFailException(self.no_item(f"task {self.items} has found no such item in this run"))
        item, label = items[index], label_of(fork, items[index], index)
        return _BranchItem(index, item, {**saved["context"], "currentItem": item}, label)

    @property
    def _item(self) -> _BranchItem:
        if self._found is None:
            raise RuntimeError("Called before the item was found.")
        return self._found

    def _branch(self, current: TaskContext) -> CompiledBranch:
        return current.fork(self.fork).branches[self.branch]

    def always_ends(self, program: Program) -> bool:
        """Return whether the branch can only end here, so that what the task returns can be its result."""
        return all(target in self.steps for step in self.steps for target in program.steps[step].successors)

    def known_keys(self, program: Program) -> tuple[str, ...]:
        """Return the keys of the task's output that the flow writes itself, in the order of the output.

        They are those of modules that return their input, in the order in which it is built.
        """
        model = program.steps[self.steps[0]].model
        targets = (*sorted(model.input_mappings), *model.literals) if len(self.steps) == 1 else ()
        config = getattr(model, "custom_config", {}) if targets else {}
        return tuple(dict.fromkeys([*config, *(_HEAD.split(target, 1)[0] for target in targets)]))

    def prepare(self, current: TaskContext) -> Callable[[], Awaitable[RunState]]:
        """Find what the branch has set so far, except in its first task."""
        from airflow_allma.engine import branch_state, evaluate

        async def begin() -> RunState:
            services, info, branch = current.services, self.info_of(current), self._branch(current)
            load, fork = services.pointers.load, current.fork(self.fork)
            item_context = self._item.context
            if fork.batcher is not None:
                item_context = await _batch_context(fork, item_context, services)
            if not self.after and not await evaluate(
                services, _applies, fork, branch, item_context, info, load
            ):
                push_result(current.ti, fork.not_applicable(branch, self._item.index))
                raise AirflowSkipException("The branch's condition does not match this item.")
            start = await evaluate(services, branch_state, branch, item_context, info, services)
            start.journal = []
            path = BranchPath(current, self.dag, branch.program, info, self._item.index, start)
            state = await path.state_before(self)
            if state is None:
                raise AirflowSkipException("The branch takes another path for this item.")
            self._path, self._before = path, state.copy()
            return state

        return begin

    def base_context(self) -> Mapping[str, Any]:
        """Return the context in which the branch began."""
        return self._path.start.context

    def program_of(self, current: TaskContext) -> Program:
        """Return the branch's own steps, or those of the flow."""
        return self._branch(current).program

    def info_of(self, current: TaskContext) -> RunInfo:
        """Return the run as seen inside the branch."""
        return current.info.in_branch(self.fork, self._branch(current).branch_id, self._item.index)

    def keeps_trace(self, current: TaskContext, result: SegmentResult) -> bool:
        """Return whether the item has failed, or its trace is kept anyway, or this task has called something.

        The trace of the task in which an item ends has the steps of earlier tasks too, but not their calls.
        """
        from airflow_allma.engine import SegmentStatus

        if result.status is not SegmentStatus.COMPLETED:
            trace = result.state.trace
            return result.status is SegmentStatus.FAILED or (trace is not None and trace.has_calls)
        tracer = current.services.tracer
        return tracer is not None and tracer.keeps(self.info_of(current), self._item.index)

    def on_success(self, current: TaskContext, result: SegmentResult, returned: Any) -> None:
        """Push what the return value does not say: the branch's state or, if it ends here, its result."""
        from airflow_allma.engine import SegmentStatus, evaluate
        from airflow_allma.engine.errors import step_error_from

        # Pushed as it is, and so read by the tasks downstream.
        program = self.program_of(current)
        is_exact = (
            returned is result.output
            and returned is not None
            and is_unchanged(returned, self.known_keys(program))
        )
        if result.status is not SegmentStatus.COMPLETED:
            path, before = self._path, self._before
            if not is_exact or not current.run(lambda: path.repeats(self, before, returned, result.state)):
                save_state(current, result.state)
            return
        fork, branch, index = current.fork(self.fork), self._branch(current), self._item.index
        load = current.services.pointers.load
        try:
            branch_result = current.run(
                lambda: evaluate(current.services, fork.result, branch, index, result, load)
            )
        except AllmaError as error:
            self.on_failure(current, step_error_from(error).as_dict())
        if not is_exact or branch_result.output is not returned or not self.always_ends(program):
            push_result(current.ti, branch_result, has_returned=returned is not None)

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
            self._item.index, branch.index, branch.branch_id, BranchStatus.FAILED, error=error
        )
        push_result(ti, result)


async def _batch_context(
    fork: CompiledFork, item_context: Mapping[str, Any], services: Services
) -> dict[str, Any]:
    """Return a batch's context with what its branch run sees as ``currentItem``.

    Raises:
        StepError: ``batchInput`` cannot be rendered.
    """
    from airflow_allma.engine import ItemError, evaluate
    from airflow_allma.engine.fork_run import item_of_batch

    context = {name: value for name, value in item_context.items() if name != "currentItem"}
    batch = item_context["currentItem"]
    item = await evaluate(services, item_of_batch, fork, batch, context, services.pointers.load)
    if isinstance(item, ItemError):
        raise item.error
    return {**context, "currentItem": item}


def _applies(
    fork: CompiledFork, branch: CompiledBranch, context: Mapping[str, Any], info: RunInfo, load: Any
) -> bool:
    """Return whether a branch runs for the item; errors in other branches' conditions are ignored."""
    if fork.first_only:
        return branch in fork.eligible(context, info, load)
    return branch.applies(context, info, load)
