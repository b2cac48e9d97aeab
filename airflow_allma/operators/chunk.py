"""The task of one chunk: runs all branches of its items in one process."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_allma.exceptions import AllmaError, PermanentStepError, StorageError
from airflow_allma.operators.chunk_failures import FailedRuns, ItemNames
from airflow_allma.operators.chunk_plan import ChunkSpec, range_label
from airflow_allma.operators.chunk_results import chunk_folder
from airflow_allma.operators.chunk_sink import ChunkSink, InlineSink, StoredSink
from airflow_allma.operators.flow_task import FlowTask
from airflow_allma.operators.run import LOG, TaskRun
from airflow_allma.operators.xcoms import Key, pull, push

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult, CompiledFork
    from airflow_allma.engine.manifests import ByteOffsets

__all__ = ["ChunkOperator"]


class ChunkOperator(FlowTask):
    """Runs the items of a chunk through all branches of a fork.

    Results go to the offload location as they come, or under ``allma_results`` at the end when none is
    configured. A task that runs again, by a retry or after a clear, runs only those items that have no good
    result there.

    Args:
        items: full id of the fork's ``items`` task.
        chunks: full id of the fork's ``chunks`` task.
        element: the mapped argument, one entry of what ``chunks`` returned.
        kwargs: as for ``FlowTask``; ``step`` is the fork.

    Returns:
        ``{"items", "failed", "first"}``: how many items ran, how many of them failed, the first one's index.
    """

    template_fields = ("element",)

    def __init__(self, *, items: str, chunks: str, element: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.chunks = chunks
        self.element = element
        self._running: TaskRun | None = None

    def on_kill(self) -> None:
        """End soon, so that finished results are written; Airflow calls it when the task is to stop.

        A moment later the process is killed.
        """
        if self._running is not None:
            self._running.stop()

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Run the items; in the task's own process."""
        from airflow_allma.engine.errors import step_error_from

        self._running = run = TaskRun(self.flow, context, many=True)
        chunk = ChunkSpec.from_dict(self.element)
        plan = pull(run.ti, self.chunks, Key.PLAN)
        tally = _Tally()
        try:
            with self._sink(run, chunk, plan) as sink:
                self._run_items(run, chunk, int(plan["concurrency"]), sink, tally)
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

    def _tell_of_failures(self, run: TaskRun, chunk: ChunkSpec, tally: _Tally) -> None:
        """Name the first items that failed in the log."""
        values = None
        if chunk.manifest is None:
            first, count = chunk.first or 0, chunk.count or 0
            values = run.fork_values(self.items, self.step)[first : first + count]
        names = ItemNames(run.handle.fork(self.step), chunk.first, values, chunk.manifest, run.services.store)
        where = f" of {chunk.manifest.pointer}" if chunk.manifest is not None else ""
        run.log.warning("%d of %d items%s failed. The first of them:", tally.failed.items, tally.items, where)
        for line in names.lines(tally.failed):
            run.log.warning("%s", line)
        run.log.warning("%s", _redrive(run))

    def _sink(self, run: TaskRun, chunk: ChunkSpec, plan: Mapping[str, Any]) -> ChunkSink:
        folder = chunk_folder(run, self.step, str(plan["token"]), chunk.number)
        if folder is None or run.services.store is None:
            return InlineSink(run.settings.max_inline_bytes)
        return StoredSink(run.services.store, folder, run.settings.result_part_bytes)

    def _run_items(
        self, run: TaskRun, chunk: ChunkSpec, concurrency: int, sink: ChunkSink, tally: _Tally
    ) -> None:
        """Run what has no good result yet."""
        from airflow_allma.engine import ForkRun, run_items
        from airflow_allma.engine.manifests import ByteOffsets

        base = run.saved_state(self.items)
        if base is None:
            raise PermanentStepError(f"Fork {self.step}: task {self.items} left no state.")
        fork = run.handle.fork(self.step)
        first = chunk.first or 0
        offsets = ByteOffsets()
        source = self._items(run, chunk, offsets)

        def left() -> Iterator[tuple[int, Any]]:
            for place, item in source:
                tally.items += 1
                if _is_done(fork, place, sink):
                    tally.kept += 1
                else:
                    yield first + place, item

        def take(result: BranchResult) -> None:
            place = result.item_index - first
            told = offsets.told(place, result)
            tally.failed.add(place, told)
            sink.add(place, offsets.of(place), told)

        fork_run = ForkRun(fork, base["context"], run.info, run.services)
        run.run(
            lambda: run_items(
                fork_run, left(), take, concurrency=concurrency, blocking=chunk.manifest is not None
            )
        )
        if tally.kept:
            self.log.info("%d items had results of an earlier try", tally.kept)

    def _items(self, run: TaskRun, chunk: ChunkSpec, offsets: ByteOffsets) -> Iterator[tuple[int, Any]]:
        """Pairs of place in the chunk and item; ``offsets`` learns where the lines of a manifest begin."""
        if chunk.manifest is None:
            first, count = chunk.first or 0, chunk.count or 0
            return enumerate(run.fork_values(self.items, self.step)[first : first + count])
        if run.services.store is None:
            raise StorageError(f"There is no store to read {chunk.manifest.pointer} from.")
        from airflow_allma.engine.manifests import chunk_items

        return offsets.passing(chunk_items(run.services.store, chunk.manifest))


def _is_done(fork: CompiledFork, place: int, sink: ChunkSink) -> bool:
    """Whether nothing of an item has to run again."""
    names = [branch.branch_id for branch in fork.branches]
    if fork.first_only and any(sink.has_succeeded(place, name) for name in names):
        return True
    return all(sink.is_done(place, name) for name in names)


def _redrive(run: TaskRun) -> str:
    """How to run what failed again."""
    if run.services.settings.offload_location is None:
        return (
            "Clear this task, with what comes after it, to run all items of this chunk again. With [allma] "
            "offload_location only those that failed would run again."
        )
    return "Clear this task, with what comes after it, to run the failed items again, and only these."


@dataclass(slots=True)
class _Tally:
    """What came of a chunk's items.

    Attributes:
        items: how many it has.
        kept: how many had good results before.
        failed: those that failed.
    """

    items: int = 0
    kept: int = 0
    failed: FailedRuns = field(default_factory=FailedRuns)
