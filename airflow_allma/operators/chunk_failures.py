"""The items of a chunk that failed: how many, and what its log says of the first ones."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_allma.exceptions import StorageError
from airflow_allma.storage.decoding import decode_line
from airflow_allma.storage.line_counter import LineCounter

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult, CompiledFork
    from airflow_allma.storage import ObjectStore
    from airflow_allma.storage.manifest_ranges import ManifestRange

__all__ = ["FailedRun", "FailedRuns", "ItemNames"]

_SHOWN: Final = 10
_LONGEST_MESSAGE: Final = 500
_LONGEST_LINE: Final = 64 << 10
_COUNTED_BYTES: Final = 16 << 20
"""How far into an object lines are counted, only to name one: a read of all before it."""


class FailedRun(NamedTuple):
    """A branch run that failed; they sort by item, then branch.

    Attributes:
        place: the item's place in the chunk, from 0.
        branch_index: the branch's place in the fork.
        branch_id: the branch.
        error: the four fields of the error.
    """

    place: int
    branch_index: int
    branch_id: str
    error: dict[str, Any]

    def __str__(self) -> str:
        message = str(self.error.get("errorMessage"))
        if len(message) > _LONGEST_MESSAGE:
            message = message[:_LONGEST_MESSAGE] + "..."
        return f"{self.error.get('errorName')}: {message}"


class FailedRuns:
    """Counts items that failed and keeps the first few branch runs: a chunk may have millions of items.

    Attributes:
        items: how many items have failed, in one branch or more.
        first: the first branch runs that failed, in item order.
    """

    def __init__(self) -> None:
        self.items = 0
        self.first: list[FailedRun] = []
        self._marks = bytearray()

    def add(self, place: int, result: BranchResult) -> None:
        """Count the result of a branch run, if it is a failure.

        Args:
            place: the item's place in the chunk, from 0.
            result: what came of it.
        """
        if result.error is None:
            return
        if place >= len(self._marks):
            self._marks.extend(bytes(place + 4096 - len(self._marks)))
        if not self._marks[place]:
            self._marks[place] = 1
            self.items += 1
        failed = FailedRun(place, result.branch_index, result.branch_id, result.error)
        if len(self.first) < _SHOWN or failed[:2] < self.first[-1][:2]:
            insort(self.first, failed, key=lambda one: one[:2])
            del self.first[_SHOWN:]


class ItemNames:
    """What the log calls an item: its index, label, line and byte. They are looked up only for this.

    Args:
        fork: the fork.
        first: index of the chunk's first item in the whole list; None when nobody has counted.
        items: the chunk's items, if they are a part of a list; else None.
        manifest: the chunk's lines, if they are lines.
        store: where these lie.
    """

    def __init__(
        self,
        fork: CompiledFork,
        first: int | None,
        items: Sequence[Any] | None = None,
        manifest: ManifestRange | None = None,
        store: ObjectStore | None = None,
    ) -> None:
        self._fork = fork
        self._first = first
        self._items = items
        self._manifest = manifest
        self._store = store

    def lines(self, failed: FailedRuns) -> Iterator[str]:
        """One line for each of the first failures: where, and why."""
        counter = None
        if self._manifest is not None and self._store is not None:
            counter = LineCounter(
                self._store, self._manifest.pointer, self._manifest.etag, max_bytes=_COUNTED_BYTES
            )
        for run in failed.first:
            details = run.error.get("errorDetails") or {}
            offset = details.get("byteOffset")
            branch = f", branch {run.branch_id}" if len(self._fork.branches) > 1 else ""
            step = details.get("failedStepInstanceId")
            at = f", step {step}" if step else ""
            yield f"{self.name(run.place, offset, counter)}{branch}{at}: {run}"

    def name(self, place: int, offset: int | None, counter: LineCounter | None) -> str:
        """Such as ``item 7 (u-00007), line 8, byte 520``."""
        from airflow_allma.engine.items import label_of

        index = place if self._first is None else self._first + place
        words = f"item {index}" if self._first is not None else f"item {index} of this chunk"
        label, number = str(index), None
        # No JSON, longer than is read for this, changed or gone since: what failed is told all the same.
        with suppress(StorageError):
            label = label_of(self._fork, self._item(place, offset), index)
        with suppress(StorageError):
            number = counter.number_at(offset) if counter is not None and offset is not None else None
        if label != str(index):
            words += f" ({label})"
        if number is not None:
            words += f", line {number}"
        return words if offset is None else f"{words}, byte {offset}"

    def _item(self, place: int, offset: int | None) -> Any:
        if self._items is not None:
            return self._items[place]
        if self._manifest is None or self._store is None or offset is None:
            return None
        data = self._store.read(
            self._manifest.pointer, offset, offset + _LONGEST_LINE, if_match=self._manifest.etag
        )
        return decode_line(data.partition(b"\n")[0])
