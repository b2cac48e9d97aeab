"""Where the elements of ranks are from left to right: near their neighbors, and never on each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from airflow_allma.picture.ordering import Neighbors

__all__ = ["Side", "place_in_columns", "spread"]

_SWEEPS: Final = 10
_LARGE: Final = 3_000

# How much the wishes count: a straight path first, then boxes, then points of lines, which go around boxes.
_HEAVY: Final = 1.0
_LIGHT: Final = 0.0001
_LIGHTEST: Final = 0.000001


@dataclass(frozen=True, slots=True)
class Side:
    """What is connected on the rank above, or on the one below.

    Attributes:
        neighbors: element -> its neighbors there.
        straight: element -> the neighbor of which it must be in the same column if possible; -1: none.
    """

    neighbors: Neighbors
    straight: Sequence[int]


def place_in_columns(
    layers: Sequence[Sequence[int]],
    widths: Sequence[float],
    gaps: Sequence[float],
    *,
    above: Side,
    below: Side,
    boxes: int,
) -> list[float]:
    """Return the center of each element.

    Args:
        layers: the elements of each rank, from left to right.
        widths: element -> its width.
        gaps: element -> the distance that it keeps from its neighbors on the same rank.
        above: what is connected on the rank above.
        below: what is connected on the rank below.
        boxes: elements before this one are boxes, the others points of lines.
    """
    centers = [0.0] * len(widths)
    for layer in layers:
        for element, center in zip(layer, spread([0.0] * len(layer), None, layer, widths, gaps), strict=True):
            centers[element] = center
    for sweep in range(4 if len(widths) > _LARGE else _SWEEPS):
        is_upward = sweep % 2 == 1
        side = below if is_upward else above
        for layer in reversed(layers) if is_upward else layers:
            wishes = [_wish(element, side, centers, boxes) for element in layer]
            new_centers = spread(
                [wish for wish, _ in wishes], [weight for _, weight in wishes], layer, widths, gaps
            )
            for element, center in zip(layer, new_centers, strict=True):
                centers[element] = center
    return centers


def _wish(element: int, side: Side, centers: Sequence[float], boxes: int) -> tuple[float, float]:
    """Return where an element wants to be, and how much that counts."""
    straight = side.straight[element]
    if straight >= 0:
        return centers[straight], _HEAVY
    weight = _LIGHT if element < boxes else _LIGHTEST
    others = side.neighbors[element]
    if element >= boxes:
        others = [other for other in others if other >= boxes] or others
    if not others:
        return centers[element], weight
    return sum(centers[other] for other in others) / len(others), weight


def spread(
    wished: Sequence[float],
    weights: Sequence[float] | None,
    layer: Sequence[int],
    widths: Sequence[float],
    gaps: Sequence[float],
) -> list[float]:
    """Return the centers of one rank that are nearest to those wished for (least squares), without overlap.

    Subtracting the widths before an element turns the problem into isotonic regression, which pooling
    adjacent violators solves in one pass.

    Args:
        wished: the wished centers, in the order of the rank.
        weights: how much each wish counts; None: the same.
        layer: the elements.
        widths: element -> its width.
        gaps: element -> the distance that it keeps.
    """
    offsets: list[float] = []
    offset = 0.0
    for index, element in enumerate(layer):
        if index:
            before = layer[index - 1]
            offset += (widths[before] + widths[element]) / 2 + max(gaps[before], gaps[element])
        offsets.append(offset)
    pools: list[tuple[float, float, int]] = []  # mean, weight, number of elements
    for index, wish in enumerate(wished):
        mean, weight, size = wish - offsets[index], weights[index] if weights else 1.0, 1
        while pools and pools[-1][0] > mean:
            other, other_weight, other_size = pools.pop()
            mean = (mean * weight + other * other_weight) / (weight + other_weight)
            weight += other_weight
            size += other_size
        pools.append((mean, weight, size))
    means = [mean for mean, _, size in pools for _ in range(size)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
