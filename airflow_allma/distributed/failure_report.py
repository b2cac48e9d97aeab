"""The items of a chunk that failed: how many, and lines for the log about the first ones."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.engine import BranchResult, CompiledFork, ItemError, label_of
from airflow_allma.engine.readers import offset_in, reader_of
from airflow_allma.exceptions import StorageError
from airflow_allma.storage import ObjectStore
from airflow_allma.storage.line_counter import LineCounter

__all__ = ["FailedRun", "FailureReport", "Failures"]

_SHOWN: Final = 10
_MAX_MESSAGE_LENGTH: Final = 500
_MAX_LINE_BYTES: Final = 64 << 10
_MAX_COUNTED_BYTES: Final = 16 << 20
"""How far into an object lines are counted, only to number one: a read of all before it."""
_MARKS_STEP: Final = 4096


class FailedRun(NamedTuple):
    """A branch run that failed; they sort by item, then branch.

    Attributes:
        item: the item's index in the chunk, from 0.
        branch_index: the branch's index in the fork.
        branch_id: the branch.
        error: the four fields of the error.
    """

    item: int
    branch_index: int
    branch_id: str
    error: dict[str, Any]

    def __str__(self) -> str:
        message = str(self.error.get("errorMessage"))
        if len(message) > _MAX_MESSAGE_LENGTH:
            message = message[:_MAX_MESSAGE_LENGTH] + "..."
        return f"{self.error.get('errorName')}: {message}"


class Failures:
    """Counts items that failed and keeps the first few branch runs: a chunk can have millions of items.

    Attributes:
        items: how many items have failed, in one branch or more.
        first: the first branch runs that failed, in item order.
    """

    def __init__(self) -> None:
        self.items = 0
        self.first: list[FailedRun] = []
        self._marks = bytearray()

    def add(self, item: int, result: BranchResult) -> None:
        """Count the result of a branch run, if it is a failure.

        Args:
            item: the item's index in the chunk, from 0.
            result: the result.
        """
        if result.error is None:
            return
        self._count(item)
        failed = FailedRun(item, result.branch_index, result.branch_id, result.error)
        if len(self.first) < _SHOWN or failed[:2] < self.first[-1][:2]:
            insort(self.first, failed, key=lambda run: run[:2])
            del self.first[_SHOWN:]

    def _count(self, item: int) -> None:
        if item >= len(self._marks):
            self._marks.extend(bytes(item + _MARKS_STEP - len(self._marks)))
        if not self._marks[item]:
            self._marks[item] = 1
            self.items += 1

    def to_dict(self) -> dict[str, Any]:
        """Return the failures as a JSON object, for ``restore``."""
        items = [item for item, mark in enumerate(self._marks) if mark]
        return {"items": items, "first": [list(run) for run in self.first]}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Restore what ``to_dict`` returned, into an object without failures."""
        for item in saved["items"]:
            self._count(item)
        self.first = [FailedRun(*run) for run in saved["first"]]


class FailureReport:
    """Describes failed items by index, label, line and byte, which are looked up only for this.

    Args:
        fork: the fork.
        chunk: the chunk.
        values: the chunk's items if it is a part of a list, otherwise None.
        store: where its lines are read from if it is a part of a manifest.
    """

    def __init__(
        self,
        fork: CompiledFork,
        chunk: ChunkSpec,
        values: Sequence[Any] | None = None,
        store: ObjectStore | None = None,
    ) -> None:
        self._fork = fork
        self._first = chunk.first
        self._values = values
        self._manifest = chunk.manifest
        self._store = store

    def lines(self, failures: Failures) -> Iterator[str]:
        """Yield one line for each of the first failures: why, and where."""
        counter = None
        if self._manifest is not None and self._store is not None and self._manifest.reader is None:
            counter = LineCounter(
                self._store, self._manifest.pointer, self._manifest.etag, max_bytes=_MAX_COUNTED_BYTES
            )
        for run in failures.first:
            details = run.error.get("errorDetails") or {}
            branch = f", branch {run.branch_id}" if len(self._fork.branches) > 1 else ""
            step = details.get("failedStepInstanceId")
            at_step = f", step {step}" if step else ""
            # The reason comes first: screens cut the right end of a line.
            yield f"{run} ({self.describe(run.item, details, counter)}{branch}{at_step})"

    def describe(self, item: int, details: Mapping[str, Any], counter: LineCounter | None) -> str:
        """Return the description of an item of the chunk, such as ``item 7, u-00007, line 8, byte 520``.

        Args:
            item: the item's index in the chunk.
            details: those of its error, which say where it is.
            counter: counts lines, where items are lines.
        """
        offset = offset_in(details)
        index = item if self._first is None else self._first + item
        description = f"item {index}" if self._first is not None else f"item {index} of this chunk"
        label, number = str(index), None
        # Not JSON, too long to read for this, changed or gone since: the failure is reported all the same.
        with suppress(StorageError):
            label = label_of(self._fork, self._value(item, offset), index)
        with suppress(StorageError):
            number = counter.number_at(offset) if counter is not None and offset is not None else None
        if label != str(index):
            description += f", {label}"
        if number is not None:
            description += f", line {number}"
        for field, unit in (("object", ""), ("rowNumber", "row "), ("byteOffset", "byte ")):
            if details.get(field) is not None:
                description += f", {unit}{details[field]}"
        return description

    def _value(self, item: int, offset: int | None) -> Any:
        if self._values is not None:
            return self._values[item]
        if self._manifest is None or self._store is None or offset is None:
            return None
        reader = reader_of(self._manifest)
        place = reader.find(self._store, self._manifest, offset, _MAX_LINE_BYTES)
        return None if place is None or isinstance(place.value, ItemError) else place.value
