"""Ranks of the boxes of a picture: every arrow leads down, but for those that close a loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Ranks", "rank_boxes"]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where boxes are from top to bottom.

    Attributes:
        of_box: the rank of each box, 0 at the top.
        back: indexes of the arrows that lead up, to a box on the way to their own; without self-loops.
    """

    of_box: tuple[int, ...]
    back: frozenset[int]


def rank_boxes(count: int, arrows: Sequence[tuple[int, int]]) -> Ranks:
    """Return the ranks of boxes: each is one below the lowest of those that lead to it.

    The walk begins at box 0, so the result depends only on the order of boxes and arrows.

    Args:
        count: number of boxes.
        arrows: (source, target), indexes of boxes; an arrow from a box to itself is ignored.
    """
    leaving: list[list[int]] = [[] for _ in range(count)]
    for index, (source, target) in enumerate(arrows):
        if source != target:
            leaving[source].append(index)
    order, back = _walk(leaving, arrows)
    ranks = [0] * count
    below: list[list[int]] = [[] for _ in range(count)]
    has_upper = [False] * count
    for source in order:
        for index in leaving[source]:
            if index not in back:
                below[source].append(arrows[index][1])
    for index in back:
        target, source = arrows[index]
        below[source].append(target)
    for box in order:
        for lower in below[box]:
            has_upper[lower] = True
            ranks[lower] = max(ranks[lower], ranks[box] + 1)
    # What nothing leads to is just above what it leads to; box 0 is where the flow begins.
    for box in range(1, count):
        if below[box] and not has_upper[box]:
            ranks[box] = min(ranks[lower] for lower in below[box]) - 1
    return Ranks(tuple(ranks), frozenset(back))


def _walk(leaving: Sequence[Sequence[int]], arrows: Sequence[tuple[int, int]]) -> tuple[list[int], set[int]]:
    """Return the boxes in topological order without the arrows that lead back, and these."""
    # With its own stack: a flow can be longer than Python's recursion limit.
    state = [0] * len(leaving)  # 1: on the way, 2: done
    finished: list[int] = []
    back: set[int] = set()
    for root in range(len(leaving)):
        if state[root]:
            continue
        state[root] = 1
        stack: list[tuple[int, Iterator[int]]] = [(root, iter(leaving[root]))]
        while stack:
            box, rest = stack[-1]
            for index in rest:
                target = arrows[index][1]
                if state[target] == 1:
                    back.add(index)
                elif not state[target]:
                    state[target] = 1
                    stack.append((target, iter(leaving[target])))
                    break
            else:
                state[box] = 2
                finished.append(box)
                stack.pop()
    finished.reverse()
    return finished, back
