"""The task of one chunk: runs all branches of its items in one process."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_allma.exceptions import AllmaError, PermanentStepError, StorageError
from airflow_allma.operators.base import FlowOperator
from airflow_allma.operators.chunk_failures import ItemNames
from airflow_allma.operators.chunk_plan import ChunkSpec, range_label
from airflow_allma.operators.chunk_results import chunk_folder
from airflow_allma.operators.chunk_sink import ChunkSink, InlineSink, StoredSink
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, pull, push

if TYPE_CHECKING:
    from airflow_allma.engine.manifest_items import ByteOffsets
    from airflow_allma.operators.chunk_running import Progress

__all__ = ["ChunkOperator"]


class ChunkOperator(FlowOperator):
    """Runs the items of a chunk through all branches of a fork.

    Results go to the offload location as they come, or under ``allma_results`` at the end when none is
    configured. A task that runs again, by a retry or after a clear, runs only those items that have no good
    result there.

    Args:
        items: full id of the fork's ``items`` task.
        chunks: full id of the fork's ``chunks`` task.
        element: the mapped argument, one entry of what ``chunks`` returned.
        kwargs: as for ``FlowOperator``; ``step`` is the fork.

    Returns:
        ``{"items", "failed", "first"}``: how many items ran, how many of them failed, the first one's index.
    """

    template_fields = ("element",)

    def __init__(self, *, items: str, chunks: str, element: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.chunks = chunks
        self.element = element
        self._running: TaskContext | None = None

    @property
    def item_label(self) -> str:
        """What names the chunk before it ran; for the task's label."""
        return str(self.element["label"])

    def on_kill(self) -> None:
        """End soon, so that finished results are written; Airflow calls it when the task is to stop.

        A moment later the process is killed.
        """
        if self._running is not None:
            self._running.stop()

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Run the items; in the task's own process."""
        from airflow_allma.engine.errors import step_error_from

        self._running = run = TaskContext(self.flow, context, many=True)
        chunk = ChunkSpec.from_dict(self.element)
        plan = pull(run.ti, self.chunks, Key.PLAN)
        try:
            with self._sink(run, chunk, plan) as sink:
                tally = self._run_items(run, chunk, int(plan["concurrency"]), sink)
                chunk.require_count(tally.items)
            push(run.ti, Key.RESULTS, {"number": chunk.number, **sink.delivery(tally.items)})
        except CancelledError as error:
            # An exception that is no failure of the chunk's: Airflow may have it tried again.
            raise AirflowException("The task was told to stop. What had ended is kept.") from error
        except Exception as error:  # noqa: BLE001 - whatever it was, the aggregate is to say so, not "lost"
            if not isinstance(error, AllmaError):
                LOG.exception("This is a defect of the chunk's task")
            self.fail(run, step_error_from(error).as_dict())
        label = range_label(chunk.first, tally.items)
        failed = tally.failed.items
        # Airflow renders the label once more when the task has ended, with what stands in its context then.
        cast("dict[str, Any]", context)["allma_label"] = f"{label}, {failed} failed" if failed else label
        self.log.info("%s: %d of %d items failed", label, failed, tally.items)
        if failed:
            self._tell_of_failures(run, chunk, tally)
            if run.handle.fork(self.step).config.fail_on_branch_error:
                raise AirflowFailException(
                    f"{failed} of {tally.items} items failed; the log above names the first of them. "
                    f"{_redrive(run)}"
                )
        return {"items": tally.items, "failed": failed, "first": chunk.first}

    def _tell_of_failures(self, run: TaskContext, chunk: ChunkSpec, tally: Progress) -> None:
        """Name the first items that failed in the log."""
        values = self._values(run, chunk) if chunk.manifest is None else None
        names = ItemNames(run.handle.fork(self.step), chunk.first, values, chunk.manifest, run.services.store)
        where = f" of {chunk.manifest.pointer}" if chunk.manifest is not None else ""
        run.log.warning("%d of %d items%s failed. The first of them:", tally.failed.items, tally.items, where)
        for line in names.lines(tally.failed):
            run.log.warning("%s", line)
        run.log.warning("%s", _redrive(run))

    def _sink(self, run: TaskContext, chunk: ChunkSpec, plan: Mapping[str, Any]) -> ChunkSink:
        folder = chunk_folder(run, self.step, str(plan["token"]), chunk.number)
        if folder is None or run.services.store is None:
            return InlineSink(run.settings.max_inline_bytes)
        return StoredSink(run.services.store, folder, run.settings.result_part_bytes)

    def _run_items(self, run: TaskContext, chunk: ChunkSpec, concurrency: int, sink: ChunkSink) -> Progress:
        """Run what has no good result yet."""
        from airflow_allma.engine import ForkRun
        from airflow_allma.operators.chunk_running import ChunkRun

        base = run.saved_state(self.items)
        if base is None:
            raise PermanentStepError(f"Fork {self.step}: task {self.items} left no state.")
        fork_run = ForkRun(run.handle.fork(self.step), base["context"], run.info, run.services)
        chunk_run = ChunkRun(fork_run, chunk, sink, run.log)
        source = self._source(run, chunk, chunk_run.offsets)
        run.run(lambda: chunk_run.run(source, concurrency))
        if chunk_run.progress.kept:
            self.log.info("%d items had results of an earlier try", chunk_run.progress.kept)
        return chunk_run.progress

    def _source(
        self, run: TaskContext, chunk: ChunkSpec, offsets: ByteOffsets
    ) -> Iterable[list[tuple[int, Any]]]:
        """Pairs of place in the chunk and item, in batches; ``offsets`` learns where lines begin."""
        from airflow_allma.common.batching import batched

        if chunk.manifest is None:
            return batched(enumerate(self._values(run, chunk)))
        if run.services.store is None:
            raise StorageError(f"There is no store to read {chunk.manifest.pointer} from.")
        from airflow_allma.engine.manifest_items import chunk_batches

        return offsets.passing(chunk_batches(run.services.store, chunk.manifest))

    def _values(self, run: TaskContext, chunk: ChunkSpec) -> list[Any]:
        first, count = chunk.first or 0, chunk.count or 0
        return run.fork_values(self.items, self.step)[first : first + count]


def _redrive(run: TaskContext) -> str:
    """How to run what failed again."""
    if run.services.settings.offload_location is None:
        return (
            "Clear this task, with what comes after it, to run all items of this chunk again. With [allma] "
            "offload_location only those that failed would run again."
        )
    return "Clear this task, with what comes after it, to run the failed items again, and only these."
