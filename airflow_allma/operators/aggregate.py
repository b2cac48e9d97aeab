"""The last task of a fork: joins the results and decides whether the fork failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_allma.exceptions import AllmaError, PermanentStepError, StepError
from airflow_allma.operators.assets import aggregate_alias, aggregate_asset
from airflow_allma.operators.base import FlowOperator
from airflow_allma.operators.chunk_results import ChunkResults
from airflow_allma.operators.fork_results import BranchTasks, memory_results
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, pull

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult, RunState, SegmentResult
    from airflow_allma.operators.manual_success import ResumableTask

__all__ = ["AggregateOperator"]


class AggregateOperator(FlowOperator):
    """Joins what a fork's branch runs came to, in item order, and goes on (or fails) as the fork's step.

    It alone decides whether the fork failed; its trigger rule is ``all_done``. What was planned is the
    measure: an item without a result, because its process was killed or its task was cleared away, counts as
    failed and is named.

    Args:
        items: full id of the fork's ``items`` task.
        branches: the tasks of each branch.
        chunks: full id of the fork's ``chunks`` task.
        chunk: full id of the task that runs the chunks.
        kwargs: as for ``FlowOperator``; ``step`` is the fork.

    Returns:
        ``{"aggregatedData": ...}``, or the error object when the fork failed and the flow goes on.
    """

    def __init__(
        self, *, items: str, branches: Sequence[BranchTasks], chunks: str, chunk: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.branches = tuple(branches)
        self.chunks = chunks
        self.chunk = chunk

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Join; in the task's own process."""
        from airflow_allma.engine import RunState, SegmentStatus
        from airflow_allma.engine.errors import step_error_from

        run = TaskContext(self.flow, context)
        states = run.task_states(
            [
                self.items,
                self.chunks,
                self.chunk,
                *(task for branch in self.branches for task in branch.tasks),
            ]
        )
        self._require_arrival(run, states)
        saved = run.saved_state(self.items)
        if saved is None:
            raise AirflowFailException(f"Task {self.items} left no state. Clear it and what comes after it.")
        state = RunState.from_dict(saved)
        try:
            output = self._output(run, states)
            ended = run.run(lambda: _complete(run, state, self.step, output))
        except Exception as error:  # noqa: BLE001 - whatever it was, the fork's onError is to deal with it
            if not isinstance(error, AllmaError):
                LOG.exception("This is a defect of the fork's aggregate task")
            failure = step_error_from(error)
            self._warn_of_retries(run, failure)
            ended = run.run(lambda: _fail(run, state, self.step, failure))
        if ended.status is SegmentStatus.FAILED:
            self.fail(run, ended.error or {})
        run.save_state(ended.state)
        returned = run.as_return_value(ended.output)
        stored = aggregate_asset(self, run, ended.output, returned)
        for alias in self.outlets:
            # An on_dag hook may have added outlets of its own.
            if stored is not None and alias == aggregate_alias(run.ti.dag_id, self.step):
                context["outlet_events"][alias].add(stored[0], extra=stored[1])
        return returned

    def state_before(self, run: TaskContext) -> RunState | None:
        """Where the run stood when it came to the fork, for a task that comes after; None: it did not."""
        from airflow_allma.engine import RunState

        saved = run.saved_state(self.items)
        if saved is not None:
            return RunState.from_dict(saved)
        return cast("ResumableTask", self.dag.get_task(self.items)).state_before(run)

    def _warn_of_retries(self, run: TaskContext, failure: StepError) -> None:
        from airflow_allma.engine.failures import may_retry

        if may_retry(run.program.steps[self.step], failure):
            LOG.warning(
                "onError.retries of step %s cannot run its branches again: they ran in tasks of their own. "
                "Give the steps in its branches retries, or clear their failed tasks and this one.",
                self.step,
            )

    def _require_arrival(self, run: TaskContext, states: Mapping[str, str | None]) -> None:
        """Go on only if the run came to this fork.

        Raises:
            AirflowSkipException: it took another way.
            AirflowFailException: it never got so far.
        """
        state = states.get(self.items)
        if state == "skipped":
            raise AirflowSkipException("The run takes another way.")
        if state == "success" or pull(run.ti, self.items, Key.ERROR) is not None:
            return
        raise AirflowFailException(
            f"The run did not get through {self.items} (it is {state}): see the tasks before it."
        )

    def _output(self, run: TaskContext, states: Mapping[str, str | None]) -> dict[str, Any]:
        from airflow_allma.engine import collected_target, join_results

        fork = run.handle.fork(self.step)
        for task in (self.items, self.chunks):
            if states.get(task) != "success":
                raise _step_error(run, task, states.get(task))
        joined = join_results(
            fork,
            self._results(run, states),
            run.services,
            collected_target(fork, run.info, run.services),
            max_inline_bytes=run.settings.max_inline_bytes,
        )
        self.log.info("%d branch runs, %d of them failed", joined.count, joined.failed)
        return joined.output

    def _results(self, run: TaskContext, states: Mapping[str, str | None]) -> Iterator[BranchResult]:
        decided = _plan_of(run, self.items)
        fork = run.handle.fork(self.step)
        if decided["mode"] == "memory":
            yield from memory_results(run, fork, int(decided["count"]), self.branches, states)
        else:
            plan = _plan_of(run, self.chunks)
            yield from ChunkResults(run, fork, plan, self.chunk, states).read()


async def _complete(run: TaskContext, state: RunState, step: str, output: dict[str, Any]) -> SegmentResult:
    from airflow_allma.engine import complete_step

    return await complete_step(run.program, state, step, output, info=run.info, services=run.services)


async def _fail(run: TaskContext, state: RunState, step: str, error: StepError) -> SegmentResult:
    from airflow_allma.engine import fail_step

    # A new try could only read the same results again: the tries of a fork are those of its branches.
    return await fail_step(run.program, state, step, error, info=run.info, services=run.services)


def _plan_of(run: TaskContext, task: str) -> Any:
    plan = pull(run.ti, task, Key.PLAN)
    if plan is None:
        raise PermanentStepError(
            f"Task {task} is marked as successful and has planned nothing. Clear it, and what comes after it."
        )
    return plan


def _step_error(run: TaskContext, task: str, state: str | None) -> StepError:
    error = pull(run.ti, task, Key.ERROR)
    if error is None:
        return PermanentStepError(
            f"Task {task} ended as {state} and left no error: its process was killed, or somebody set its "
            "state. Clear it to run it again."
        )
    return PermanentStepError(
        str(error.get("errorMessage")), details=error.get("errorDetails"), error_name=error.get("errorName")
    )
