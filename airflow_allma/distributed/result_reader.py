"""Reading a chunk's results in the order of its items, however they were written.

Parts overlap little: items finish almost in order. So a part is opened only when its first item is due, and
the open ones are merged; memory holds one block of each.
"""

from __future__ import annotations

import heapq
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing

from airflow_allma.distributed.result_format import ResultLine, ResultPart, list_parts, read_part
from airflow_allma.storage.base import ObjectStore
from airflow_allma.storage.keys import OffloadLocation

__all__ = ["read_results"]

_Place = tuple[int, int, str]
"""Item, then sequence and writer of the part. A part has one line at a time in the heap, so places differ."""
_Open = tuple[_Place, ResultLine, Iterator[ResultLine], ResultPart]


def read_results(
    store: ObjectStore, location: OffloadLocation, branches: Sequence[str] = ()
) -> Generator[ResultLine, None, None]:
    """The results of one chunk: one of each item and branch, by item, then by branch.

    Args:
        store: where the location lies.
        location: the chunk's folder.
        branches: the branches' ids in their order; others come behind them, by name.

    Raises:
        ObjectDecodeError: a part is not what its name says.
        StorageError: the store's own.
    """
    ranks = {branch: rank for rank, branch in enumerate(branches)}
    waiting = deque(sorted(list_parts(store, location), key=lambda part: part.first))
    heap: list[_Open] = []
    with ExitStack() as opened:
        while waiting or heap:
            while waiting and (not heap or waiting[0].first <= heap[0][1].item):
                part = waiting.popleft()
                _push(heap, opened.enter_context(closing(read_part(store, part))), part)
            if len(heap) == 1:
                until = waiting[0].first if waiting else sys.maxsize
                groups = _alone(heap, until)
            else:
                groups = iter([_next_item(heap)] if heap else [])
            for lines in groups:
                yield from lines if len(lines) == 1 else _settled(lines, ranks)


def _alone(heap: list[_Open], until: int) -> Iterator[list[ResultLine]]:
    """Lines of the only part in the heap, by item, before item ``until``.

    Most parts overlap no other, and their lines need no comparing.
    """
    _, line, lines, part = heap.pop()
    held = [line]
    for line in lines:
        if line.item == held[0].item:
            held.append(line)
            continue
        yield held
        if line.item >= until:
            heapq.heappush(heap, (_place(line, part), line, lines, part))
            return
        held = [line]
    yield held


def _next_item(heap: list[_Open]) -> list[ResultLine]:
    """All lines of the next item, in the order in which they were written."""
    item = heap[0][1].item
    found = []
    while heap and heap[0][1].item == item:
        _, line, lines, part = heapq.heappop(heap)
        found.append(line)
        _push(heap, lines, part)
    return found


def _place(line: ResultLine, part: ResultPart) -> _Place:
    return line.item, part.sequence, part.writer


def _push(heap: list[_Open], lines: Iterator[ResultLine], part: ResultPart) -> None:
    line = next(lines, None)
    if line is not None:
        heapq.heappush(heap, (_place(line, part), line, lines, part))


def _settled(lines: list[ResultLine], ranks: dict[str, int]) -> list[ResultLine]:
    """Of each branch the result that counts."""
    chosen: dict[str, ResultLine] = {}
    for line in lines:
        before = chosen.get(line.branch)
        if before is None or not before.is_ok:
            chosen[line.branch] = line
    return sorted(chosen.values(), key=lambda line: (ranks.get(line.branch, len(ranks)), line.branch))
