"""The order of what is on each rank, from left to right, with few crossings of lines."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["Neighbors", "order_layers"]

Neighbors = Sequence[Sequence[int]]
"""Element -> the elements on the next rank (or on the one before) that a line connects with it."""

_SWEEPS = 8
_LARGE = 3_000
"""With more elements than this, two sweeps must do."""


def order_layers(layer_of: Sequence[int], upper: Neighbors, lower: Neighbors) -> list[list[int]]:
    """Return the elements of each rank from left to right.

    Args:
        layer_of: element -> its rank.
        upper: its neighbors on the rank above.
        lower: its neighbors on the rank below.
    """
    layers = _first_order(layer_of, upper, lower)
    best, fewest = layers, _crossings(layers, lower)
    for sweep in range(2 if len(layer_of) > _LARGE else _SWEEPS):
        if not fewest:
            break
        layers = _swept(layers, lower if sweep % 2 else upper, is_upward=bool(sweep % 2))
        crossings = _crossings(layers, lower)
        if crossings < fewest:
            best, fewest = layers, crossings
    return best


def _first_order(layer_of: Sequence[int], upper: Neighbors, lower: Neighbors) -> list[list[int]]:
    """Place elements as a walk from the top reaches them, so that what belongs together is together."""
    layers: list[list[int]] = [[] for _ in range(max(layer_of, default=-1) + 1)]
    seen = [False] * len(layer_of)
    roots = [element for element in range(len(layer_of)) if not upper[element]]
    for root in (*roots, *range(len(layer_of))):
        stack = [root]
        while stack:
            element = stack.pop()
            if seen[element]:
                continue
            seen[element] = True
            layers[layer_of[element]].append(element)
            stack += reversed(lower[element])
    return layers


def _swept(layers: list[list[int]], neighbors: Neighbors, *, is_upward: bool) -> list[list[int]]:
    """Order each rank by the mean position of the neighbors of its elements on the rank before."""
    result = list(layers)
    position: dict[int, int] = {}
    for number in reversed(range(len(layers))) if is_upward else range(len(layers)):
        layer = layers[number]
        keys = {}
        for index, element in enumerate(layer):
            positions = [position[other] for other in neighbors[element] if other in position]
            keys[element] = sum(positions) / len(positions) if positions else float(index)
        layer = sorted(layer, key=keys.__getitem__)
        result[number] = layer
        position = {element: index for index, element in enumerate(layer)}
    return result


def _crossings(layers: Sequence[Sequence[int]], lower: Neighbors) -> int:
    total = 0
    for above, below in pairwise(layers):
        position = {element: index for index, element in enumerate(below)}
        ends: list[int] = []
        for element in above:
            positions = sorted(position[other] for other in lower[element])
            for end in positions:
                total += len(ends) - bisect_left(ends, end + 1)
            for end in positions:
                insort(ends, end)
    return total
