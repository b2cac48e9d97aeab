"""The status of each branch run of a chunk so far."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Final, Protocol, TypeVar

from airflow_allma.engine import BranchStatus

__all__ = ["ResultMarks"]

_MARKS: Final = {BranchStatus.FAILED: 1, BranchStatus.SKIPPED: 2, BranchStatus.OK: 3}
_OK: Final = _MARKS[BranchStatus.OK]
_SKIPPED: Final = _MARKS[BranchStatus.SKIPPED]
_GROW_BY: Final = 4096


class Marked(Protocol):
    """The fields of a result that are marked."""

    item: int
    branch: str
    status: BranchStatus


_Result = TypeVar("_Result", bound=Marked)


class ResultMarks:
    """Remembers the status of each item and branch in one byte: a chunk can have millions of items."""

    def __init__(self) -> None:
        self._branches: dict[str, bytearray] = {}
        self._counts = [0] * (max(_MARKS.values()) + 1)

    def note(self, item: int, branch: str, status: BranchStatus) -> bool:
        """Note the status of a branch run; return False when that changes nothing.

        A success is final; of any other statuses the last one counts.

        Args:
            item: the item's index in the chunk, from 0.
            branch: the branch's id.
            status: its status.
        """
        marks = self._branches.get(branch)
        if marks is None:
            marks = self._branches[branch] = bytearray()
        if item >= len(marks):
            marks.extend(bytes(item + _GROW_BY - len(marks)))
        before, mark = marks[item], _MARKS[status]
        if before == _OK or before == mark == _SKIPPED:
            return False
        marks[item] = mark
        self._counts[before] -= 1
        self._counts[mark] += 1
        return True

    def note_all(self, results: Sequence[_Result]) -> Sequence[_Result]:
        """Note many results; return those that change something, which is nearly always all of them."""
        if not results or self._all_new(results):
            return results
        note = self.note
        changing = [note(result.item, result.branch, result.status) for result in results]
        return results if all(changing) else list(compress(results, changing))

    def _all_new(self, results: Sequence[Marked]) -> bool:
        """Note successes of one branch for consecutive new items, the common case; otherwise return False."""
        first, last = results[0], results[-1]
        if last.item - first.item + 1 != len(results):
            return False
        items = [result.item for result in results if result.status is BranchStatus.OK]
        span = range(first.item, last.item + 1)
        if items != [*span] or len({result.branch for result in results}) > 1:
            return False
        marks = self._branches.setdefault(first.branch, bytearray())
        if last.item >= len(marks):
            marks.extend(bytes(last.item + _GROW_BY - len(marks)))
        if any(marks[span.start : span.stop]):
            return False
        marks[span.start : span.stop] = bytes([_OK]) * len(span)
        self._counts[_OK] += len(span)
        return True

    def is_ok(self, item: int, branch: str) -> bool:
        """Return whether a branch run has succeeded."""
        marks = self._branches.get(branch, b"")
        return item < len(marks) and marks[item] == _OK

    def is_done(self, item: int, branch: str) -> bool:
        """Return whether a branch run has succeeded or was skipped."""
        marks = self._branches.get(branch, b"")
        return item < len(marks) and marks[item] >= _SKIPPED

    def count(self, status: BranchStatus) -> int:
        """Return the number of branch runs of this status."""
        return self._counts[_MARKS[status]]
