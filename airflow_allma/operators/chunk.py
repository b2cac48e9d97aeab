"""The task of one chunk: runs all branches of its items in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk.exceptions import AirflowFailException

from airflow_allma.exceptions import AllmaError, PermanentStepError, StorageConfigurationError, StorageError
from airflow_allma.operators.chunk_plan import ChunkSpec, range_label
from airflow_allma.operators.chunk_results import read_part, write_part
from airflow_allma.operators.flow_task import FlowTask
from airflow_allma.operators.run import LOG, TaskRun
from airflow_allma.operators.xcoms import Key, pull, push

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult
    from airflow_allma.storage import Pointer

__all__ = ["ChunkOperator"]


class ChunkOperator(FlowTask):
    """Runs the items of a chunk through all branches of a fork.

    Results go to the offload location, or under ``allma_results`` when none is configured. A task that is run
    again, by a retry or after a clear, runs only those items that have no good result there.

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

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Run the items; in the task's own process."""
        from airflow_allma.engine.errors import step_error_from

        run = TaskRun(self.flow, context, many=True)
        chunk = ChunkSpec.from_dict(self.element)
        plan = pull(run.ti, self.chunks, Key.PLAN)
        try:
            results, items = self._results(run, chunk, plan)
            failed = self._failed_items(results)
            self._deliver(run, chunk, plan, results, items)
        except Exception as error:
            # Whatever it was: the aggregate is to say so instead of "lost".
            if not isinstance(error, AllmaError):
                LOG.exception("This is a defect of the chunk's task")
            self.fail(run, step_error_from(error).as_dict())
        label = range_label(chunk.first, items)
        context["allma_label"] = f"{label}, {len(failed)} failed" if failed else label  # type: ignore[index]
        self.log.info("%s: %d of %d items failed", label, len(failed), items)
        if failed and run.handle.fork(self.step).config.fail_on_branch_error:
            first = min(failed)
            raise AirflowFailException(
                f"{len(failed)} of {items} items failed, the first is item {first}: {failed[first]}. "
                "Clear this task to run the failed items again."
            )
        return {"items": items, "failed": len(failed), "first": chunk.first}

    def _results(
        self, run: TaskRun, chunk: ChunkSpec, plan: Mapping[str, Any]
    ) -> tuple[list[BranchResult], int]:
        """Run what has no result yet; all results in item order, and how many items there are."""
        from airflow_allma.engine import BranchStatus, run_items
        from airflow_allma.engine.forking import ForkRun

        base = run.saved_state(self.items)
        if base is None:
            raise PermanentStepError(f"Fork {self.step}: task {self.items} left no state.")
        part = self._part(run, chunk, plan)
        kept: list[BranchResult] = []
        if part is not None and run.services.store is not None:
            earlier = list(read_part(run.services.store, part))
            bad = {result.item_index for result in earlier if result.status is BranchStatus.FAILED}
            kept = [result for result in earlier if result.item_index not in bad]
        done = {result.item_index for result in kept}
        counted = 0
        source = self._items(run, chunk)

        def left() -> Iterator[tuple[int, Any]]:
            nonlocal counted
            for index, item in source:
                counted += 1
                if index not in done:
                    yield index, item

        if done:
            self.log.info("%d items have results of an earlier try", len(done))
        fork_run = ForkRun(run.handle.fork(self.step), base["context"], run.info, run.services)
        results = list(kept)
        run.run(
            lambda: run_items(
                fork_run,
                left(),
                results.append,
                concurrency=int(plan["concurrency"]),
                blocking=chunk.manifest is not None,
            )
        )
        results.sort(key=lambda result: (result.item_index, result.branch_index))
        return results, counted

    def _items(self, run: TaskRun, chunk: ChunkSpec) -> Iterator[tuple[int, Any]]:
        if chunk.manifest is None:
            first, count = chunk.first or 0, chunk.count or 0
            values = run.fork_values(self.items, self.step)[first : first + count]
            return ((first + place, item) for place, item in enumerate(values))
        if run.services.store is None:
            raise StorageError(f"There is no store to read {chunk.manifest.pointer} from.")
        from airflow_allma.engine.manifests import chunk_items

        first = chunk.first or 0
        found = chunk_items(run.services.store, chunk.manifest)
        return ((first + place, item) for place, item in found)

    def _failed_items(self, results: list[BranchResult]) -> dict[int, str]:
        from airflow_allma.engine import BranchStatus

        failed: dict[int, str] = {}
        for result in results:
            if result.status is BranchStatus.FAILED:
                error = result.error or {}
                failed.setdefault(result.item_index, f"{error.get('errorName')}: {error.get('errorMessage')}")
        return failed

    def _part(self, run: TaskRun, chunk: ChunkSpec, plan: Mapping[str, Any]) -> Pointer | None:
        location = run.services.settings.offload_location
        if location is None:
            return None
        return location.pointer(
            run.info.flow_id,
            run.info.flow_execution_id,
            self.step,
            "results",
            str(plan["token"]),
            f"{chunk.number:06d}",
            ending=".jsonl",
        )

    def _deliver(
        self,
        run: TaskRun,
        chunk: ChunkSpec,
        plan: Mapping[str, Any],
        results: list[BranchResult],
        items: int,
    ) -> None:
        summary: dict[str, Any] = {"number": chunk.number, "items": items}
        part = self._part(run, chunk, plan)
        if part is not None and run.services.store is not None:
            write_part(run.services.store, part, results)
            push(run.ti, Key.RESULTS, summary | {"part": part.inner()})
            return
        inline = [result.to_dict() for result in results]
        size = len(msgspec.json.encode(inline))
        if size > run.settings.max_inline_bytes:
            raise StorageConfigurationError(
                f"The results of this chunk are {size} bytes of JSON, more than [allma] max_inline_bytes "
                f"({run.settings.max_inline_bytes}). Set [allma] offload_location, so that results are written "
                "there, or make chunk_bytes smaller."
            )
        push(run.ti, Key.RESULTS, summary | {"results": inline})
