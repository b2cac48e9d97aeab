"""The task of one chunk: runs all branches of its items in one process."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_allma.compat import is_unanswered, send_label, without_traceback
from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.operators.flow_operator import FlowOperator
from airflow_allma.operators.fork_items import load_fork_context, load_fork_values
from airflow_allma.operators.rerun_selection import load_selection
from airflow_allma.operators.run_states import load_suspended, save_suspended
from airflow_allma.operators.suspended_task import Suspension, Wakeup, park
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.try_notes import TryNotes
from airflow_allma.operators.xcoms import Key, pull, push

if TYPE_CHECKING:
    from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
    from airflow_allma.distributed.chunk_progress import Progress
    from airflow_allma.distributed.chunk_run import ChunkRun
    from airflow_allma.distributed.result_sinks import ResultSink
    from airflow_allma.engine.suspension import Wait

__all__ = ["ForkChunkOperator", "load_chunk_plan"]


class ForkChunkOperator(FlowOperator):
    """Runs the items of a chunk through all branches of a fork.

    Results go to the offload location as they come, or under ``allma_results`` at the end if none is
    configured. A task that runs again, by a retry or after a clear, runs only the items without a stored
    success.

    When all items have ended or wait for events, the task parks once for all that wait. Airflow calls
    ``resume`` when events have arrived or a deadline has passed; the items that can continue do, and the task
    parks again.

    Args:
        items: full id of the fork's ``items`` task.
        chunks: full id of the fork's ``chunks`` task.
        chunk: the mapped argument, one entry of what ``chunks`` returned.
        kwargs: as for ``FlowOperator``; ``step`` is the fork.

    Returns:
        ``{"items", "failed", "first"}``: how many items ran, how many of them failed, the index of the first.
    """

    template_fields = ("chunk",)

    def __init__(self, *, items: str, chunks: str, chunk: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.chunks = chunks
        self.chunk = chunk
        self._current: TaskContext | None = None
        self._final_label: str | None = None

    @property
    def item_label(self) -> str:
        """The chunk's name, for the task's label."""
        return self._final_label or str(self.chunk["label"])

    def on_kill(self) -> None:
        """Stop early, so that finished results are written; Airflow calls this when the task is to stop.

        The process is killed a moment later.
        """
        if self._current is not None:
            self._current.stop()

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Run the items, in the task's own process."""
        return self._execute(context, None)

    def resume(self, context: Mapping[str, Any], event: Any = None) -> dict[str, Any]:
        """Continue items that waited, in a new process of the task.

        Args:
            context: Airflow's context of the task.
            event: why Airflow continues the task; see ``Wakeup``.
        """
        return self._execute(context, Wakeup(event))

    def _execute(self, context: Mapping[str, Any], wakeup: Wakeup | None) -> dict[str, Any]:
        from airflow_allma.distributed.chunk_plan import ChunkSpec, range_label
        from airflow_allma.engine.errors import step_error_from

        self._current = current = self.begin(context, many=True)
        try:
            chunk = ChunkSpec.from_dict(self.chunk)
            progress = self._run(current, chunk, load_chunk_plan(current, self.chunks), wakeup)
        except CancelledError as error:
            # An exception that is not a failure of the chunk: Airflow can retry it.
            raise AirflowException("The task was stopped. Finished results are kept.") from error
        except Exception as error:
            if is_unanswered(error):
                raise
            # The aggregate is to report the error, whatever else it is.
            if not isinstance(error, AllmaError):
                LOG.exception("This is a bug in the chunk's task")
            self.fail(current.ti, step_error_from(error).as_dict())
        current.events.forget()
        label = range_label(chunk.first, progress.items)
        failed = progress.failures.items
        self._final_label = f"{label}, {failed} failed" if failed else label
        LOG.info("%d of %d items failed (%s)", failed, progress.items, label)
        if failed:
            self._report_failures(current, chunk, progress)
            if current.fork(self.step).config.fail_on_branch_error:
                raise without_traceback(
                    AirflowFailException(
                        f"{failed} of {progress.items} items failed; the log above shows the first of them. "
                        f"{_how_to_rerun(current)}"
                    )
                )
        return {"items": progress.items, "failed": failed, "first": chunk.first}

    def _run(
        self, current: TaskContext, chunk: ChunkSpec, plan: ChunkPlan, wakeup: Wakeup | None
    ) -> Progress:
        """Run what has no stored success, or continue what has waited, and pass the results on.

        Raises:
            TaskAwaitingInput: items wait for events.
        """
        from airflow_allma.distributed.chunk_results import chunk_folder
        from airflow_allma.distributed.chunk_run import ChunkRun
        from airflow_allma.distributed.item_selection import ItemSelection
        from airflow_allma.distributed.result_sinks import open_sink
        from airflow_allma.engine import ForkRun

        services, info, fork = current.services, current.info, current.fork(self.step)
        notes = TryNotes(current.context, self.retries or 0)
        fork_context = load_fork_context(current, self.items, self.step)
        folder = chunk_folder(services, info, self.step, plan, chunk)
        before = None if wakeup is None else load_suspended(current)
        kept = None if before is None else before["kept"]
        with open_sink(folder, services, current.settings, fork=fork, kept=kept) as sink:
            chunk_run = ChunkRun(ForkRun(fork, fork_context, info, services), chunk, sink, LOG)
            already = chunk_run.waits if before is not None else []
            if before is None or wakeup is None:
                values = (
                    [] if chunk.manifest is not None else load_fork_values(current, self.items, self.step)
                )
                # An item that failed after its event came would wait for another one.
                keeps_failures = notes.has_parked()
                selection = load_selection(current.ti, self.chunks, chunk, sink, notes)
                if selection is not None:
                    LOG.info("Rerunning %d selected items; others keep their results", len(selection.items))
                current.run(
                    lambda: chunk_run.run(
                        plan.concurrency, lambda: values, keeps_failures=keeps_failures, selection=selection
                    )
                )
            else:
                Suspension({}, tuple(already), before["consumed"]).begin(current, wakeup)
                if (selected := before.get("selection")) is not None:
                    chunk_run.select(ItemSelection.from_dict(selected))
                current.run(lambda: chunk_run.wake(plan.concurrency, before["progress"]))
        progress = chunk_run.progress
        if chunk_run.waits:
            if before is None and folder is not None:
                notes.add_parked()
            self._park(current, chunk, chunk_run, sink, already)
        if progress.reused:
            LOG.info("%d items had results of an earlier try", progress.reused)
        counts = {"number": chunk.number, "failed": progress.failures.items, "first": chunk.first}
        push(current.ti, Key.RESULTS, {**counts, **sink.finish(progress.items)})
        return progress

    def _park(
        self,
        current: TaskContext,
        chunk: ChunkSpec,
        chunk_run: ChunkRun,
        sink: ResultSink,
        already: list[Wait],
    ) -> NoReturn:
        """Keep what waits, and give the task's process and its slot back."""
        from airflow_allma.distributed.chunk_plan import range_label

        kept, progress = sink.park(), chunk_run.progress
        if not kept:
            # Results and items that wait are stored: no later try needs these events again.
            current.events.forget()
        saved = {"kept": kept, "progress": progress.to_dict(), "consumed": current.events.consumed}
        if chunk_run.selection is not None:
            saved["selection"] = chunk_run.selection.to_dict()
        save_suspended(current, saved)
        LOG.info("%s", progress)
        send_label(current.ti, f"{range_label(chunk.first, progress.items)}, {progress.waiting} waiting")
        park(current, chunk_run.waits, already)

    def _report_failures(self, current: TaskContext, chunk: ChunkSpec, progress: Progress) -> None:
        """Log the first items that failed."""
        from airflow_allma.distributed.failure_report import FailureReport

        values = None
        if chunk.manifest is None:
            values = chunk.slice_of(load_fork_values(current, self.items, self.step))
        report = FailureReport(current.fork(self.step), chunk, values, current.services.store)
        of_manifest = f" of {chunk.manifest.pointer}" if chunk.manifest is not None else ""
        LOG.warning(
            "%d of %d items%s failed. The first of them:",
            progress.failures.items,
            progress.items,
            of_manifest,
        )
        for line in report.lines(progress.failures):
            LOG.warning("%s", line)
        LOG.warning("%s", _how_to_rerun(current))


def load_chunk_plan(current: TaskContext, chunks_task: str) -> ChunkPlan:
    """Return what a fork's ``chunks`` task planned.

    Raises:
        PermanentStepError: it planned nothing, because somebody marked it as success.
    """
    from airflow_allma.distributed.chunk_plan import ChunkPlan

    saved = pull(current.ti, chunks_task, Key.PLAN)
    if saved is None:
        raise PermanentStepError(
            f"Task {chunks_task} is marked as success and planned nothing. Clear it and its downstream tasks."
        )
    return ChunkPlan.from_dict(saved)


def _how_to_rerun(current: TaskContext) -> str:
    if current.services.settings.results_location is None:
        return (
            "Clear this task and its downstream tasks to rerun all items of this chunk. With [allma] "
            "offload_location only the failed ones would run again."
        )
    return "Clear this task and its downstream tasks to rerun the failed items, and only these."
