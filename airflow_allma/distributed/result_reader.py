"""Reading a chunk's results in item order, in whatever order they were written.

Parts overlap little, since items finish almost in order. So a part is opened only when its first item is due,
and the open ones are merged; memory holds one block of each.
"""

from __future__ import annotations

import heapq
import sys
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

from airflow_allma.distributed.chunk_layout import Part, list_parts
from airflow_allma.distributed.final_results import branch_ranks, final_results
from airflow_allma.distributed.result_format import (
    ResultLine,
    read_part,
)
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import ObjectStore

__all__ = ["error_with_index", "read_results"]

_SortKey = tuple[int, int, str]
"""Item, then sequence and writer of the part. The heap holds one line of each part, so keys differ."""
_Open = tuple[_SortKey, ResultLine, Iterator[ResultLine], Part]


def read_results(
    store: ObjectStore, location: OffloadLocation, branches: Sequence[str] = ()
) -> Generator[ResultLine, None, None]:
    """Yield the results of one chunk: one per item and branch, by item, then by branch.

    Args:
        store: the store of the location.
        location: the chunk's folder.
        branches: the branches' ids in their order; others follow, by name.

    Raises:
        ObjectDecodeError: a part does not match its name.
        StorageError: raised by the store.
    """
    ranks = branch_ranks(branches)
    waiting = deque(sorted(list_parts(store, location), key=lambda part: part.name.first))
    heap: list[_Open] = []
    with ExitStack() as opened:
        while waiting or heap:
            while waiting and (not heap or waiting[0].name.first <= heap[0][1].item):
                part = waiting.popleft()
                _push(heap, opened.enter_context(closing(read_part(store, part))), part)
            if len(heap) == 1:
                until = waiting[0].name.first if waiting else sys.maxsize
                yield from _single_part(heap, until, ranks)
            elif heap:
                yield from final_results(_next_item(heap), ranks)


def _single_part(heap: list[_Open], until: int, ranks: Mapping[str, int]) -> Iterator[ResultLine]:
    """Yield the results of the only part in the heap before item ``until``.

    Most parts overlap no other, and most items have one line, so that nothing needs comparing.
    """
    _, last, lines, part = heap.pop()
    same_item: list[ResultLine] = []
    for line in lines:
        if line.item == last.item:
            same_item.append(last)
        else:
            if same_item:
                yield from final_results([*same_item, last], ranks)
                same_item = []
            else:
                yield last
            if line.item >= until:
                heapq.heappush(heap, (_sort_key(line, part), line, lines, part))
                return
        last = line
    yield from final_results([*same_item, last], ranks)


def _next_item(heap: list[_Open]) -> list[ResultLine]:
    """Return all lines of the next item, in the order in which they were written."""
    item = heap[0][1].item
    results = []
    while heap and heap[0][1].item == item:
        _, line, lines, part = heapq.heappop(heap)
        results.append(line)
        _push(heap, lines, part)
    return results


def _sort_key(line: ResultLine, part: Part) -> _SortKey:
    return line.item, *part.name.order


def _push(heap: list[_Open], lines: Iterator[ResultLine], part: Part) -> None:
    line = next(lines, None)
    if line is not None:
        heapq.heappush(heap, (_sort_key(line, part), line, lines, part))


def error_with_index(error: Any, index: int) -> Any:
    """Return a failure's error with its item's index among all items, which an uncounted chunk did not know.

    Args:
        error: the error object as it was stored.
        index: the item's index.
    """
    details = error.get("errorDetails") if isinstance(error, Mapping) else None
    if not isinstance(details, Mapping) or "itemIndex" not in details:
        return error
    return {**error, "errorDetails": {**details, "itemIndex": index}}
