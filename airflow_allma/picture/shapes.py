"""A picture as data: what the SVG, the pages and the docs draw."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from airflow_allma.picture.layered import Point

__all__ = ["Edge", "EdgeKind", "Node", "NodeKind", "Picture"]


class NodeKind(StrEnum):
    """What a node is."""

    STEP = "step"
    LOOP = "loop"
    """A step that can run again in the same run, as the flow can return to it."""
    FORK = "fork"
    """A frame around the branches of a fork, below a head of a step's size."""
    BRANCH = "branch"
    """A frame around the steps of a branch, below a line with its id."""
    SUBFLOW = "subflow"
    """A step that runs another flow."""
    START = "start"
    """Not a step: where runs begin, or where the flow goes on when any step fails."""
    END = "end"
    """A step that ends the path."""


class EdgeKind(StrEnum):
    """Why a flow goes from a node to another one."""

    NEXT = "next"
    CONDITION = "condition"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class Node:
    """A box or a frame; lengths are in pixels, from the picture's top left corner.

    Attributes:
        id: its id in the picture. A step that several branches share is drawn in each, with one step id.
        kind: what it is.
        title: its name, shortened only if it is very long.
        detail: what it does, in one line without secrets.
        text: title and detail as they fit into the node.
        x: left.
        y: top.
        w: width.
        h: height.
        parent: id of the frame that contains it; None on the main path.
        step: the step's id; None for a start. A branch has that of its fork.
        type: the step's type; empty if it is not a step.
        branch: the branch's id; None for other nodes.
        flow: id of the Dag of the flow that the step runs; None if that is not known before.
        path: where it is in the flow's JSON, keys and indexes.
    """

    id: str
    kind: NodeKind
    title: str
    detail: str
    text: tuple[str, str]
    x: int
    y: int
    w: int
    h: int
    parent: str | None = None
    step: str | None = None
    type: str = ""
    branch: str | None = None
    flow: str | None = None
    path: tuple[str | int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return found | {"kind": str(self.kind), "text": list(self.text), "path": list(self.path)}


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from a node to another one.

    Attributes:
        source: id of a node.
        target: id of a node.
        kind: why the flow goes there.
        label: a transition's condition, or what to know about another edge; can be empty.
        text: the label as it fits; empty if it is shown only as the line's title.
        points: the line, from the source on; vertical pieces are beside boxes, the others between ranks.
        at: the center of the label; None without one.
        is_back: whether it closes a loop.
        is_cut: whether the line ends at its label, which names the target: it would be too long.
        is_joined: whether the line ends at another one that has the same target.
    """

    source: str
    target: str
    kind: EdgeKind
    label: str
    text: str
    points: tuple[Point, ...]
    at: Point | None = None
    is_back: bool = False
    is_cut: bool = False
    is_joined: bool = False

    @property
    def path(self) -> str:
        """The ``d`` of the line in SVG: straight beside boxes, curved between ranks."""
        parts = [f"M{self.points[0][0]} {self.points[0][1]}"]
        for (x1, y1), (x2, y2) in pairwise(self.points):
            if x1 == x2 or y1 == y2:
                parts.append(f"L{x2} {y2}")
            else:
                middle = (y1 + y2) // 2
                parts.append(f"C{x1} {middle} {x2} {middle} {x2} {y2}")
        return "".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; ``top`` and ``bottom`` say how far the path reaches."""
        heights = [y for _, y in self.points]
        return {
            "from": self.source,
            "to": self.target,
            "kind": str(self.kind),
            "label": self.label,
            "text": self.text,
            "path": self.path,
            "top": min(heights),
            "bottom": max(heights),
            "at": None if self.at is None else list(self.at),
            "isBack": self.is_back,
            "isCut": self.is_cut,
            "isJoined": self.is_joined,
        }


@dataclass(frozen=True, slots=True)
class Picture:
    """A flow as a picture.

    Attributes:
        width: in pixels.
        height: in pixels.
        nodes: frames come before what is in them.
        edges: lines; never through a box.
    """

    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "width": self.width,
            "height": self.height,
            "nodes": [node.to_json() for node in self.nodes],
            "edges": [edge.to_json() for edge in self.edges],
        }
