"""Ranges of a JSON Lines object that own groups of whole lines, for lines that stand for other data."""

from __future__ import annotations

from typing import Final, NamedTuple

from airflow_allma.storage.manifest_ranges import ByteRange

__all__ = ["LineGroup", "LineGroups"]

_FINENESS: Final = 16
"""How many groups are kept for each one that is returned: their weights differ by little."""


class LineGroup(NamedTuple):
    """Consecutive lines.

    Attributes:
        range: the bytes that own exactly these lines.
        first: the number of the first one, from 0.
        lines: how many they are.
        weight: the sum of their weights.
    """

    range: ByteRange
    first: int
    lines: int
    weight: int


class _Group(NamedTuple):
    end: int
    lines: int
    weight: int


class LineGroups:
    """Groups lines while they are written, in memory for a few groups, however many lines there are.

    Args:
        range_bytes: the weight of a group to aim for.
        max_ranges: the maximum number of groups; if it is too low, they are heavier.
    """

    def __init__(self, range_bytes: int, max_ranges: int) -> None:
        self._max_ranges = max(1, max_ranges)
        self._range_bytes = self._target = max(1, range_bytes)
        self._groups: list[_Group] = []
        self._end = self._lines = self._weight = 0

    @property
    def target(self) -> int:
        """The weight of the finest groups: it grows with what is added."""
        return self._target

    def add(self, size: int, weight: int) -> None:
        """Add the next line.

        Args:
            size: its bytes, with its line break.
            weight: how much it stands for, from 1.
        """
        self._end += size
        self._lines += 1
        self._weight += weight
        if self._weight >= self._target:
            self._close()

    def groups(self) -> list[LineGroup]:
        """Return the groups, in order; none without lines."""
        if self._lines:
            self._close()
        # Each group but the last has at least this weight, so that they are not more than max_ranges.
        total = sum(group.weight for group in self._groups)
        merged = _merged(self._groups, max(self._range_bytes, -(-total // self._max_ranges)))
        found: list[LineGroup] = []
        start = first = 0
        for number, (end, lines, weight) in enumerate(merged):
            # A range owns the lines that begin after its start and up to its end: it ends on the line break
            # of its last line.
            stop = end if number == len(merged) - 1 else end - 1
            found.append(LineGroup(ByteRange(start, stop), first, lines, weight))
            start, first = stop, first + lines
        return found

    def _close(self) -> None:
        self._groups.append(_Group(self._end, self._lines, self._weight))
        self._lines = self._weight = 0
        if len(self._groups) > _FINENESS * self._max_ranges:
            self._target *= 2
            self._groups = _merged(self._groups, self._target)


def _merged(groups: list[_Group], target: int) -> list[_Group]:
    merged: list[_Group] = []
    lines = weight = 0
    for group in groups:
        lines += group.lines
        weight += group.weight
        if weight >= target or group is groups[-1]:
            merged.append(_Group(group.end, lines, weight))
            lines = weight = 0
    return merged
