"""How the branch runs of a chunk have ended so far."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["ResultMarks", "Status"]

Status = Literal["ok", "failed", "skipped"]

_MARKS: Final[dict[Status, int]] = {"failed": 1, "skipped": 2, "ok": 3}
_OK: Final = _MARKS["ok"]
_SKIPPED: Final = _MARKS["skipped"]
_ROOM: Final = 4096


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
