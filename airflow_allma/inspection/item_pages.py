"""Pages of a fork's items, in the order of their indexes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from airflow_allma.inspection.chunk_reader import ChunkReader
from airflow_allma.inspection.failure_pages import failure_page
from airflow_allma.inspection.fork_reader import ForkReader, ItemPosition
from airflow_allma.inspection.fork_view import ForkView
from airflow_allma.inspection.item_query import ItemQuery, page
from airflow_allma.inspection.label_search import label_page
from airflow_allma.inspection.page_rows import item_rows, lost_note
from airflow_allma.inspection.read_budget import Budget
from airflow_allma.inspection.text_search import text_page

__all__ = ["ItemQuery", "item_page"]

_FILTERED_BLOCK: Final = 256
"""Items that are read at once when only some of them are shown."""


def item_page(view: ForkView, query: ItemQuery, budget: Budget | None = None) -> dict[str, Any]:
    """Return a page of items: ``{"rows", "total", "isExact", "next", "note"}``.

    The work is bounded: a page can have fewer rows than asked for, and a ``next`` where the search goes on.

    Args:
        view: the fork.
        query: which items.
        budget: how much may be read; None for the limits of a web page.

    Raises:
        StorageError: the store cannot be read.
    """
    reader = ForkReader(view, budget)
    if query.chunk is not None:
        reader.limit_to(query.chunk)
    if query.is_of_failures:
        return failure_page(reader, query)
    if query.label:
        return label_page(reader, query)
    if query.text:
        return text_page(reader, query)
    return _index_page(reader, query)


def _index_page(reader: ForkReader, query: ItemQuery) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    size = query.limit if query.show == "all" and not query.branch else _FILTERED_BLOCK
    if query.show != "all":
        # At the same time, not one after the other as the page comes to them.
        reader.load(chunk for chunk in reader.scoped_chunks if not _has_ended(chunk, query))
    start: int | None = reader.start_from(query.start)
    is_full = False
    while start is not None and not is_full:
        items = list(_block(reader, query, start, size))
        if not items:
            start = None
            break
        start, is_full = _add_rows(reader, query, items, rows)
        if start is not None and not is_full and reader.budget.is_spent:
            notes.append(f"The search stopped before item {start}; the next page goes on there.")
            break
    total, is_exact = _total(reader, query)
    return page(
        rows,
        total=total,
        is_exact=is_exact,
        next_start=start,
        notes=[*notes, *(_uncounted_note(reader) if start is None else ()), *lost_note(reader)],
    )


def _add_rows(
    reader: ForkReader, query: ItemQuery, items: list[ItemPosition], rows: list[dict[str, Any]]
) -> tuple[int | None, bool]:
    """Add the rows of items, as long as there is room.

    Returns:
        The index that comes next, if there is one, and whether the page is full.
    """
    block = reader.affordable(items)
    for position, of_item in zip(block, item_rows(reader, block), strict=True):
        fitting = [row for row in of_item if query.fits(row)]
        if rows and len(rows) + len(fitting) > query.limit:
            return position.index, True
        rows += fitting
    following = (block[-1].index or 0) + 1
    return following if reader.has(following) else None, len(rows) >= query.limit


def _block(reader: ForkReader, query: ItemQuery, start: int, size: int) -> Iterator[ItemPosition]:
    """Yield the next items that can fit, from a given index on."""
    index, found = start, 0
    while found < size:
        position = reader.find_item(index)
        if position is None or position.chunk not in reader.scope:
            return
        chunk = reader.chunks[position.chunk]
        if not _can_fit(chunk, query):
            first = reader.first_of(position.chunk + 1)
            if first is None:
                return
            index = max(first, index + 1)
            continue
        yield position
        index += 1
        found += 1


def _has_ended(chunk: ChunkReader, query: ItemQuery) -> bool:
    """Return whether a page of what runs need not look at a chunk."""
    return query.show == "running" and chunk.state.has_ended


def _can_fit(chunk: ChunkReader, query: ItemQuery) -> bool:
    if query.show == "running":
        return not chunk.state.has_ended and not chunk.counts.is_final
    return query.show == "all" or chunk.counts.succeeded != 0


def _total(reader: ForkReader, query: ItemQuery) -> tuple[int | None, bool]:
    if query.branch or query.show == "running":
        return None, False
    if query.show == "all":
        items = reader.items if query.chunk is None else reader.chunks[query.chunk].items
        return (reader.known_items, False) if items is None else (items, True)
    reader.load(reader.scoped_chunks)
    counts = [chunk.counts for chunk in reader.scoped_chunks]
    is_exact = all(count.is_final for count in counts)
    return (sum(count.succeeded or 0 for count in counts), True) if is_exact else (None, False)


def _uncounted_note(reader: ForkReader) -> list[str]:
    if reader.items is not None:
        return []
    note = (
        f"Items from {reader.known_items} on have no index yet: a chunk before them has not ended, and is "
        "too large to count its lines now."
    )
    return [note]
