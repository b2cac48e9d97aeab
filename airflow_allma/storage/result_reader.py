"""Reading a chunk's results in the order of its items, however they were written.

Parts overlap little: items finish almost in order. So a part is opened only when its first item is due, and
the open ones are merged; memory holds one block of each.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing

from airflow_allma.storage.base import ObjectStore
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.results import ResultLine, ResultPart, list_parts, read_part

__all__ = ["read_results"]

_Place = tuple[int, int, str, int]
"""Item, then where its line stands: sequence and writer of the part, number of the line."""


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
    heap: list[tuple[_Place, ResultLine, Iterator[tuple[_Place, ResultLine]]]] = []
    with ExitStack() as opened:
        while waiting or heap:
            while waiting and (not heap or waiting[0].first <= heap[0][1].item):
                _push(heap, opened.enter_context(closing(_placed(store, waiting.popleft()))))
            item = heap[0][1].item
            lines = []
            while heap and heap[0][1].item == item:
                _, line, placed = heapq.heappop(heap)
                lines.append(line)
                _push(heap, placed)
            yield from _settled(lines, ranks)


def _placed(store: ObjectStore, part: ResultPart) -> Generator[tuple[_Place, ResultLine], None, None]:
    for number, line in enumerate(read_part(store, part)):
        yield (line.item, part.sequence, part.writer, number), line


def _push(
    heap: list[tuple[_Place, ResultLine, Iterator[tuple[_Place, ResultLine]]]],
    placed: Iterator[tuple[_Place, ResultLine]],
) -> None:
    found = next(placed, None)
    if found is not None:
        # Places differ, so that lines are never compared.
        heapq.heappush(heap, (*found, placed))


def _settled(lines: list[ResultLine], ranks: dict[str, int]) -> list[ResultLine]:
    """Of each branch the result that counts."""
    chosen: dict[str, ResultLine] = {}
    for line in lines:
        before = chosen.get(line.branch)
        if before is None or not before.is_ok:
            chosen[line.branch] = line
    return sorted(chosen.values(), key=lambda line: (ranks.get(line.branch, len(ranks)), line.branch))
