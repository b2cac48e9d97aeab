"""The counts of a fork: items by how they ended, failures by kind, chunks by state, speed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from airflow_allma.common.counted import counted
from airflow_allma.distributed.result_index import MAX_KINDS, KindCount
from airflow_allma.engine.failure_kinds import OTHER
from airflow_allma.exceptions import StorageError
from airflow_allma.inspection.chunk_reader import ChunkReader
from airflow_allma.inspection.fork_progress import fork_progress
from airflow_allma.inspection.fork_reader import ForkReader, in_threads
from airflow_allma.inspection.fork_view import ForkView
from airflow_allma.inspection.read_budget import Budget

__all__ = ["KindCounts", "fork_summary"]

_CHUNK_STATES: Final = ("success", "failed", "running", "queued", "waiting")
_MAX_SCANNED_BYTES: Final = 16 << 20
"""Results of chunks that have not ended that one summary reads to count failures; the next reads others."""


class KindCounts:
    """Counts failures by kind over many chunks.

    At most 200 kinds are kept; further ones are counted as ``other``.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, KindCount] = {}

    def add(self, kind: KindCount, first: int | None) -> None:
        """Add the count of a chunk.

        Args:
            kind: the count.
            first: the index of the first failed item among all items; None if it is not known.
        """
        if kind.kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = KindCount.of(OTHER, kind.count, kind.first)
        before = self._kinds.get(kind.kind)
        index = -1 if first is None else first
        if before is None:
            self._kinds[kind.kind] = msgspec.structs.replace(kind, first=index)
            return
        known = [item for item in (before.first, index) if item >= 0]
        self._kinds[kind.kind] = msgspec.structs.replace(
            before, count=before.count + kind.count, first=min(known, default=-1)
        )

    def to_list(self) -> list[dict[str, Any]]:
        """Return the kinds as JSON, the most frequent first; ``share`` is that among all failures."""
        total = sum(kind.count for kind in self._kinds.values())
        ordered = sorted(self._kinds.values(), key=lambda kind: (-kind.count, kind.first))
        return [
            {
                **msgspec.to_builtins(kind),
                "first": None if kind.first < 0 else kind.first,
                "share": round(kind.count / max(total, 1), 4),
            }
            for kind in ordered
        ]


@dataclass(slots=True)
class _Sums:
    """What the chunks of a fork add up to; ``succeeded``, ``failed`` and ``skipped`` count branch runs.

    ``counted`` are the items of chunks of a manifest that have ended, and ``counted_bytes`` their bytes.
    """

    items: int = 0
    unknown: int = 0
    ended: int = 0
    running: int = 0
    waiting: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    is_exact: bool = True
    counted: int = 0
    counted_bytes: int = 0
    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_CHUNK_STATES, 0))


def fork_summary(view: ForkView, now: float, budget: Budget | None = None) -> dict[str, Any]:
    """Return the counts of a fork that runs in chunks, in the form ``ForkSummary`` of the pages' API.

    ``items`` and ``ended`` count items, ``succeeded``, ``failed`` and ``skipped`` branch runs. As long as
    ``isExact`` is False they are estimates: of chunks that have not ended, results count from ten seconds
    after the item. A store that cannot be read is a sentence in ``problem``; the counts are then those that
    the tasks handed on.

    Args:
        view: the fork.
        now: seconds since the epoch.
        budget: how much may be read to count the failures of chunks that have not ended.
    """
    reader = ForkReader(view, budget or Budget(_MAX_SCANNED_BYTES))
    kinds = KindCounts()
    problem: str | None = None
    try:
        reader.load(chunk for chunk in reader.chunks if chunk.failed or not chunk.is_final)
        sums = _sum(reader, reader.chunks)
        _count_failures(reader, sums, kinds)
    except StorageError as error:
        problem = f"Results cannot be read: {error}"
        sums = _handed_on(view)
    if reader.lost and problem is None:
        number = min(reader.lost)
        problem = (
            f"Results of {counted(len(reader.lost), 'chunk')} (the first is chunk {number}) are not in the "
            "offload location any more. Clear these chunks to run their items again."
        )
    return _summary(view, now, sums, kinds, problem)


def _sum(reader: ForkReader, chunks: Iterable[ChunkReader]) -> _Sums:
    sums = _Sums()
    for chunk in chunks:
        state = chunk.state.state
        if state in sums.states:
            sums.states[state] += 1
        items = chunk.items
        sums.items += items or 0
        sums.unknown += items is None
        ended = items if chunk.is_final and items is not None else chunk.counts.ended
        sums.ended += ended
        if chunk.spec.manifest is not None and chunk.is_final:
            sums.counted += ended
            sums.counted_bytes += chunk.spec.manifest.range.end - chunk.spec.manifest.range.start
        left = None if items is None else max(items - ended, 0)
        if state == "waiting":
            sums.waiting += left or 0
        elif state == "running":
            limit = reader.view.plan.concurrency
            sums.running += limit if left is None else min(left, limit)
        sums.is_exact = sums.is_exact and chunk.is_final
    return sums


def _count_failures(reader: ForkReader, sums: _Sums, kinds: KindCounts) -> None:
    """Add the branch runs by status, and failures by kind."""
    unfinished = []
    for number, chunk in enumerate(reader.chunks):
        if not chunk.is_final:
            unfinished.append(number)
            continue
        failed = chunk.failed or 0
        sums.failed += failed
        if not failed and chunk.has_short_list and reader.view.skips_nothing:
            # What the chunk handed on is all there is to know.
            sums.succeeded += chunk.items or 0
            continue
        sums.succeeded += chunk.counts.succeeded or 0
        sums.skipped += chunk.counts.skipped or 0
        if failed:
            _add_kinds(reader, number, kinds)
    affordable = []
    for number in unfinished:
        size = sum(part.bytes for part in reader.chunks[number].files.parts)
        if size and not reader.budget.is_spent:
            affordable.append(number)
            reader.budget.spend(size)
    for number, failures in zip(affordable, in_threads(reader.failures, affordable), strict=True):
        found = len(failures.entries)
        sums.failed += found
        sums.succeeded += max(reader.chunks[number].counts.ended - found, 0)
        _add_listed(reader, number, kinds)


def _add_kinds(reader: ForkReader, number: int, kinds: KindCounts) -> None:
    index = reader.chunks[number].files.index
    if index is None:
        reader.failures(number)
        _add_listed(reader, number, kinds)
        return
    first = reader.first_of(number, counts_lines=False)
    for kind in index.kinds:
        kinds.add(kind, None if first is None else first + kind.first)


def _add_listed(reader: ForkReader, number: int, kinds: KindCounts) -> None:
    """Add the kinds of a chunk whose failures were read one by one."""
    first = reader.first_of(number, counts_lines=False)
    for failure in reader.failures(number).entries:
        kind = KindCount(
            failure.kind, failure.error_name, failure.step, failure.status, failure.message, 1, failure.item
        )
        kinds.add(kind, None if first is None else first + failure.item)


def _handed_on(view: ForkView) -> _Sums:
    """Return what is known without the store."""
    sums = _Sums(is_exact=False)
    for chunk in view.plan.chunks:
        state = view.state(chunk.number)
        if state.state in sums.states:
            sums.states[state.state] += 1
        handed_on = state.handed_on or {}
        items = handed_on.get("items", chunk.count)
        sums.items += items or 0
        sums.unknown += items is None
        sums.ended += handed_on.get("items", 0)
        sums.failed += handed_on.get("failed", 0)
        sums.succeeded += handed_on.get("items", 0) - handed_on.get("failed", 0)
    return sums


def _summary(
    view: ForkView, now: float, sums: _Sums, kinds: KindCounts, problem: str | None
) -> dict[str, Any]:
    states = [view.state(chunk.number) for chunk in view.plan.chunks]
    start = min((state.start for state in states if state.start is not None), default=None)
    ends = [state.end for state in states]
    is_running = view.is_running and not all(state.has_ended for state in states)
    end = None if is_running or None in ends else max((end for end in ends if end is not None), default=None)
    items = _items(view, sums)
    pointer = next((chunk.manifest.pointer for chunk in view.plan.chunks if chunk.manifest), None)
    source: dict[str, Any] = (
        {"kind": "list"} if pointer is None else {"kind": "object", "pointer": pointer.uri}
    )
    return {
        "fork": view.fork_id,
        "name": view.name or view.fork_id,
        "mode": "chunks",
        "items": items,
        "isExact": sums.is_exact,
        "ended": sums.ended,
        "succeeded": sums.succeeded,
        "failed": sums.failed,
        "skipped": sums.skipped,
        "running": sums.running,
        "waiting": sums.waiting,
        **fork_progress(start=start, end=end, now=now, is_running=is_running, ended=sums.ended, items=items),
        "kinds": kinds.to_list(),
        "chunks": {"total": len(states), **sums.states},
        "branches": list(view.branches),
        "source": source,
        "stored": view.location is not None,
        "problem": problem,
    }


def _items(view: ForkView, sums: _Sums) -> int | None:
    """Return the number of items; an estimate by the bytes of ended chunks if some are not counted."""
    if view.plan.items is not None:
        return view.plan.items
    if not sums.unknown:
        return sums.items
    ranges = [chunk.manifest.range for chunk in view.plan.chunks if chunk.manifest is not None]
    total = sum(span.end - span.start for span in ranges)
    if not sums.counted_bytes or not sums.counted:
        return None
    return max(round(sums.counted * total / sums.counted_bytes), sums.items, sums.ended)
