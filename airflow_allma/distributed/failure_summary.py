"""The failures of a whole fork, for the log of the task that joins its results: how many, of which kinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from airflow_allma.engine import BranchResult
from airflow_allma.engine.failure_kinds import OTHER, FailureKind, kind_of

__all__ = ["FailureSummary"]

_MAX_GROUPED: Final = 10_000
"""Failures whose kind is looked at: each takes some 50 microseconds."""
_MAX_KINDS: Final = 200
_SHOWN_KINDS: Final = 10


@dataclass(slots=True)
class _Group:
    kind: FailureKind
    first: int
    items: int = 0
    last: int = -1


class FailureSummary:
    """Counts items and failures as the results pass by.

    Attributes:
        items: items so far, also those that no branch applies to.
        failed: how many of them have failed in one branch or more.
    """

    def __init__(self) -> None:
        self.items = 0
        self.failed = 0
        self._groups: dict[str, _Group] = {}
        self._grouped = 0
        self._not_grouped = 0

    def watch(self, results: Iterable[BranchResult]) -> Iterator[BranchResult]:
        """Yield results, which are in item order, and count them."""
        last = last_failed = -1
        for result in results:
            index = result.item_index
            if index != last:
                last = index
                self.items += result.items
            if result.error is not None:
                if index != last_failed:
                    last_failed = index
                    self.failed += result.items
                self._count(index, result)
            yield result

    def _count(self, index: int, result: BranchResult) -> None:
        if self._grouped >= _MAX_GROUPED:
            self._not_grouped += 1
            return
        self._grouped += 1
        kind = kind_of(result.error or {})
        if kind.id not in self._groups and len(self._groups) >= _MAX_KINDS:
            kind = OTHER
        group = self._groups.setdefault(kind.id, _Group(kind, index))
        if group.last != index:
            group.last = index
            group.items += 1

    def lines(self) -> Iterator[str]:
        """Yield lines for the log: the reason comes first, the most frequent ones before the others."""
        if not self.failed:
            yield f"None of {self.items:,} items failed"
            return
        groups = sorted(self._groups.values(), key=lambda group: -group.items)
        yield f"{self.failed:,} of {self.items:,} items failed:"
        for group in groups[:_SHOWN_KINDS]:
            yield f"{_reason(group.kind)} ({_items(group)})"
        rest = groups[_SHOWN_KINDS:]
        if rest:
            yield f"{len(rest)} more kinds of failures ({sum(group.items for group in rest):,} items)"
        if self._not_grouped:
            yield f"{self._not_grouped:,} more failures, which were not grouped"


def _reason(kind: FailureKind) -> str:
    if kind is OTHER:
        return OTHER.message
    return f"{kind.error_name}: {kind.message}"


def _items(group: _Group) -> str:
    step = f", step {group.kind.step}" if group.kind.step else ""
    count = f"{group.items:,} items, first item {group.first}" if group.items > 1 else f"item {group.first}"
    return f"{count}{step}"
