"""The branch runs of a chunk that have failed: how many of each kind, and the first ones one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from airflow_allma.distributed.result_index import MAX_KINDS, MAX_LISTED_FAILURES, FailureLine, KindCount
from airflow_allma.engine.failure_kinds import OTHER, FailureKind, kind_of

__all__ = ["FailureIndex"]

_GROW_BY: Final = 4096
_Key = tuple[int, str]


class FailureIndex:
    """Counts the failures of a chunk by kind, in one byte for each branch run, and lists the first ones.

    Args:
        max_listed: how many are listed.
    """

    def __init__(self, max_listed: int = MAX_LISTED_FAILURES) -> None:
        self._max_listed = max_listed
        # 0 means success, the last number for all further kinds.
        self._kinds: list[FailureKind] = []
        self._numbers: dict[str, int] = {}
        self._counts = [0] * (MAX_KINDS + 2)
        self._branches: dict[str, bytearray] = {}
        self._lines: dict[_Key, FailureLine] = {}
        self._end: _Key | None = None

    def __bool__(self) -> bool:
        return bool(self._branches)

    def add(self, item: int, branch: str, offset: int, error: Any) -> None:
        """Add the failure of a branch run, in place of an earlier one of the same.

        Args:
            item: the item's index in the chunk.
            branch: the branch's id.
            offset: where the item's line begins in the manifest, in bytes.
            error: the four fields of the error; anything else counts as an error without any.
        """
        error = error if isinstance(error, Mapping) else {}
        kind = kind_of(error)
        self._set(item, branch, self._number(kind))
        key = (item, branch)
        if self._end is not None and key >= self._end:
            return
        self._lines[key] = FailureLine.of(item, branch, offset, kind, error)
        if len(self._lines) >= 2 * self._max_listed:
            self._end = sorted(self._lines)[self._max_listed]
            self._lines = {key: line for key, line in self._lines.items() if key < self._end}

    def discard(self, item: int, branch: str) -> None:
        """Forget the failure of a branch run that has ended in another way since, if there is one."""
        numbers = self._branches.get(branch, b"")
        if item < len(numbers) and numbers[item]:
            self._set(item, branch, 0)
            self._lines.pop((item, branch), None)

    def kinds(self) -> list[KindCount]:
        """Return the counts, the largest first."""
        counts = [
            KindCount.of(self._kind(number), count, self._first(number))
            for number, count in enumerate(self._counts)
            if number and count
        ]
        return sorted(counts, key=lambda count: (-count.count, count.first, count.kind))

    def lines(self, label_of: Callable[[int], str]) -> list[FailureLine]:
        """Return the failures that are listed, by item and branch.

        Args:
            label_of: returns the label of an item.
        """
        listed = []
        for key in sorted(self._lines)[: self._max_listed]:
            line = self._lines[key]
            kind = line.kind if line.kind in self._numbers else OTHER.id
            listed.append(msgspec.structs.replace(line, label=label_of(line.item), kind=kind))
        return listed

    def _number(self, kind: FailureKind) -> int:
        number = self._numbers.get(kind.id)
        if number is None:
            if len(self._kinds) == MAX_KINDS:
                return MAX_KINDS + 1
            self._kinds.append(kind)
            number = self._numbers[kind.id] = len(self._kinds)
        return number

    def _kind(self, number: int) -> FailureKind:
        return OTHER if number > len(self._kinds) else self._kinds[number - 1]

    def _set(self, item: int, branch: str, number: int) -> None:
        numbers = self._branches.get(branch)
        if numbers is None:
            numbers = self._branches[branch] = bytearray()
        if item >= len(numbers):
            numbers.extend(bytes(item + _GROW_BY - len(numbers)))
        self._counts[numbers[item]] -= 1
        self._counts[number] += 1
        numbers[item] = number

    def _first(self, number: int) -> int:
        found = (numbers.find(number) for numbers in self._branches.values())
        return min(item for item in found if item >= 0)
