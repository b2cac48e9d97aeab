"""A layered drawing of boxes and arrows: coordinates of boxes, labels and lines, without overlap.

Arrows go down from rank to rank. A line passes the ranks between its ends in a column of its own, where no
box is; lines with the same target share it. The result depends only on the order of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from airflow_allma.picture.columns import Side, place_in_columns
from airflow_allma.picture.ordering import order_layers
from airflow_allma.picture.ranks import Ranks, rank_boxes

__all__ = ["LABEL_HEIGHT", "Arrow", "Box", "Drawing", "Point", "Route", "lay_out"]

Point = tuple[int, int]

LABEL_HEIGHT: Final = 18
_GAP: Final = 24
_LINE_GAP: Final = 12
_LINE_WIDTH: Final = 4
_RANK_GAP: Final = 32
_LABEL_GAP: Final = 16
_LOOP_ROOM: Final = 30
_BACK_SHIFT: Final = 18
_CUT_WIDTH: Final = 150
_FREE_LINES: Final = 1_000
_LINES_PER_BOX: Final = 3
"""The points of lines that a picture can have; the longest arrows beyond are cut."""


@dataclass(frozen=True, slots=True)
class Box:
    """What is connected: its size in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Arrow:
    """A connection of two boxes.

    Attributes:
        source: index of a box.
        target: index of a box.
        label: width of the label in pixels; 0 for none.
        group: arrows of one group and target share a line.
        is_aside: whether the way straight on is that of another arrow, if there is one.
    """

    source: int
    target: int
    label: int = 0
    group: str = ""
    is_aside: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """The line of an arrow.

    Attributes:
        points: from the source to the target.
        label: the center of the label; None without one.
        is_back: whether it closes a loop.
        is_cut: whether the line ends at its label, which then names the target.
        is_joined: whether it ends at the line of another arrow, with the same target.
    """

    points: tuple[Point, ...]
    label: Point | None = None
    is_back: bool = False
    is_cut: bool = False
    is_joined: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """The result: size, the top left corner of each box, the route of each arrow."""

    width: int
    height: int
    corners: tuple[Point, ...]
    routes: tuple[Route, ...]


def lay_out(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> Drawing:
    """Return coordinates for boxes and arrows; box 0 is where the reader begins."""
    if not boxes:
        return Drawing(0, 0, (), ())
    return _Layout(boxes, arrows).drawing()


class _Layout:
    def __init__(self, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> None:
        self._boxes = boxes
        self._arrows = arrows
        self._ranks: Ranks = rank_boxes(len(boxes), [(arrow.source, arrow.target) for arrow in arrows])
        self._cut = self._too_long()
        loops = {arrow.source for arrow in arrows if arrow.source == arrow.target}
        self._widths: list[float] = [
            box.width + (2 * _LOOP_ROOM if index in loops else 0) for index, box in enumerate(boxes)
        ]
        self._gaps: list[float] = [_GAP] * len(boxes)
        self._shared: dict[tuple[int, str, bool, int], int] = {}
        self._layers_of_ranks()
        self._layer_of = [self._layer[2 * rank] for rank in self._ranks.of_box]
        self._labels: list[int | None] = [None] * len(arrows)
        self._joined: set[int] = set()
        # The longest first: the others join its line.
        longest = sorted(range(len(arrows)), key=lambda index: (-self._span(index), index))
        chains = {index: self._chain(index) for index in longest}
        self._chains = [chains[index] for index in range(len(arrows))]
        self._connect()

    def _ends(self, index: int) -> tuple[int, int]:
        """Return the upper and the lower box of an arrow."""
        arrow = self._arrows[index]
        return (arrow.target, arrow.source) if index in self._ranks.back else (arrow.source, arrow.target)

    def _span(self, index: int) -> int:
        above, below = self._ends(index)
        return self._ranks.of_box[below] - self._ranks.of_box[above]

    def _too_long(self) -> frozenset[int]:
        left = _FREE_LINES + _LINES_PER_BOX * len(self._boxes)
        cut = set()
        reached: dict[tuple[int, str, bool], int] = {}
        for index in sorted(range(len(self._arrows)), key=lambda index: (self._span(index), index)):
            arrow, span = self._arrows[index], self._span(index)
            line = (arrow.target, arrow.group, index in self._ranks.back)
            longer = max(0, span - 1 - reached.get(line, 0))
            if longer > left:
                cut.add(index)
            else:
                left -= longer
                reached[line] = max(span - 1, reached.get(line, 0))
        return frozenset(cut)

    def _label_rank(self, index: int) -> int | None:
        """Return the rank of an arrow's label, beside its source; boxes have the even ones."""
        arrow = self._arrows[index]
        if arrow.source == arrow.target or not (arrow.label or index in self._cut):
            return None
        above, below = self._ends(index)
        ranks = self._ranks.of_box
        return 2 * ranks[below] - 1 if index in self._ranks.back else 2 * ranks[above] + 1

    def _layers_of_ranks(self) -> None:
        used = {2 * rank for rank in self._ranks.of_box}
        used |= {rank for index in range(len(self._arrows)) if (rank := self._label_rank(index)) is not None}
        self._rank_of = sorted(used)
        self._layer = {rank: number for number, rank in enumerate(self._rank_of)}

    def _chain(self, index: int) -> list[int]:
        """Return the elements of an arrow from its upper to its lower end."""
        arrow = self._arrows[index]
        if arrow.source == arrow.target:
            return []
        above, below = self._ends(index)
        label_rank = self._label_rank(index)
        label_layer = None if label_rank is None else self._layer[label_rank]
        if index in self._cut:
            assert label_layer is not None  # noqa: S101 - a cut arrow has a label
            label = self._labels[index] = self._element(label_layer, max(arrow.label, _CUT_WIDTH))
            return [label, below] if index in self._ranks.back else [above, label]
        is_back = index in self._ranks.back
        between = range(self._layer_of[above] + 1, self._layer_of[below])
        chain = [arrow.source]
        for layer in reversed(between) if is_back else between:
            if layer == label_layer:
                label = self._labels[index] = self._element(layer, arrow.label)
                chain.append(label)
                continue
            key = (arrow.target, arrow.group, is_back, layer)
            if key in self._shared:
                self._joined.add(index)
                chain.append(self._shared[key])
                break
            self._shared[key] = self._element(layer, _LINE_WIDTH)
            chain.append(self._shared[key])
        else:
            chain.append(arrow.target)
        return chain[::-1] if is_back else chain

    def _element(self, layer: int, width: int) -> int:
        self._layer_of.append(layer)
        self._widths.append(width)
        self._gaps.append(_LINE_GAP)
        return len(self._layer_of) - 1

    def _connect(self) -> None:
        pairs = dict.fromkeys(pair for chain in self._chains for pair in pairwise(chain))
        self._upper: list[list[int]] = [[] for _ in self._layer_of]
        self._lower: list[list[int]] = [[] for _ in self._layer_of]
        for above, below in pairs:
            self._lower[above].append(below)
            self._upper[below].append(above)

    def _spine(self) -> set[int]:
        """Return the arrows that are straight: from a box to where most of its path remains.

        Each box has at most one that enters and one that leaves, so they form straight paths.
        """
        ranks = self._ranks.of_box
        depths = [0] * len(self._boxes)
        leaving: list[list[int]] = [[] for _ in self._boxes]
        skipped = self._ranks.back | self._cut
        for index, arrow in enumerate(self._arrows):
            if arrow.source != arrow.target and index not in skipped:
                leaving[arrow.source].append(index)
        boxes = sorted(range(len(self._boxes)), key=lambda box: (ranks[box], box))
        for box in reversed(boxes):
            depths[box] = max((depths[self._arrows[index].target] + 1 for index in leaving[box]), default=0)

        def preference(index: int) -> tuple[bool, bool, int, int]:
            arrow = self._arrows[index]
            return not arrow.is_aside, self._span(index) == 1, depths[arrow.target], -index

        spine: set[int] = set()
        taken: set[int] = set()
        for box in boxes:
            free = [
                index
                for index in leaving[box]
                if index not in self._joined and self._arrows[index].target not in taken
            ]
            if free:
                best = max(free, key=preference)
                spine.add(best)
                taken.add(self._arrows[best].target)
        return spine

    def _sides(self) -> tuple[Side, Side]:
        above, below = [-1] * len(self._layer_of), [-1] * len(self._layer_of)
        for index in self._spine():
            chain = self._chains[index]
            for upper, lower in pairwise(chain):
                below[upper], above[lower] = lower, upper
        return Side(self._upper, above), Side(self._lower, below)

    def drawing(self) -> Drawing:
        layers = order_layers(self._layer_of, self._upper, self._lower)
        above, below = self._sides()
        centers = place_in_columns(
            layers, self._widths, self._gaps, above=above, below=below, boxes=len(self._boxes)
        )
        left = min(center - width / 2 for center, width in zip(centers, self._widths, strict=True))
        self._x = [round(center - left) for center in centers]
        width = max(x + extent / 2 for x, extent in zip(self._x, self._widths, strict=True))
        self._place_layers(layers)
        return Drawing(
            width=round(width),
            height=self._bottoms[-1],
            corners=tuple(
                (self._x[index] - box.width // 2, self._tops[self._layer_of[index]])
                for index, box in enumerate(self._boxes)
            ),
            routes=tuple(self._route(index) for index in range(len(self._arrows))),
        )

    def _place_layers(self, layers: Sequence[Sequence[int]]) -> None:
        self._tops: list[int] = []
        self._bottoms: list[int] = []
        y = 0
        for number, layer in enumerate(layers):
            is_label = self._rank_of[number] % 2 == 1
            if number:
                after_label = self._rank_of[number - 1] % 2 == 1
                y += _LABEL_GAP if is_label or after_label else _RANK_GAP
                widest = max((abs(self._x[a] - self._x[b]) for b in layer for a in self._upper[b]), default=0)
                y += min(30, widest // 18)  # steep curves are hard to follow
            self._tops.append(y)
            boxes = [self._boxes[element].height for element in layer if element < len(self._boxes)]
            y += LABEL_HEIGHT if is_label else max(boxes)
            self._bottoms.append(y)

    def _route(self, index: int) -> Route:
        arrow = self._arrows[index]
        if arrow.source == arrow.target:
            return self._loop(arrow)
        is_back, is_cut = index in self._ranks.back, index in self._cut
        label = self._labels[index]
        points: list[Point] = []
        chain = self._chains[index]
        joint = (0 if is_back else len(chain) - 1) if index in self._joined else -1
        for position, element in enumerate(chain):
            layer = self._layer_of[element]
            x, top, bottom = self._x[element], self._tops[layer], self._bottoms[layer]
            if position == joint:
                points.append((x, bottom if is_back else top))
                continue
            if element >= len(self._boxes):
                points += [(x, top), (x, bottom)]
                continue
            shift = min(_BACK_SHIFT, self._boxes[element].width // 4) if is_back else 0
            if position == 0:
                points += [(x + shift, top + self._boxes[element].height), (x + shift, bottom)]
            else:
                points.append((x + shift, top))
        if is_back:
            points.reverse()
        center = None
        if label is not None:
            layer = self._layer_of[label]
            center = (self._x[label], (self._tops[layer] + self._bottoms[layer]) // 2)
        return Route(_without_repeats(points), center, is_back, is_cut, index in self._joined)

    def _loop(self, arrow: Arrow) -> Route:
        box = self._boxes[arrow.source]
        right = self._x[arrow.source] + box.width // 2
        top = self._tops[self._layer_of[arrow.source]]
        upper, lower = top + min(box.height, 48) // 4, top + min(box.height, 48) * 3 // 4
        far = right + _LOOP_ROOM - 8
        return Route(((right, lower), (far, lower), (far, upper), (right, upper)), None, is_back=True)


def _without_repeats(points: Sequence[Point]) -> tuple[Point, ...]:
    """Drop points that a vertical line passes anyway."""
    kept: list[Point] = []
    for point in points:
        if kept and kept[-1] == point:
            continue
        if len(kept) > 1 and kept[-1][0] == kept[-2][0] == point[0]:
            kept.pop()
        kept.append(point)
    return tuple(kept)
