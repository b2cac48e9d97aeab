"""How the branch runs of a chunk have ended so far."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Final, Literal, Protocol, TypeVar

__all__ = ["ResultMarks", "Status"]

Status = Literal["ok", "failed", "skipped"]

_MARKS: Final[dict[Status, int]] = {"failed": 1, "skipped": 2, "ok": 3}
_OK: Final = _MARKS["ok"]
_SKIPPED: Final = _MARKS["skipped"]
_ROOM: Final = 4096


class Marked(Protocol):
    """A result, as far as it is marked."""

    item: int
    branch: str
    status: Status


_Result = TypeVar("_Result", bound=Marked)


class ResultMarks:
    """Remembers one status for each item and branch, in a byte: a chunk may have millions of items."""

    def __init__(self) -> None:
        self._branches: dict[str, bytearray] = {}
        self._counts = [0] * (max(_MARKS.values()) + 1)

    def note(self, item: int, branch: str, status: Status) -> bool:
        """Note how a branch run ended; False when that changes nothing.

        A success stays, whatever comes after it; of anything else the last status counts.

        Args:
            item: the item's place in the chunk, from 0.
            branch: the branch's id.
            status: how it ended.
        """
        marks = self._branches.get(branch)
        if marks is None:
            marks = self._branches[branch] = bytearray()
        if item >= len(marks):
            marks.extend(bytes(item + _ROOM - len(marks)))
        before, mark = marks[item], _MARKS[status]
        if before == _OK or before == mark == _SKIPPED:
            return False
        marks[item] = mark
        self._counts[before] -= 1
        self._counts[mark] += 1
        return True

    def note_all(self, results: Sequence[_Result]) -> Sequence[_Result]:
        """Note many; gives those that change something, which is nearly always all of them."""
        if not results or self._all_new(results):
            return results
        note = self.note
        changing = [note(result.item, result.branch, result.status) for result in results]
        return results if all(changing) else list(compress(results, changing))

    def _all_new(self, results: Sequence[Marked]) -> bool:
        """Note successes of one branch and of items in a row, if nothing is known of them: most are such."""
        first, last = results[0], results[-1]
        items = [result.item for result in results if result.status == "ok"]
        span = range(first.item, last.item + 1)
        if items != [*span] or len({result.branch for result in results}) > 1:
            return False
        marks = self._branches.setdefault(first.branch, bytearray())
        if last.item >= len(marks):
            marks.extend(bytes(last.item + _ROOM - len(marks)))
        if any(marks[span.start : span.stop]):
            return False
        marks[span.start : span.stop] = bytes([_OK]) * len(span)
        self._counts[_OK] += len(span)
        return True

    def is_ok(self, item: int, branch: str) -> bool:
        """Whether a branch run has succeeded."""
        marks = self._branches.get(branch, b"")
        return item < len(marks) and marks[item] == _OK

    def is_done(self, item: int, branch: str) -> bool:
        """Whether a branch run has succeeded or was skipped."""
        marks = self._branches.get(branch, b"")
        return item < len(marks) and marks[item] >= _SKIPPED

    def count(self, status: Status) -> int:
        """Branch runs of this status."""
        return self._counts[_MARKS[status]]
