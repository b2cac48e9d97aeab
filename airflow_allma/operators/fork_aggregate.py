"""The last task of a fork: joins the results and decides whether the fork failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_allma.compat import is_unanswered, task_states
from airflow_allma.exceptions import (
    AllmaError,
    ParallelBranchExecutionError,
    PermanentStepError,
    StepError,
)
from airflow_allma.operators.assets import aggregate_alias, aggregate_asset
from airflow_allma.operators.flow_operator import FlowOperator
from airflow_allma.operators.fork_chunk import load_chunk_plan
from airflow_allma.operators.fork_items import load_fork_values
from airflow_allma.operators.fork_results import BranchTasks, ChunkTaskOutcomes, memory_results
from airflow_allma.operators.fork_tokens import push_fork_tokens
from airflow_allma.operators.run_states import load_state, return_value, save_state
from airflow_allma.operators.run_urls import ItemsLink
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.trace_xcom import push_trace, trace_of
from airflow_allma.operators.xcoms import Key, pull, push_or_warn

if TYPE_CHECKING:
    from airflow_allma.distributed.chunk_items import ChunkItems
    from airflow_allma.distributed.failure_summary import FailureSummary
    from airflow_allma.distributed.fork_decision import ForkDecision
    from airflow_allma.engine import BranchResult, CompiledFork, RunState
    from airflow_allma.engine.result_files import ResultFiles
    from airflow_allma.operators.flow_branch import FlowBranchOperator
    from airflow_allma.operators.manual_success import ResumableTask

__all__ = ["ForkAggregateOperator"]


class ForkAggregateOperator(FlowOperator):
    """Joins the results of a fork's branch runs in item order, then ends (or fails) the fork's step.

    Only this task decides whether the fork failed; its trigger rule is ``all_done``. It counts what was
    planned: an item without a result, because its process was killed or its task was cleared, counts as
    failed and is named.

    Args:
        items: full id of the fork's ``items`` task.
        branches: the tasks of each branch.
        chunks: full id of the fork's ``chunks`` task.
        chunk: full id of the task that runs the chunks.
        kwargs: as for ``FlowOperator``; ``step`` is the fork.

    Returns:
        ``{"aggregatedData": ...}``, or the error object if the fork failed and the flow continues.
    """

    operator_extra_links = (ItemsLink(),)

    def __init__(
        self, *, items: str, branches: Sequence[BranchTasks], chunks: str, chunk: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.branches = tuple(branches)
        self.chunks = chunks
        self.chunk = chunk

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Join the results, in the task's own process."""
        from airflow_allma.engine import RunState, SegmentStatus, complete_step, fail_step
        from airflow_allma.engine.errors import step_error_from

        current = self.begin(context)
        branch_tasks = [task for branch in self.branches for task in branch.tasks]
        states = task_states(current.ti, [self.items, self.chunks, self.chunk, *branch_tasks])
        self._require_reached(current, states)
        saved = load_state(current, self.items)
        if saved is None:
            raise AirflowFailException(
                f"Task {self.items} pushed no state. Clear it and its downstream tasks."
            )
        state = RunState.from_dict(saved)
        try:
            output = self._output(current, states, state)
            result = current.run(
                lambda: complete_step(
                    current.program, state, self.step, output, info=current.info, services=current.services
                )
            )
        except Exception as error:
            # The fork's onError handles whatever else it is.
            if is_unanswered(error):
                raise
            if not isinstance(error, AllmaError):
                LOG.exception("This is a bug in the fork's aggregate task")
            failure = step_error_from(error)
            self._warn_about_retries(current, failure)
            # Not retried: a retry would only read the same results again.
            result = current.run(
                lambda: fail_step(
                    current.program, state, self.step, failure, info=current.info, services=current.services
                )
            )
        if result.status is SegmentStatus.FAILED:
            push_trace(current, result.state)
            push_fork_tokens(current, self.step, [self.chunk, *branch_tasks])
            self.fail(current.ti, result.error or {})
        save_state(current, result.state, trace=trace_of(result.state))
        push_fork_tokens(current, self.step, [self.chunk, *branch_tasks])
        returned = return_value(current, result.output)
        self._emit_asset(context, current, result.output, returned)
        return returned

    def _emit_asset(
        self, context: Mapping[str, Any], current: TaskContext, output: Any, returned: Any
    ) -> None:
        asset = aggregate_asset(self, current, output, returned)
        for alias in self.outlets:
            # An on_dag callback can have added outlets of its own.
            if asset is not None and alias == aggregate_alias(current.ti.dag_id, self.step):
                context["outlet_events"][alias].add(asset[0], extra=asset[1])

    def state_before(self, current: TaskContext) -> RunState | None:
        """Return the run's state before the fork, for a task downstream; None if it was not reached."""
        from airflow_allma.engine import RunState

        saved = load_state(current, self.items)
        if saved is not None:
            return RunState.from_dict(saved)
        return cast("ResumableTask", self.dag.get_task(self.items)).state_before(current)

    def _warn_about_retries(self, current: TaskContext, failure: StepError) -> None:
        from airflow_allma.engine.failures import may_retry

        if may_retry(current.program.steps[self.step], failure):
            LOG.warning(
                "onError.retries of step %s cannot rerun its branches, which ran in tasks of their own. Add "
                "retries to the steps in its branches, or clear their failed tasks and this one.",
                self.step,
            )

    def _require_reached(self, current: TaskContext, states: Mapping[str, str | None]) -> None:
        """Continue only if the run reached this fork.

        Raises:
            AirflowSkipException: it took another path.
            AirflowFailException: it failed before.
        """
        state = states.get(self.items)
        if state == "skipped":
            raise AirflowSkipException("The run takes another path.")
        if state == "success" or pull(current.ti, self.items, Key.ERROR) is not None:
            return
        raise AirflowFailException(
            f"The run did not get past {self.items} (it is {state}): see the tasks upstream of it."
        )

    def _output(
        self, current: TaskContext, states: Mapping[str, str | None], state: RunState
    ) -> dict[str, Any]:
        from airflow_allma.distributed.failure_summary import FailureSummary
        from airflow_allma.engine import aggregate_target, join_results

        fork = current.fork(self.step)
        for task in (self.items, self.chunks):
            if states.get(task) != "success":
                raise _error_of(current, task, states.get(task))
        summary = FailureSummary()
        limits = fork.limits.restore(self._decision(current).computed)
        files, chunk_items = self._result_files(current, fork, state)
        try:
            joined = join_results(
                fork,
                summary.watch(self._results(current, states, chunk_items)),
                current.services,
                aggregate_target(fork, current.info, current.services),
                limits=limits,
                max_inline_bytes=current.settings.max_inline_bytes,
                files=files,
            )
        except ParallelBranchExecutionError:
            self._report(current, summary)
            raise
        self._report(current, summary)
        return joined.output

    def _result_files(
        self, current: TaskContext, fork: CompiledFork, state: RunState
    ) -> tuple[ResultFiles | None, ChunkItems | None]:
        """Return what writes the files of the fork's ``resultWriter``, and what asks for its items."""
        from airflow_allma.distributed.chunk_items import open_result_files
        from airflow_allma.engine import resolve_items

        if fork.model.result_writer is None:
            return None, None
        items = current.run(lambda: resolve_items(fork, state.context, current.services))
        return open_result_files(fork, current.info, current.services, items)

    def _report(self, current: TaskContext, summary: FailureSummary) -> None:
        """Log what failed, and pass its number to the API server, for the notes of the task and the run."""
        for line in summary.lines():
            LOG.log(WARNING if summary.failed else INFO, "%s", line)
        # A later try replaces what the notes said before.
        if summary.failed or int(current.ti.try_number or 1) > 1:
            counts = {"fork": self.step, "items": summary.items, "failed": summary.failed}
            message = "The notes of the run and of this task do not show the failed items: %s"
            push_or_warn(current.ti, Key.FORK_NOTE, counts, LOG, message)

    def _results(
        self, current: TaskContext, states: Mapping[str, str | None], items: ChunkItems | None
    ) -> Iterator[BranchResult]:
        from airflow_allma.distributed.chunk_results import ChunkResults, chunk_folder
        from airflow_allma.distributed.fork_decision import ForkMode
        from airflow_allma.engine.item_batches import with_batch

        decision = self._decision(current)
        fork = current.fork(self.step)
        if decision.mode is ForkMode.MEMORY:
            returning = {
                task: operator.known_keys(compiled.program)
                for branch, compiled in zip(self.branches, fork.branches, strict=True)
                for task in branch.tasks
                if (operator := cast("FlowBranchOperator", self.dag.get_task(task))).always_ends(
                    compiled.program
                )
            }
            results = memory_results(
                current, fork, decision.count or 0, self.branches, states=states, returning=returning
            )
            if fork.batcher is not None:
                batches = load_fork_values(current, self.items, self.step)
                results = (with_batch(result, batches[result.item_index]) for result in results)
            yield from results
        else:
            plan = load_chunk_plan(current, self.chunks)
            outcomes = ChunkTaskOutcomes(current, self.chunk, states)
            folder_of = partial(chunk_folder, current.services, current.info, self.step, plan)
            yield from ChunkResults(fork, plan, outcomes, folder_of, current.services, items).read()

    def _decision(self, current: TaskContext) -> ForkDecision:
        from airflow_allma.distributed.fork_decision import ForkDecision

        saved = pull(current.ti, self.items, Key.PLAN)
        if saved is None:
            raise PermanentStepError(
                f"Task {self.items} is marked as success and decided nothing. Clear it and its downstream "
                "tasks."
            )
        return ForkDecision.from_dict(saved)


def _error_of(current: TaskContext, task: str, state: str | None) -> StepError:
    """Return the error with which a task of the fork failed."""
    error = pull(current.ti, task, Key.ERROR)
    if error is None:
        return PermanentStepError(
            f"Task {task} ended as {state} without an error: its process was killed, or somebody set its "
            "state. Clear it to run it again."
        )
    return PermanentStepError(
        str(error.get("errorMessage")), details=error.get("errorDetails"), error_name=error.get("errorName")
    )
