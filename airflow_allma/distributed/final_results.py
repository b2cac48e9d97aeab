"""Which of several results of the same branch run counts.

An item runs again when its chunk does, and a later part then has a further result of it. Results of the
highest generation count. Among these the first success counts, or without any the last other result.

``ResultMarks`` applies the same rule while a chunk runs, to statuses alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from airflow_allma.engine import BranchStatus

__all__ = ["branch_ranks", "final_results"]


class StoredResult(Protocol):
    """What has to be known of a result to choose among several."""

    @property
    def branch(self) -> str:
        """The branch's id."""

    @property
    def status(self) -> str:
        """How it ended: the value of a ``BranchStatus``."""

    @property
    def generation(self) -> int:
        """The selection with which it ran; 0 for none."""


_Result = TypeVar("_Result", bound=StoredResult)


def branch_ranks(branches: Sequence[str]) -> dict[str, int]:
    """Return the position of each branch in the flow, for ``final_results``."""
    return {branch: rank for rank, branch in enumerate(branches)}


def final_results(results: Iterable[_Result], ranks: Mapping[str, int]) -> list[_Result]:
    """Return the result that counts of each branch, in the order of branches.

    Args:
        results: the results of one item, in the order in which they were written.
        ranks: the positions of branches, as ``branch_ranks`` returns them; other branches follow, by name.
    """
    chosen: dict[str, _Result] = {}
    for result in results:
        before = chosen.get(result.branch)
        if before is None or _supersedes(result, before):
            chosen[result.branch] = result
    return sorted(chosen.values(), key=lambda result: (ranks.get(result.branch, len(ranks)), result.branch))


def _supersedes(result: StoredResult, before: StoredResult) -> bool:
    if result.generation != before.generation:
        return result.generation > before.generation
    return before.status != BranchStatus.OK
