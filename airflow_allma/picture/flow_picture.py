"""Draws a flow: its main path from top to bottom, and the branches of a fork in a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Final

from airflow_allma.flow import (
    Flow,
    ParallelBranch,
    ParallelForkManagerStep,
    StartFlowExecutionStep,
    StartSubFlowStep,
    Step,
    StepType,
    safe_dag_id,
)
from airflow_allma.flow.step_graph import Exit, ExitKind, StepGraph, components, exits_of
from airflow_allma.picture.fitting import DETAIL_SIZE, TITLE_SIZE, bounded, fit, text_width
from airflow_allma.picture.layered import Arrow, Box, Route, lay_out
from airflow_allma.picture.shapes import Edge, EdgeKind, Node, NodeKind, Picture
from airflow_allma.picture.step_details import step_detail

__all__ = ["draw_flow"]

_WIDTH: Final = 216
_HEIGHT: Final = 52
_PILL: Final = Box(96, 26)
_WIDE_PILL: Final = Box(148, 26)
_PADDING: Final = 12
_MARGIN: Final = 16
_BRANCH_HEAD: Final = 30
_TEXT_ROOM: Final = 46
"""What a title leaves free at both sides, for a state's icon."""
_MAX_LABEL: Final = 190
_CUT_TEXT: Final = 142
_MAX_NODES: Final = 5_000
"""Branches can share steps, and each draws them again; those beyond are drawn as one box."""
_MIN_ROW: Final = 3
_ALWAYS: Final = "otherwise"
_ANY_FAILURE: Final = "if any step fails"

Path = tuple[str | int, ...]


@dataclass
class _Block:
    """A node before its place is known, with what is inside of it."""

    kind: NodeKind
    title: str
    detail: str
    width: int
    height: int
    step: str | None = None
    type: str = ""
    branch: str | None = None
    flow: str | None = None
    path: Path = ()
    inside: list[tuple[_Block, int, int]] = field(default_factory=list)
    lines: list[_PlacedLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Line:
    kind: EdgeKind
    label: str = ""
    text: str = ""

    @property
    def width(self) -> int:
        return text_width(self.text, DETAIL_SIZE) + 8 if self.text else 0


@dataclass(frozen=True, slots=True)
class _PlacedLine:
    source: _Block
    target: _Block
    line: _Line
    route: Route
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class _Scope:
    """Steps that can lead to each other, and where they are in the flow's JSON."""

    steps: Mapping[str, Step]
    path: Path


def draw_flow(flow: Flow) -> Picture:
    """Return a flow as a picture. Equal flows have equal pictures.

    Args:
        flow: a validated flow. Steps that nothing reaches are not drawn.
    """
    root = _Drawer(flow).root()
    nodes: list[Node] = []
    edges: list[Edge] = []
    _flatten(root, None, _MARGIN, _MARGIN, nodes=nodes, edges=edges)
    return Picture(root.width + 2 * _MARGIN, root.height + 2 * _MARGIN, tuple(nodes), tuple(edges))


class _Drawer:
    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._drawn = 0
        # A branch can lead back into its fork: a fork is drawn with its branches once.
        self._forks: set[tuple[int, str]] = set()
        # Many branches can have the same steps; the flow keeps their maps, so an id stays theirs.
        self._ways: dict[int, tuple[Mapping[str, Sequence[Exit]], StepGraph, StepGraph]] = {}

    def root(self) -> _Block:
        flow = self._flow
        entries = tuple(
            step.step_instance_id
            for points in (flow.schedule_start_points, flow.mail_start_points)
            for step in points
            if step.is_entry
        )
        root = _Block(NodeKind.START, "", "", 0, 0)
        self._fill(root, _Scope(flow.steps, ("steps",)), (flow.start_step_instance_id, *entries), 0, 0)
        return root

    def _fill(self, frame: _Block, scope: _Scope, entries: Sequence[str], left: int, top: int) -> None:
        """Draw the steps that entries reach into a frame, and give the frame its size."""
        exits, graph, own = self._ways_of(scope)
        order = [step_id for part in components(graph, *entries) for step_id in part.steps]
        loops = {step for part in components(own, *order) if part.is_loop for step in part.steps}
        handler = _handler(exits, order)
        blocks: list[_Block] = []
        if not frame.step:
            blocks.append(_Block(NodeKind.START, "Start", "", _PILL.width, _PILL.height))
        index: dict[str, int] = {}
        self._drawn += len(order)
        for step_id in order:
            index[step_id] = len(blocks)
            blocks.append(self._step(scope, step_id, is_loop=step_id in loops))
        lines: dict[tuple[int, int, str], list[_Line]] = {}
        if not frame.step and entries[0] in index:
            lines[0, index[entries[0]], ""] = [_Line(EdgeKind.NEXT)]
        if handler is not None:
            pill = _Block(NodeKind.START, _ANY_FAILURE, "", _WIDE_PILL.width, _WIDE_PILL.height)
            lines[len(blocks), index[handler], ""] = [_Line(EdgeKind.FALLBACK, _ANY_FAILURE)]
            blocks.append(pill)
        for step_id in order:
            for way in exits[step_id]:
                if way.target in index and way.kind is not ExitKind.DEFAULT_FALLBACK:
                    line = _line(scope.steps[step_id], way)
                    key = (index[step_id], index[way.target], line.kind)
                    lines.setdefault(key, []).append(line)
        self._arrange(frame, blocks, lines, left, top)

    def _ways_of(self, scope: _Scope) -> tuple[Mapping[str, Sequence[Exit]], StepGraph, StepGraph]:
        """Return the exits of the scope's steps, and two graphs of them: all, and the flow's own."""
        key = id(scope.steps)
        if key not in self._ways:
            exits = {step_id: exits_of(step, self._flow) for step_id, step in scope.steps.items()}
            graph = {step_id: _targets(found) for step_id, found in exits.items()}
            # What follows from "any step fails" is no loop of the flow's own.
            own = {step_id: _targets(found, with_default=False) for step_id, found in exits.items()}
            self._ways[key] = (exits, graph, own)
        return self._ways[key]

    def _arrange(
        self,
        frame: _Block,
        blocks: list[_Block],
        lines: Mapping[tuple[int, int, str], list[_Line]],
        left: int,
        top: int,
    ) -> None:
        merged = [(source, target, _merged(found)) for (source, target, _), found in lines.items()]
        drawing = lay_out(
            [Box(block.width, block.height) for block in blocks],
            [
                Arrow(source, target, line.width, line.kind, line.kind is EdgeKind.FALLBACK)
                for source, target, line in merged
            ],
        )
        width = max(drawing.width, frame.width - 2 * left)
        left += (width - drawing.width) // 2
        for block, (x, y) in zip(blocks, drawing.corners, strict=True):
            frame.inside.append((block, left + x, top + y))
        for (source, target, line), route in zip(merged, drawing.routes, strict=True):
            frame.lines.append(_PlacedLine(blocks[source], blocks[target], line, route, left, top))
        frame.width = max(frame.width, width + 2 * (left - (width - drawing.width) // 2))
        frame.height = top + drawing.height

    def _step(self, scope: _Scope, step_id: str, *, is_loop: bool) -> _Block:
        step = scope.steps[step_id]
        kind, flow = (NodeKind.LOOP if is_loop else NodeKind.STEP), None
        if step.step_type is StepType.END_FLOW:
            kind = NodeKind.END
        elif isinstance(step, StartSubFlowStep):
            kind, flow = NodeKind.SUBFLOW, _dag_id(step.sub_flow_definition_id)
        elif isinstance(step, StartFlowExecutionStep):
            kind, flow = NodeKind.SUBFLOW, _dag_id(step.flow_definition_id)
        elif isinstance(step, ParallelForkManagerStep):
            kind = NodeKind.FORK
        path = (*scope.path, step_id) if scope.path[-1] == "steps" else scope.path
        block = _Block(
            kind, bounded(step.label), bounded(step_detail(step)), _WIDTH, _HEIGHT,
            step=step_id, type=str(step.step_type), flow=flow, path=path,
        )  # fmt: skip
        if isinstance(step, ParallelForkManagerStep):
            self._fork(block, step, scope)
        return block

    def _fork(self, block: _Block, fork: ParallelForkManagerStep, scope: _Scope) -> None:
        key = (id(scope.steps), fork.step_instance_id)
        if key in self._forks:
            block.detail = bounded(f"{block.detail}; its branches are drawn above")
            return
        self._forks.add(key)
        branches = fork.parallel_branches
        per_row = max(_MIN_ROW, ceil(sqrt(len(branches))))
        y, right = _HEIGHT + 4, 0
        rows = [branches[first : first + per_row] for first in range(0, len(branches), per_row)]
        number = 0
        for row in rows:
            x, bottom = _PADDING, y
            for branch in row:
                frame = self._branch(branch, fork, scope, (*block.path, "parallelBranches", number))
                number += 1
                block.inside.append((frame, x, y))
                x += frame.width + _PADDING
                bottom = max(bottom, y + frame.height)
            right, y = max(right, x), bottom + _PADDING
        if rows:
            block.width, block.height = max(block.width, right), y

    def _branch(
        self, branch: ParallelBranch, fork: ParallelForkManagerStep, scope: _Scope, path: Path
    ) -> _Block:
        detail = f"if {branch.condition}" if branch.condition else ""
        frame = _Block(
            NodeKind.BRANCH, bounded(branch.branch_id), bounded(detail), _WIDTH + 2 * _PADDING, _BRANCH_HEAD,
            step=fork.step_instance_id, branch=branch.branch_id, path=path,
        )  # fmt: skip
        inner = self._scope_of(branch, scope, path)
        if branch.start is None or branch.start not in inner.steps:
            return frame
        if self._drawn > _MAX_NODES:
            steps = _Block(NodeKind.STEP, bounded(branch.start), "and more steps, not drawn", _WIDTH, _HEIGHT)
            frame.inside.append((steps, _PADDING, _BRANCH_HEAD))
            frame.height += _HEIGHT
        else:
            self._fill(frame, inner, (branch.start,), _PADDING, _BRANCH_HEAD)
        frame.height += _PADDING
        return frame

    def _scope_of(self, branch: ParallelBranch, scope: _Scope, path: Path) -> _Scope:
        if branch.own_steps is not None:
            return _Scope(branch.own_steps, path if branch.sub_flow is not None else (*path, "steps"))
        around = self._flow.steps_of(branch)
        return scope if around is scope.steps else _Scope(around, ("steps",))


def _dag_id(flow_id: str | None) -> str | None:
    """Return the id of a flow's Dag; None if only the run's data say which flow it is."""
    return None if not flow_id or "{{" in flow_id or flow_id.startswith("$") else safe_dag_id(flow_id)


def _targets(exits: Sequence[Exit], *, with_default: bool = True) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            way.target for way in exits if with_default or way.kind is not ExitKind.DEFAULT_FALLBACK
        )
    )


def _handler(exits: Mapping[str, Sequence[Exit]], order: Sequence[str]) -> str | None:
    """Return the step at which the flow goes on when any step fails."""
    known = set(order)
    for step_id in order:
        for way in exits[step_id]:
            if way.kind is ExitKind.DEFAULT_FALLBACK and way.target in known:
                return way.target
    return None


def _line(step: Step, way: Exit) -> _Line:
    if way.kind is ExitKind.CONDITION:
        return _Line(EdgeKind.CONDITION, bounded(way.condition), _condition_text(way.condition))
    if way.kind is ExitKind.FALLBACK:
        return _Line(EdgeKind.FALLBACK, bounded(f"if {step.step_instance_id} fails"))
    return _Line(EdgeKind.NEXT, _ALWAYS, _ALWAYS) if step.transitions else _Line(EdgeKind.NEXT)


def _condition_text(condition: str) -> str:
    text = bounded(condition)
    if text_width(text, DETAIL_SIZE) > _MAX_LABEL:
        text = text.replace("$.steps_output.", "…")
    return fit(text, DETAIL_SIZE, _MAX_LABEL)


def _merged(lines: Sequence[_Line]) -> _Line:
    """Return one line for several transitions to the same step."""
    if len(lines) == 1:
        return lines[0]
    label = bounded(" or ".join(line.label for line in lines))
    return _Line(lines[0].kind, label, _condition_text(label))


def _flatten(
    block: _Block, parent: str | None, left: int, top: int, *, nodes: list[Node], edges: list[Edge]
) -> None:
    """Add what is inside of a block, with its place in the picture."""
    ids: dict[int, str] = {}
    for inner, dx, dy in block.inside:
        node = _node(inner, f"n{len(nodes)}", parent, left + dx, top + dy)
        ids[id(inner)] = node.id
        nodes.append(node)
        _flatten(inner, node.id, node.x, node.y, nodes=nodes, edges=edges)
    for placed in block.lines:
        x, y, route, line = left + placed.x, top + placed.y, placed.route, placed.line
        edges.append(
            Edge(
                source=ids[id(placed.source)],
                target=ids[id(placed.target)],
                kind=line.kind,
                label=line.label,
                text=fit(f"to {placed.target.title}", DETAIL_SIZE, _CUT_TEXT) if route.is_cut else line.text,
                points=tuple((x + px, y + py) for px, py in route.points),
                at=None if route.label is None else (x + route.label[0], y + route.label[1]),
                is_back=route.is_back,
                is_cut=route.is_cut,
                is_joined=route.is_joined,
            )
        )


def _node(block: _Block, node_id: str, parent: str | None, x: int, y: int) -> Node:
    is_pill = block.kind is NodeKind.START
    room = block.width - (12 if is_pill else _TEXT_ROOM)
    title_size = DETAIL_SIZE if is_pill or block.kind is NodeKind.BRANCH else TITLE_SIZE
    if block.kind is NodeKind.BRANCH and block.detail:
        title = fit(block.title, title_size, room // 2)
        detail = fit(block.detail, DETAIL_SIZE, room - text_width(title, title_size) - 8)
    else:
        title, detail = fit(block.title, title_size, room), fit(block.detail, DETAIL_SIZE, block.width - 20)
    return Node(
        id=node_id, kind=block.kind, title=block.title, detail=block.detail, text=(title, detail),
        x=x, y=y, w=block.width, h=block.height, parent=parent,
        step=block.step, type=block.type, branch=block.branch, flow=block.flow, path=block.path,
    )  # fmt: skip
