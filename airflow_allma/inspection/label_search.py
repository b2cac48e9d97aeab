"""Items whose label contains a text, from the labels that chunks store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from airflow_allma.common.counted import counted
from airflow_allma.distributed.chunk_layout import ChunkFile
from airflow_allma.exceptions import ObjectNotFoundError
from airflow_allma.inspection.fork_reader import ForkReader, ItemPosition, in_threads
from airflow_allma.inspection.item_query import ItemQuery, page
from airflow_allma.inspection.page_rows import item_rows, lost_note
from airflow_allma.inspection.read_budget import Budget

__all__ = ["label_page"]

_AHEAD: Final = 64
"""Chunks whose labels are searched at the same time."""
_MAX_COUNTED: Final = 100_000
"""Hits that are counted for the total."""
_INDEXES: Final = 1 << 16
"""Indexes that are searched before the budget is looked at."""


class _Hits(NamedTuple):
    """The items of a chunk whose label contains the text; None if the chunk has no labels yet."""

    chunk: int
    items: Sequence[int] | None


def label_page(reader: ForkReader, query: ItemQuery) -> dict[str, Any]:
    """Return a page of the items whose label contains a text.

    Raises:
        StorageError: raised by the store.
    """
    text = (query.label or "").lower()
    found: list[ItemPosition] = []
    total, unlabelled, chunk = 0, 0, reader.scope.start
    while chunk < reader.scope.stop and not (total > _MAX_COUNTED or reader.budget.is_spent):
        ahead = range(chunk, min(chunk + _AHEAD, reader.scope.stop))
        reader.load(reader.chunks[number] for number in ahead)
        # Here, not in the threads: they must not wait for each other.
        firsts = {number: reader.first_of(number) for number in ahead if not _has_labels(reader, number)}
        searched = in_threads(
            lambda number: _search(reader, number, text, firsts.get(number)),  # noqa: B023
            ahead,
            lambda number: reader.chunks[number].has_at_hand(ChunkFile.LABELS),
        )
        for hits in searched:
            if hits.items is None:
                unlabelled += 1
                continue
            # One more than the page has, to know whether another follows.
            first = max(query.start - total, 0)
            of_page = hits.items[first : first + query.limit + 1 - len(found)]
            total += len(hits.items)
            index = reader.first_of(hits.chunk) if of_page else None
            found += [
                ItemPosition(None if index is None else index + item, hits.chunk, item) for item in of_page
            ]
        chunk = ahead.stop
    is_searched = chunk == reader.scope.stop
    shown = found[: query.limit]
    rows = [row for rows in item_rows(reader, shown) for row in rows if query.fits(row)]
    notes = lost_note(reader)
    if unlabelled:
        notes.append(
            f"No labels to search in {counted(unlabelled, 'chunk')}: not ended yet, or run before labels "
            "were stored. Search for a text instead, which reads inputs and results."
        )
    return page(
        rows,
        total=total,
        is_exact=is_searched and not unlabelled,
        next_start=query.start + len(shown) if len(found) > len(shown) else None,
        notes=notes,
    )


def _has_labels(reader: ForkReader, number: int) -> bool:
    index = reader.chunks[number].files.index
    return index is not None and index.labels


def _search(reader: ForkReader, number: int, text: str, first: int | None) -> _Hits:
    chunk = reader.chunks[number]
    if not _has_labels(reader, number):
        if chunk.files.index is None and chunk.inline is None:
            return _Hits(number, None)
        return _Hits(number, _index_hits(first, chunk.items, text, reader.budget))
    try:
        return _Hits(number, chunk.search_labels(text.encode(errors="replace")))
    except ObjectNotFoundError:
        reader.lost.add(chunk.number)
        return _Hits(number, None)


def _index_hits(first: int | None, count: int | None, text: str, budget: Budget) -> Sequence[int] | None:
    """Return the items whose index contains the text: their labels say no more; None beyond the budget."""
    if first is None or count is None:
        return None
    if not text.isdecimal():
        return ()
    found: list[int] = []
    for start in range(0, count, _INDEXES):
        if start and budget.is_spent:
            return None
        found += [item for item in range(start, min(start + _INDEXES, count)) if text in str(first + item)]
    return found
