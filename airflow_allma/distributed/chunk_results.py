"""The results of a fork's chunks in item order, compared with what was planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Protocol

import msgspec

from airflow_allma.distributed.chunk_items import ChunkItems
from airflow_allma.distributed.chunk_layout import folder_of_chunk, results_of_fork
from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
from airflow_allma.distributed.lost_results import lost_result, missing_branches
from airflow_allma.distributed.result_index import write_plan
from airflow_allma.distributed.result_reader import error_with_index, read_results
from airflow_allma.engine import BranchResult, BranchStatus, CompiledBranch, CompiledFork, RunInfo, Services
from airflow_allma.engine.readers import count_items
from airflow_allma.exceptions import ObjectNotFoundError, PermanentStepError
from airflow_allma.storage import OffloadLocation

__all__ = ["ChunkOutcomes", "ChunkResults", "chunk_folder", "results_folder", "store_plan"]

_IGNORES_OUTPUTS: Final = frozenset({"COLLECT_ARRAY", "NONE"})
"""Strategies that pass outputs on, or drop them, without reading them."""


def chunk_folder(
    services: Services, info: RunInfo, fork: str, plan: ChunkPlan, chunk: ChunkSpec
) -> OffloadLocation | None:
    """Return the folder of a chunk's results; None without an offload location.

    Args:
        services: for the offload location.
        info: the run of the flow.
        fork: the fork's step id.
        plan: the fork's plan; results of another plan are never read.
        chunk: the chunk.
    """
    folder = results_folder(services, info, fork, plan)
    return None if folder is None else folder_of_chunk(folder, chunk.number)


def results_folder(services: Services, info: RunInfo, fork: str, plan: ChunkPlan) -> OffloadLocation | None:
    """Return the folder of all chunks of a plan; the arguments and None are as for ``chunk_folder``."""
    location = services.settings.results_location
    if location is None:
        return None
    return results_of_fork(location.below(*info.key_ids), fork).below(plan.token)


def store_plan(services: Services, info: RunInfo, fork: str, plan: ChunkPlan) -> None:
    """Store a plan beside the results, where there is an offload location.

    Raises:
        StorageError: it cannot be stored.
    """
    folder = results_folder(services, info, fork, plan)
    if folder is not None and services.store is not None:
        write_plan(services.store, folder, plan, fork, info)


class ChunkOutcomes(Protocol):
    """What is known about the chunks of a fork besides their stored results."""

    def finished(self) -> Mapping[int, Mapping[str, Any]]:
        """Return chunk number -> what its sink's ``finish`` returned, for the chunks that finished."""

    def reason(self, chunk: ChunkSpec) -> str:
        """Return why items of a chunk have no results."""


@dataclass(frozen=True, slots=True)
class ChunkResults:
    """The results of all chunks of one fork.

    Attributes:
        fork: the fork.
        plan: its chunks.
        outcomes: how the chunks ended.
        folder_of: returns the folder of a chunk's stored results; None if they are not stored.
        services: the store and the log.
        items: receives the places of the items of an object, before their results; None if not needed.
    """

    fork: CompiledFork
    plan: ChunkPlan
    outcomes: ChunkOutcomes
    folder_of: Callable[[ChunkSpec], OffloadLocation | None]
    services: Services
    items: ChunkItems | None = None

    def read(self) -> Iterator[BranchResult]:
        """Yield all results in item order, then branch order; one chunk is read at a time.

        Every planned branch run has a result: where a chunk left none, a failure replaces it, and the log
        names the chunk. Outputs stay encoded (``msgspec.Raw``) where the strategy does not read them.

        Raises:
            PermanentStepError: a chunk, or all of them together, had another number of items than planned.
            StorageError: the results, or the lines of a chunk that has to be counted, cannot be read.
        """
        finished = self.outcomes.finished()
        before = 0
        for chunk in self.plan.chunks:
            outcome = finished.get(chunk.number)
            # If the lines before it are not counted, a chunk follows those that have been read.
            first = before if chunk.first is None else chunk.first
            count = self._count(chunk, outcome)
            if self.items is not None:
                self.items.begin(chunk, first, self.folder_of(chunk))
            yield from self._fill_gaps(chunk, first, count, self._read_chunk(chunk, outcome, first))
            before = first + count
        planned = self.plan.items
        if planned is not None and before != planned and self.fork.branches:
            raise PermanentStepError(
                f"{planned} items were planned, but the chunks have {before}. Clear the fork's items task, "
                "with its downstream tasks, to plan again."
            )

    def _count(self, chunk: ChunkSpec, outcome: Mapping[str, Any] | None) -> int:
        """Return how many items a chunk has."""
        if outcome is not None:
            chunk.require_count(int(outcome["items"]))
            return int(outcome["items"])
        if chunk.count is not None:
            return chunk.count
        if chunk.manifest is None or self.services.store is None:
            raise PermanentStepError(f"The items of chunk {chunk.number} cannot be counted.")
        return count_items(self.services.store, chunk.manifest)

    def _fill_gaps(
        self, chunk: ChunkSpec, first: int, count: int, saved: Iterator[BranchResult]
    ) -> Iterator[BranchResult]:
        """Yield the results of a chunk, with a failure in each gap."""
        reason = cache(lambda: self.outcomes.reason(chunk))
        branches = self.fork.branches
        never_ran = missing_branches(self.fork, ())
        due, end = first, first + count
        lost = 0

        def gap(index: int, missing: Sequence[CompiledBranch]) -> list[BranchResult]:
            return [lost_result(branch, index, reason()) for branch in missing]

        def placed(index: int, results: list[BranchResult]) -> Iterator[BranchResult]:
            nonlocal due, lost
            if index >= end:
                raise PermanentStepError(
                    f"Chunk {chunk.number} ({chunk.label}) has {count} items, but also a result of its item "
                    f"{index - first}, counted from 0. Clear the fork's items task, with its downstream "
                    "tasks, to plan again."
                )
            for absent in range(due, index):
                yield from gap(absent, never_ran)
            lost += index - due
            due = index + 1
            missing = missing_branches(self.fork, results) if len(results) < len(branches) else ()
            if missing:
                lost += 1
                results.extend(gap(index, missing))
                results.sort(key=attrgetter("branch_index"))
            yield from results

        if len(branches) == 1:
            for result in saved:
                if result.item_index == due < end:
                    due += 1
                    yield result
                else:
                    yield from placed(result.item_index, [result])
        else:
            for index, results in _by_item(saved):
                yield from placed(index, results)
        for absent in range(due, end):
            yield from gap(absent, never_ran)
        lost += end - due
        if lost and branches:
            self.services.log.warning(
                "%s: %d of %d items of chunk %d have no result", reason(), lost, count, chunk.number
            )

    def _read_chunk(
        self, chunk: ChunkSpec, outcome: Mapping[str, Any] | None, first: int
    ) -> Iterator[BranchResult]:
        """Return the results of a chunk that exist, in order, with their items' indexes among all items."""
        if outcome is not None and "results" in outcome:
            results = [
                _moved(BranchResult.from_dict(saved), first + item) for item, saved in outcome["results"]
            ]
            return iter(sorted(results, key=attrgetter("item_index", "branch_index")))
        folder = self.folder_of(chunk)
        return iter(()) if folder is None else self._read_stored(folder, first)

    def _read_stored(self, folder: OffloadLocation, first: int) -> Iterator[BranchResult]:
        store = self.services.store
        indexes = {branch.branch_id: branch.index for branch in self.fork.branches}
        if store is None:
            return
        ok, skipped = BranchStatus.OK, BranchStatus.SKIPPED
        items = self.items
        keeps_encoded = self.fork.config.strategy in _IGNORES_OUTPUTS
        try:
            for line in read_results(store, folder, list(indexes)):
                branch = line.branch
                branch_index = indexes.get(branch)
                if branch_index is None:
                    continue
                item_index = first + line.item
                if items is not None:
                    items.note(item_index, line.offset)
                if line.status is ok:
                    output = line.output if keeps_encoded else line.value()
                    yield BranchResult(item_index, branch_index, branch, ok, output, items=line.items)
                elif line.status is skipped:
                    yield BranchResult(item_index, branch_index, branch, skipped, items=line.items)
                else:
                    failed = BranchResult(
                        item_index,
                        branch_index,
                        branch,
                        BranchStatus.FAILED,
                        error=line.value(),
                        items=line.items,
                    )
                    yield _moved(failed, item_index)
        except ObjectNotFoundError:
            # A chunk that was killed before its first part, in a location that does not exist yet.
            return


def _by_item(results: Iterator[BranchResult]) -> Iterator[tuple[int, list[BranchResult]]]:
    """Group ordered results by item."""
    for index, same in groupby(results, key=attrgetter("item_index")):
        yield index, list(same)


def _moved(result: BranchResult, index: int) -> BranchResult:
    """Return the result with its item's index among all items, which an uncounted chunk did not know."""
    error = None if result.error is None else error_with_index(result.error, index)
    return msgspec.structs.replace(result, item_index=index, error=error)
