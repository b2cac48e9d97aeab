"""One run of a fork: how its branch runs begin, continue and end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.common.merging import merge_deep
from airflow_allma.common.work_budget import begin_step
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.failures import add_location
from airflow_allma.engine.fork_limits import ForkLimits
from airflow_allma.engine.item_batches import current_item, with_batch
from airflow_allma.engine.item_error import ItemError
from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.engine.pointer_loading import evaluate
from airflow_allma.engine.program import CompiledBranch, CompiledFork
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.runner import run_inline, run_segment
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, SegmentStatus
from airflow_allma.engine.step_runner import NeedsWaiting
from airflow_allma.engine.suspended_runs import ParkedRun, SuspendedRun
from airflow_allma.engine.tracing import Trace
from airflow_allma.exceptions import ExpressionEvaluationError, PermanentStepError
from airflow_allma.expressions import LoadPointer

__all__ = ["ForkRun", "OnTrace", "branch_state", "item_of_batch"]

_FAILED: Final = BranchStatus.FAILED

OnTrace = Callable[[BranchResult, Trace | None], None]
"""Receives the result of a branch run and its trace, None if no step of it is noted; does not raise."""


def branch_state(
    branch: CompiledBranch,
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
) -> RunState:
    """Return the state in which a branch run begins.

    Args:
        branch: the branch, which applies to the item.
        context: the main context with ``currentItem``; shared, not copied, since a context never changes.
        info: the branch run.
        services: for pointers that the branch's mappings read.
    """
    data: Any = context
    if not branch.input_plan.is_empty:
        built = branch.input_plan.build(context, info, services.pointers.load, services.log)
        data = merge_deep(context, built)
    return RunState(branch.start, data)


def item_of_batch(
    fork: CompiledFork, batch: Mapping[str, Any] | ItemError, context: Mapping[str, Any], load: LoadPointer
) -> Any:
    """Return what the branch runs of a batch get as ``currentItem``; an ``ItemError`` if there is none.

    Args:
        fork: a fork with an ``itemBatcher``.
        batch: one of its batches, or an ``ItemError`` instead of it.
        context: the main context.
        load: for pointers that ``batchInput`` reads.
    """
    if isinstance(batch, ItemError):
        return batch
    try:
        return current_item(batch, fork.batch_input(context, load))
    except ExpressionEvaluationError as error:
        return ItemError(PermanentStepError(f"Step {fork.step_id}: itemBatcher.batchInput: {error}"))


@dataclass(frozen=True, slots=True)
class ForkRun:
    """One run of a fork: its branches and the data they see.

    Attributes:
        fork: the branches.
        context: the main context.
        info: the run.
        services: what steps can use.
        limits: the fork's numbers in this run; None where others keep them.
        on_trace: receives the traces of branch runs; None if they are a part of the trace of the fork's own
            run, or if there are none.
        only_failures: whether ``on_trace`` needs only the results that are failures, and their traces.
    """

    fork: CompiledFork
    context: Mapping[str, Any]
    info: RunInfo
    services: Services
    limits: ForkLimits | None = None
    on_trace: OnTrace | None = None
    only_failures: bool = False

    def branch_inline(self, branch: CompiledBranch, index: int, item: Any) -> BranchResult:
        """Run one branch for one item, with steps that wait for nothing; a failure is a result.

        Raises:
            NeedsWaiting: a step has to wait after all; ``branch`` continues from its state.
        """
        if self.fork.batcher is None:
            return self._branch_inline(branch, index, item)
        begin_step(self.services.settings.max_step_work, self.fork.step_id)
        try:
            value = self._item_of(item)
        except PointerNotLoaded as waiting:
            raise NeedsWaiting(None) from waiting
        except Exception as error:  # noqa: BLE001 - a batch's failure is the batch's alone
            value = ItemError(step_error_from(error))
        return with_batch(self._branch_inline(branch, index, value), item)

    def _item_of(self, batch: Mapping[str, Any]) -> Any:
        return item_of_batch(self.fork, batch, self.context, self.services.pointers.load)

    def _branch_inline(self, branch: CompiledBranch, index: int, item: Any) -> BranchResult:
        info = self.info.in_branch(self.fork.step_id, branch.branch_id, index)
        if item.__class__ is ItemError:
            return self._not_started(branch, info, item.error)
        fork, services = self.fork, self.services
        load = services.pointers.load
        context = {**self.context, "currentItem": item}
        state: RunState | None = None
        if branch.evaluates:
            begin_step(services.settings.max_step_work, fork.step_id)
        try:
            if branch.is_conditional and not branch.applies(context, info, load):
                return fork.not_applicable(branch, index)
            state = branch_state(branch, context, info, services)
            state.context_is_read = fork.reads_context and not branch.is_sub_flow
            # Looking a result up in the context can fail after the last step.
            state.ends_untraced = self.only_failures and not fork.reads_context
            result = fork.result(branch, index, run_inline(branch.program, state, info, services), load)
            if services.tracer is None or (self.only_failures and result.error is None):
                return result
            return self._traced(result, state)
        except PointerNotLoaded as waiting:
            raise NeedsWaiting(state) from waiting
        except NeedsWaiting:
            raise
        except Exception as error:  # noqa: BLE001 - an item's failure is the item's alone
            return self._not_started(branch, info, error, state)

    async def branch(
        self, branch: CompiledBranch, index: int, item: Any, state: RunState | None = None
    ) -> BranchResult | SuspendedRun:
        """Run one branch for one item; a failure is a result, not an exception.

        Args:
            branch: the branch.
            index: the item's index.
            item: the item, or an ``ItemError`` instead of it.
            state: the state that was reached before, if the run continues.
        """
        if self.fork.batcher is None:
            return await self._branch(branch, index, item, state)
        begin_step(self.services.settings.max_step_work, self.fork.step_id)
        try:
            value = await evaluate(self.services, self._item_of, item)
        except Exception as error:  # noqa: BLE001 - a batch's failure is the batch's alone
            value = ItemError(step_error_from(error))
        result = await self._branch(branch, index, value, state)
        if isinstance(result, SuspendedRun):
            result.item = item
            return result
        return with_batch(result, item)

    async def _branch(
        self, branch: CompiledBranch, index: int, item: Any, state: RunState | None
    ) -> BranchResult | SuspendedRun:
        info = self.info.in_branch(self.fork.step_id, branch.branch_id, index)
        if item.__class__ is ItemError:
            return self._not_started(branch, info, item.error)
        fork, services = self.fork, self.services
        load = services.pointers.load
        context = {**self.context, "currentItem": item}
        begin_step(services.settings.max_step_work, fork.step_id)
        if not self.info.fork_depth:
            services.fork_load.outer_runs += 1
        try:
            if state is None:
                if branch.is_conditional and not await evaluate(
                    services, branch.applies, context, info, load
                ):
                    return fork.not_applicable(branch, index)
                if branch.input_plan.is_empty:
                    state = RunState(branch.start, context)
                else:
                    state = await evaluate(services, branch_state, branch, context, info, services)
                state.context_is_read = fork.reads_context and not branch.is_sub_flow
                state.ends_untraced = self.only_failures and not fork.reads_context
                if branch.suspends:
                    state.journal = []
            segment = await run_segment(branch.program, state, info, services)
            if segment.status is SegmentStatus.SUSPENDED:
                return SuspendedRun(index, item, branch, segment.state, segment.waits)
            try:
                result = fork.result(branch, index, segment, load)
            except PointerNotLoaded:
                result = await evaluate(services, fork.result, branch, index, segment, load)
        except Exception as error:  # noqa: BLE001 - an item's failure is the item's alone
            return self._not_started(branch, info, error, state)
        return result if services.tracer is None else self._traced(result, state)

    async def continue_run(self, run: SuspendedRun) -> BranchResult | SuspendedRun:
        """Continue a branch run that was suspended in this process."""
        return await self.branch(run.branch, run.index, run.item, run.state)

    async def continue_parked(self, run: ParkedRun) -> BranchResult | SuspendedRun:
        """Continue a branch run that was parked; a failure is a result, not an exception."""
        branch, services = self.fork.branches[run.branch_index], self.services
        info = self.info.in_branch(self.fork.step_id, branch.branch_id, run.item_index)
        begin_step(services.settings.max_step_work, self.fork.step_id)
        try:
            item = run.item
            if self.fork.batcher is not None:
                item = await evaluate(services, self._item_of, item)
            context = {**self.context, "currentItem": item}
            start = await evaluate(services, branch_state, branch, context, info, services)
            state = RunState.from_dict(run.state, start.context)
        except Exception as error:  # noqa: BLE001 - an item's failure is the item's alone
            result = self._not_started(branch, info, error)
            return result if self.fork.batcher is None else with_batch(result, run.item)
        state.context_is_read = self.fork.reads_context
        state.ends_untraced = self.only_failures and not self.fork.reads_context
        return await self.branch(branch, run.item_index, run.item, state)

    def _not_started(
        self, branch: CompiledBranch, info: RunInfo, error: Exception, state: RunState | None = None
    ) -> BranchResult:
        """Return the failure of an item that cannot be read, or whose condition or mappings are invalid."""
        shown = add_location(step_error_from(error), self.fork.step_id, info).as_dict()
        result = BranchResult(info.item_index or 0, branch.index, branch.branch_id, _FAILED, error=shown)
        return result if self.services.tracer is None else self._traced(result, state)

    def _traced(self, result: BranchResult, state: RunState | None) -> BranchResult:
        """Pass the trace of a branch run on, and return its result."""
        failed = result.error is not None
        if self.on_trace is not None:
            if failed or not self.only_failures:
                self.on_trace(result, self._trace_of(state))
        elif (around := self.info.trace) is not None and (trace := self._trace_of(state)) is not None:
            around.merge(trace, failed=failed)
        return result

    def _trace_of(self, state: RunState | None) -> Trace | None:
        if state is None or self.services.tracer is None:
            return None
        if state.trace is None and state.saved_trace is not None:
            self.services.tracer.trace_of(state, self.info)
        trace: Trace | None = state.trace
        return trace
