"""Pages of a fork's failures, from the failure lists of its chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from airflow_allma.common.counted import counted
from airflow_allma.distributed.chunk_layout import ChunkFile
from airflow_allma.distributed.result_index import FailureLine
from airflow_allma.engine.failure_kinds import OTHER
from airflow_allma.inspection.chunk_reader import ChunkReader, FailureList
from airflow_allma.inspection.fork_reader import ForkReader, ItemPosition, in_threads
from airflow_allma.inspection.item_query import ItemQuery, page
from airflow_allma.inspection.page_rows import failure_row, lost_note

__all__ = ["failure_lists", "failure_page", "matching_failures"]

_AHEAD: Final = 16
"""Failure lists that are read at the same time, at most."""


def failure_page(reader: ForkReader, query: ItemQuery) -> dict[str, Any]:
    """Return a page of failures.

    Chunks before the page are skipped without reading their lists, where it is known how many rows they have.

    Raises:
        StorageError: raised by the store.
    """
    counts = in_threads(
        lambda chunk: _listed_count(reader, chunk, query),
        reader.chunks,
        lambda chunk: chunk.has_at_hand(ChunkFile.INDEX) or (chunk.has_short_list and not query.kind),
    )
    counts = [count if number in reader.scope else 0 for number, count in enumerate(counts)]
    before, first = query.start, 0
    while first < len(counts) and (count := counts[first]) is not None and count <= before:
        before -= count
        first += 1
    rows: list[dict[str, Any]] = []
    has_more, matched = False, query.start - before
    for number, failures in failure_lists(reader, counts, first, before + query.limit):
        if len(rows) == query.limit and counts[number]:
            has_more = True
            break
        matching = matching_failures(reader.chunks[number], failures.entries, query)
        matched += len(matching)
        shown = matching[before : before + query.limit - len(rows)]
        has_more = len(matching) > before + len(shown)
        before = max(before - len(matching), 0)
        rows += _rows(reader, number, shown)
        if has_more:
            break
    stopped = _stopped_note(reader) if not has_more else []
    total, is_exact = _total(reader, query, None if has_more or stopped else matched)
    return page(
        rows,
        total=total,
        is_exact=is_exact,
        next_start=query.start + len(rows) if has_more or (stopped and rows) else None,
        notes=[*stopped, *_unnumbered_note(rows), *_unlisted_note(reader), *lost_note(reader)],
    )


def failure_lists(
    reader: ForkReader, counts: Sequence[int | None], first: int, wanted: int
) -> Iterator[tuple[int, FailureList]]:
    """Yield chunk and failures of the chunks that can have some; several lists are read at the same time.

    Args:
        reader: the fork.
        counts: how many rows each chunk has; None if only its list says.
        first: the first chunk.
        wanted: how many rows are wanted, about.
    """
    waiting = [number for number in range(first, len(counts)) if counts[number] != 0]
    while waiting and not reader.budget.is_spent:
        size, expected = 0, 0
        while size < min(_AHEAD, len(waiting)) and expected < max(wanted, 1):
            expected += counts[waiting[size]] or 1
            size += 1
        ahead, waiting = waiting[:size], waiting[size:]
        lists = in_threads(reader.failures, ahead, lambda number: _is_at_hand(reader.chunks[number]))
        for number, failures in zip(ahead, lists, strict=True):
            if reader.chunks[number].files.index is None:
                reader.budget.spend(sum(part.bytes for part in reader.chunks[number].files.parts))
            wanted -= len(failures.entries)
            yield number, failures
    reader.is_stopped = bool(waiting)


def _is_at_hand(chunk: ChunkReader) -> bool:
    return chunk.has_at_hand(ChunkFile.INDEX) and chunk.has_at_hand(ChunkFile.FAILURES)


def matching_failures(
    chunk: ChunkReader, failures: Sequence[FailureLine], query: ItemQuery
) -> Sequence[FailureLine]:
    """Return the failures of a chunk that a query asks for."""
    if query.kind == OTHER.id:
        index = chunk.files.index
        named = {kind.kind for kind in index.kinds} if index is not None else set()
        failures = [failure for failure in failures if failure.kind not in named]
    elif query.kind:
        failures = [failure for failure in failures if failure.kind == query.kind]
    if query.branch:
        failures = [failure for failure in failures if failure.branch == query.branch]
    if query.label:
        label = query.label.lower()
        failures = [failure for failure in failures if label in _label(chunk, failure).lower()]
    if query.text:
        text = query.text.lower()
        failures = [failure for failure in failures if text in _searched(chunk, failure).lower()]
    return failures


def _label(chunk: ChunkReader, failure: FailureLine) -> str:
    return failure.label or chunk.label(failure.item) or ""


def _searched(chunk: ChunkReader, failure: FailureLine) -> str:
    return "\n".join(
        (_label(chunk, failure), failure.step or "", failure.error_name or "", failure.message or "")
    )


def _rows(reader: ForkReader, number: int, failures: Sequence[FailureLine]) -> list[dict[str, Any]]:
    first = reader.first_of(number) if failures else None
    return [
        failure_row(
            reader,
            ItemPosition(None if first is None else first + failure.item, number, failure.item),
            failure,
        )
        for failure in failures
    ]


def _listed_count(reader: ForkReader, chunk: ChunkReader, query: ItemQuery) -> int | None:
    """Return how many rows a chunk has; None if only its list says."""
    is_filtered = bool(query.label or query.text or (query.branch and len(reader.view.branches) != 1))
    failed = chunk.failed
    if failed == 0:
        return 0
    if failed is None or is_filtered:
        return None
    if query.kind is None and chunk.has_short_list:
        return failed
    index = chunk.files.index
    if index is None:
        return None
    if query.kind is None:
        return min(failed, index.listed_failures)
    kinds = {kind.kind: kind.count for kind in index.kinds}
    # What is counted as other kinds here can be a kind of its own elsewhere.
    if index.listed_failures < failed or OTHER.id in kinds:
        return None
    return kinds.get(query.kind, 0)


def _total(reader: ForkReader, query: ItemQuery, matched: int | None) -> tuple[int | None, bool]:
    """Return how many rows there are, and whether that is exact."""
    is_final = all(chunk.is_final for chunk in reader.scoped_chunks)
    if query.label or query.text or (query.branch and len(reader.view.branches) != 1):
        return matched, is_final and matched is not None
    if query.kind:
        indexes = [chunk.files.index for chunk in reader.scoped_chunks if chunk.failed != 0]
        if any(index is None or OTHER.id in {kind.kind for kind in index.kinds} for index in indexes):
            return matched, is_final and matched is not None
        kinds = [kind for index in indexes if index is not None for kind in index.kinds]
        return sum(kind.count for kind in kinds if kind.kind == query.kind), is_final
    failed = [chunk.failed for chunk in reader.scoped_chunks]
    known = [count for count in failed if count is not None]
    if len(known) < len(failed):
        return matched, False
    return sum(known), is_final


def _stopped_note(reader: ForkReader) -> list[str]:
    if not reader.is_stopped:
        return []
    note = (
        "Not all chunks were searched: those without an index are read whole, which takes too long here. "
        "Filter less, or download the failures."
    )
    return [note]


def _unnumbered_note(rows: Sequence[dict[str, Any]]) -> list[str]:
    if all(row["index"] is not None for row in rows):
        return []
    return ["Items without an index come after a chunk that has not ended and whose items are not counted."]


def _unlisted_note(reader: ForkReader) -> list[str]:
    unlisted = [chunk.number for chunk in reader.scoped_chunks if chunk.has_unlisted_failures]
    if not unlisted:
        return []
    note = (
        f"Not all failures of {counted(len(unlisted), 'chunk')} (the first is chunk {unlisted[0]}) are "
        "listed here. The download has all of them."
    )
    return [note]
