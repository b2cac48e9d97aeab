"""What the chunks of a fork left behind, as results in item order, measured against what was planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_allma.operators.chunk_plan import ChunkSpec
from airflow_allma.operators.fork_results import lost_result
from airflow_allma.operators.xcoms import Key, pull, pull_all

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult, CompiledFork
    from airflow_allma.operators.run import TaskRun
    from airflow_allma.storage.keys import OffloadLocation

__all__ = ["ChunkResults", "chunk_folder"]


def chunk_folder(run: TaskRun, fork: str, token: str, number: int) -> OffloadLocation | None:
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
    info = run.info
    return location.below(info.flow_id, info.flow_execution_id, fork, "results", token, f"{number:06d}")


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

    run: TaskRun
    fork: CompiledFork
    plan: Mapping[str, Any]
    task: str
    states: Mapping[str, str | None]

    def read(self) -> Iterator[BranchResult]:
        """All results in item order, then branch order; of one chunk at a time."""
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
            count = chunk.count or 1 if saved is None else int(saved["items"])
            known = set()
            for item, result in self._left_behind(chunk, saved):
                known.add(item)
                yield msgspec.structs.replace(result, item_index=first + item)
            if saved is None:
                yield from self._missing(chunk, first, set(range(count)) - known)
            before = first + count

    def _state(self, number: int) -> str | None:
        return self.states.get(f"{self.task}_{number}")

    def _left_behind(
        self, chunk: ChunkSpec, saved: Mapping[str, Any] | None
    ) -> Iterator[tuple[int, BranchResult]]:
        from airflow_allma.engine import BranchResult

        if saved is not None and "results" in saved:
            results = [(item, BranchResult.from_dict(one)) for item, one in saved["results"]]
            yield from sorted(results, key=lambda pair: (pair[0], pair[1].branch_index))
            return
        folder = chunk_folder(self.run, self.fork.step_id, str(self.plan["token"]), chunk.number)
        if folder is not None:
            yield from self._stored(folder)

    def _stored(self, folder: OffloadLocation) -> Iterator[tuple[int, BranchResult]]:
        from airflow_allma.engine import BranchResult, BranchStatus
        from airflow_allma.exceptions import ObjectNotFoundError
        from airflow_allma.storage.result_reader import read_results

        store = self.run.services.store
        places = {branch.branch_id: branch.index for branch in self.fork.branches}
        if store is None:
            return
        try:
            for line in read_results(store, folder, list(places)):
                if line.branch not in places:
                    continue
                place, value = places[line.branch], line.value()
                if line.is_ok:
                    result = BranchResult(line.item, place, line.branch, output=value)
                else:
                    result = BranchResult(line.item, place, line.branch, BranchStatus.FAILED, error=value)
                yield line.item, result
        except ObjectNotFoundError:
            # A chunk that was killed before its first part, in a location that does not exist yet.
            return

    def _missing(self, chunk: ChunkSpec, first: int, items: set[int]) -> Iterator[BranchResult]:
        state = self._state(chunk.number)
        error = pull(self.run.ti, self.task, Key.ERROR, chunk.number) if state == "failed" else None
        said = f": {error.get('errorName')}: {error.get('errorMessage')}" if error else " and left no result"
        why = f"task {self.task}[{chunk.number}] ({chunk.label}) ended as {state}{said}"
        for item in sorted(items):
            for branch in self.fork.branches:
                yield lost_result(branch, first + item, why)
