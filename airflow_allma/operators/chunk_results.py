"""What the chunks of a fork left behind, as results in item order, measured against what was planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.operators.chunk_plan import ChunkSpec, count_lines
from airflow_allma.operators.fork_results import lost_result
from airflow_allma.operators.task_context import LOG
from airflow_allma.operators.xcoms import Key, pull, pull_all

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult, CompiledBranch, CompiledFork
    from airflow_allma.operators.task_context import TaskContext
    from airflow_allma.storage.keys import OffloadLocation

__all__ = ["ChunkResults", "chunk_folder"]

_LOOKS_INTO_NONE: Final = frozenset({"COLLECT_ARRAY", "NONE"})
"""Strategies that hand outputs on, or drop them, as they are."""


def chunk_folder(run: TaskContext, fork: str, token: str, number: int) -> OffloadLocation | None:
    """Where a chunk writes its results; None when there is no offload location.

    Args:
        run: the run of the flow.
        fork: the fork's step id.
        token: names the plan: results of another plan are never read.
        number: the chunk.
    """
    location = run.services.settings.offload_location
    if location is None:
        return None
    return location.below(*run.info.key_ids, fork, "results", token, f"{number:06d}")


@dataclass(frozen=True, slots=True)
class ChunkResults:
    """The results of all chunks of one fork.

    Attributes:
        run: the asking task.
        fork: the fork.
        plan: what the fork's ``chunks`` task planned.
        task: full id of the task that ran the chunks.
        states: the states of its instances.
    """

    run: TaskContext
    fork: CompiledFork
    plan: Mapping[str, Any]
    task: str
    states: Mapping[str, str | None]

    def read(self) -> Iterator[BranchResult]:
        """All results in item order, then branch order; of one chunk at a time.

        Every branch run that was planned has one: where a chunk left none, a failure stands for it, and the
        log names the chunk. Outputs stay encoded (``msgspec.Raw``) where the strategy looks into none.

        Raises:
            PermanentStepError: a chunk, or all of them, had another number of items than planned.
            StorageError: the results, or the lines of a chunk that has to be counted, cannot be read.
        """
        ended: dict[int, dict[str, Any]] = {
            saved["number"]: saved
            for saved in pull_all(self.run.ti, self.task, Key.RESULTS)
            if self._state(saved["number"]) in {"success", "failed"}
        }
        before = 0
        for chunk in map(ChunkSpec.from_dict, self.plan["chunks"]):
            saved = ended.get(chunk.number)
            # Where nobody has counted the lines before it, a chunk follows those that have been read.
            first = before if chunk.first is None else chunk.first
            count = self._count(chunk, saved)
            yield from self._whole(chunk, first, count, self._left_behind(chunk, saved, first))
            before = first + count
        planned = self.plan.get("items")
        if planned is not None and before != planned and self.fork.branches:
            raise PermanentStepError(
                f"{planned} items were planned, but the chunks have {before}. Clear the fork's items task, "
                "and what comes after it, to plan again."
            )

    def _count(self, chunk: ChunkSpec, saved: Mapping[str, Any] | None) -> int:
        """How many items a chunk has, whoever counted them."""
        if saved is not None:
            chunk.require_count(int(saved["items"]))
            return int(saved["items"])
        if chunk.count is not None:
            return chunk.count
        if chunk.manifest is None or self.run.services.store is None:
            raise PermanentStepError(f"There is nothing to count the items of chunk {chunk.number} by.")
        return count_lines(self.run.services.store, chunk.manifest)

    def _whole(
        self, chunk: ChunkSpec, first: int, count: int, found: Iterator[BranchResult]
    ) -> Iterator[BranchResult]:
        """What was found of a chunk, with a failure in each gap."""
        why = cache(lambda: self._why(chunk))
        branches = len(self.fork.branches)
        due, end = first, first + count
        lost = 0
        for index, results in _by_item(found, branches):
            if index >= end:
                raise PermanentStepError(
                    f"Chunk {chunk.number} ({chunk.label}) has {count} items, but a result of item "
                    f"{index - first} of it, counted from 0. Clear the fork's items task, and what comes "
                    "after it, to plan again."
                )
            for gap in range(due, index):
                yield from self._lost(gap, self._missing(()), why)
            lost += index - due
            due = index + 1
            missing = self._missing(results) if len(results) < branches else ()
            if missing:
                lost += 1
                results.extend(self._lost(index, missing, why))
                results.sort(key=attrgetter("branch_index"))
            yield from results
        for gap in range(due, end):
            yield from self._lost(gap, self._missing(()), why)
        lost += end - due
        if lost and branches:
            LOG.warning("%d of %d items of chunk %d have no result: %s", lost, count, chunk.number, why())

    def _missing(self, found: Sequence[BranchResult]) -> Sequence[CompiledBranch]:
        """The branches of which an item should have a result, beside those found."""
        from airflow_allma.engine import BranchStatus

        known = {result.branch_index for result in found}
        missing = [branch for branch in self.fork.branches if branch.index not in known]
        if not self.fork.first_only:
            return missing
        # Where one branch ran the others were not to; where none did, it is one result that is lost.
        ran = any(result.status is not BranchStatus.SKIPPED for result in found)
        return () if ran else missing[:1]

    def _lost(
        self, index: int, branches: Sequence[CompiledBranch], why: Callable[[], str]
    ) -> Iterator[BranchResult]:
        return (lost_result(branch, index, why()) for branch in branches)

    def _state(self, number: int) -> str | None:
        return self.states.get(f"{self.task}_{number}")

    def _left_behind(
        self, chunk: ChunkSpec, saved: Mapping[str, Any] | None, first: int
    ) -> Iterator[BranchResult]:
        """The results that a chunk left, in order, with their items' places in the whole list."""
        from airflow_allma.engine import BranchResult

        if saved is not None and "results" in saved:
            results = [_placed(BranchResult.from_dict(one), first + item) for item, one in saved["results"]]
            yield from sorted(results, key=attrgetter("item_index", "branch_index"))
            return
        folder = chunk_folder(self.run, self.fork.step_id, str(self.plan["token"]), chunk.number)
        if folder is not None:
            yield from self._stored(folder, first)

    def _stored(self, folder: OffloadLocation, first: int) -> Iterator[BranchResult]:
        from airflow_allma.distributed.result_reader import read_results
        from airflow_allma.engine import BranchResult, BranchStatus
        from airflow_allma.exceptions import ObjectNotFoundError

        store = self.run.services.store
        places = {branch.branch_id: branch.index for branch in self.fork.branches}
        if store is None:
            return
        ok, skipped = BranchStatus.OK, BranchStatus.SKIPPED
        encoded = self.fork.config.strategy in _LOOKS_INTO_NONE
        try:
            for line in read_results(store, folder, list(places)):
                branch = line.branch
                place = places.get(branch)
                if place is None:
                    continue
                index = first + line.item
                if line.status == "ok":
                    output = line.output if encoded else line.value()
                    yield BranchResult(index, place, branch, ok, output)
                elif line.status == "skipped":
                    yield BranchResult(index, place, branch, skipped)
                else:
                    failed = BranchResult(index, place, branch, BranchStatus.FAILED, error=line.value())
                    yield _placed(failed, index)
        except ObjectNotFoundError:
            # A chunk that was killed before its first part, in a location that does not exist yet.
            return

    def _why(self, chunk: ChunkSpec) -> str:
        state = self._state(chunk.number)
        error = pull(self.run.ti, self.task, Key.ERROR, chunk.number) if state == "failed" else None
        said = f": {error.get('errorName')}: {error.get('errorMessage')}" if error else " and left no result"
        return f"task {self.task}[{chunk.number}] ({chunk.label}) ended as {state}{said}"


def _by_item(results: Iterator[BranchResult], branches: int) -> Iterator[tuple[int, list[BranchResult]]]:
    """Results of the same item together; they come in order."""
    if branches == 1:
        for result in results:
            yield result.item_index, [result]
        return
    for index, same in groupby(results, key=attrgetter("item_index")):
        yield index, list(same)


def _placed(result: BranchResult, index: int) -> BranchResult:
    """The result with its item's place in the whole list; a chunk that nobody had counted did not know it."""
    error = result.error
    if error is not None and "itemIndex" in (error.get("errorDetails") or {}):
        error = {**error, "errorDetails": {**error["errorDetails"], "itemIndex": index}}
    return msgspec.structs.replace(result, item_index=index, error=error)
