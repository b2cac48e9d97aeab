"""Items whose input or result contains a text: chunks are read until the budget is spent."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Any, Final, NamedTuple

from airflow_allma.engine import ItemError
from airflow_allma.engine.readers import range_items
from airflow_allma.exceptions import ObjectNotFoundError
from airflow_allma.inspection.chunk_files import StoredPart
from airflow_allma.inspection.chunk_reader import ChunkReader
from airflow_allma.inspection.fork_reader import ForkReader, ItemPosition, in_threads
from airflow_allma.inspection.item_query import ItemQuery, page
from airflow_allma.inspection.page_rows import item_rows, lost_note
from airflow_allma.inspection.read_budget import Budget
from airflow_allma.inspection.result_lookup import BLOCK_BYTES
from airflow_allma.inspection.search_text import SearchText
from airflow_allma.inspection.stored_lines import find_line, scan_lines
from airflow_allma.storage import encode_value
from airflow_allma.storage.jsonl import read_line_batches
from airflow_allma.storage.manifest_ranges import ByteRange

__all__ = ["text_page"]

_AHEAD: Final = 8


class _Searched(NamedTuple):
    """What a search of a chunk found.

    Attributes:
        items: items of the chunk with a hit, in order.
        until: items before this one were searched; None for all.
        spent: bytes that were read.
    """

    items: list[int]
    until: int | None = None
    spent: int = 0


class _Work(NamedTuple):
    """The search of one chunk, from one of its items on; inputs and results each have the budget."""

    reader: ForkReader
    number: int
    text: SearchText
    start: int
    budget: Budget


def text_page(reader: ForkReader, query: ItemQuery) -> dict[str, Any]:
    """Return a page of the items whose input or result contains a text.

    ASCII letters match in either case, and quotes match those of the JSON, too. The search reads everything,
    from the item at which the page starts until the page is full or the budget is spent; ``next`` is the item
    at which it stopped.

    Raises:
        StorageError: raised by the store.
    """
    text = SearchText(query.text or "")
    rows: list[dict[str, Any]] = []
    start: int | None = reader.start_from(query.start)
    is_full = False
    while start is not None and not is_full and not reader.budget.is_spent:
        first = reader.find_item(start)
        if first is None or first.chunk not in reader.scope:
            start = None
            break
        ahead = range(first.chunk, min(first.chunk + _AHEAD, reader.scope.stop))
        budget = reader.budget.share(2 * len(ahead))
        works = [
            _Work(reader, number, text, first.item if number == first.chunk else 0, budget)
            for number in ahead
        ]
        found = in_threads(_search, works)
        reader.budget.spend(sum(searched.spent for searched in found))
        searched = list(zip(ahead, found, strict=True))
        start, is_full = _add_hits(reader, query, searched, rows)
    notes = lost_note(reader)
    if start is not None and not is_full:
        notes.append(f"The search stopped before item {start}, to keep the server free; it can go on there.")
    return page(
        rows,
        total=len(rows) if start is None and not query.start else None,
        is_exact=start is None and not query.start and reader.items is not None,
        next_start=start,
        notes=notes,
    )


def _add_hits(
    reader: ForkReader, query: ItemQuery, searched: list[tuple[int, _Searched]], rows: list[dict[str, Any]]
) -> tuple[int | None, bool]:
    """Add the rows of hits, as long as there is room.

    Returns:
        The index at which the search goes on, None at the end, and whether the page is full.
    """
    for number, found in searched:
        first = reader.first_of(number)
        if first is None:
            return None, False
        hits = [ItemPosition(first + item, number, item) for item in found.items]
        for at in range(0, len(hits), query.limit):
            block = hits[at : at + query.limit]
            for position, of_item in zip(block, item_rows(reader, block), strict=True):
                fitting = [row for row in of_item if query.fits(row)]
                if rows and len(rows) + len(fitting) > query.limit:
                    return position.index, True
                rows += fitting
        if found.until is not None:
            return first + found.until, len(rows) >= query.limit
    following = reader.first_of(searched[-1][0] + 1)
    is_end = following is None or not reader.has(following)
    return None if is_end else following, len(rows) >= query.limit


def _search(work: _Work) -> _Searched:
    """Search the inputs and results of a chunk."""
    chunk = work.reader.chunks[work.number]
    try:
        inputs, results = _search_inputs(work, chunk), _search_results(work, chunk)
    except ObjectNotFoundError:
        work.reader.lost.add(chunk.number)
        return _Searched([])
    ends = [found.until for found in (inputs, results) if found.until is not None]
    until = min(ends, default=None)
    items = sorted({*inputs.items, *results.items})
    return _Searched(
        [item for item in items if until is None or item < until], until, inputs.spent + results.spent
    )


def _search_inputs(work: _Work, chunk: ChunkReader) -> _Searched:
    found: list[int] = []
    budget = work.budget.share(1)
    with closing(_inputs(work, chunk)) as lines:
        for item, line in lines:
            # The first one is always searched, so that the search goes on after one that is too large.
            if budget.is_spent and item > work.start:
                return _Searched(found, item, budget.spent)
            budget.spend(len(line))
            if work.text.is_in(line):
                found.append(item)
    return _Searched(found, None, budget.spent)


def _inputs(work: _Work, chunk: ChunkReader) -> Generator[tuple[int, bytes], None, None]:
    """Yield item and input, as JSON, from the item on with which the search starts."""
    view, lines = work.reader.view, chunk.spec.manifest
    if lines is None:
        values = () if view.values is None else chunk.spec.slice_of(view.values())
        for item in range(work.start, len(values)):
            yield item, encode_value(values[item])
        return
    if lines.reader is not None:
        for number, _, value in range_items(view.store, lines):
            if number >= work.start:
                yield number, b"" if isinstance(value, ItemError) else encode_value(value)
        return
    item, offset = 0, chunk.offset_of(work.start) if work.start else None
    if offset:
        # A line belongs to the range that has the byte before it.
        item, lines = work.start, replace(lines, range=ByteRange(offset - 1, lines.range.end))
    with closing(read_line_batches(view.store, lines, block_bytes=BLOCK_BYTES)) as batches:
        for batch in batches:
            for line in batch.lines:
                if item >= work.start:
                    yield item, line
                item += 1


def _search_results(work: _Work, chunk: ChunkReader) -> _Searched:
    if chunk.inline is not None:
        lines = [line for line in chunk.inline if line.item >= work.start and work.text.is_in(line.value)]
        return _Searched([line.item for line in lines])
    budget = work.budget.share(1)
    found: list[int] = []
    ends: list[int] = []
    for part in sorted(chunk.files.parts, key=lambda part: part.first):
        if part.last >= work.start:
            items, end = _search_part(work, part, budget)
            found += items
            ends += [] if end is None else [end]
    if len({part.writer for part in chunk.files.parts}) > 1:
        found = _counting(work, chunk, sorted(set(found)))
    return _Searched(found, min(ends, default=None), budget.spent)


def _search_part(work: _Work, part: StoredPart, budget: Budget) -> tuple[list[int], int | None]:
    """Return the items of a part with a hit, and the first one that was not searched any more."""
    if budget.is_spent and part.first > work.start:
        return [], part.first
    found: list[int] = []
    start, _ = part.byte_range(work.start, part.last)
    is_before = True
    with closing(work.reader.view.store.stream(part.pointer, start, block_bytes=BLOCK_BYTES)) as blocks:
        for raw in scan_lines(blocks, start):
            if is_before or budget.is_spent:
                item = find_line(raw, part.pointer, 0).item
                is_before = item < work.start
                if budget.is_spent and item > work.start:
                    return found, item
            if is_before:
                continue
            budget.spend(raw.length)
            # Most lines need not be decoded.
            if work.text.may_be_in(raw.data):
                line = find_line(raw, part.pointer)
                if work.text.is_in(line.value):
                    found.append(line.item)
    return found, None


def _counting(work: _Work, chunk: ChunkReader, items: list[int]) -> list[int]:
    """Return the items in whose results that count the text is: others have run again since."""
    jobs = chunk.jobs(items)
    final = chunk.final([(job, chunk.read(job)) for job in jobs])
    return [item for item in items if any(work.text.is_in(line.value) for line in final.get(item, ()))]
