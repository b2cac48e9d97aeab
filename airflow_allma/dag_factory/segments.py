"""A flow as tasks: which steps run together in one task, and which task waits for which.

A task runs a SEGMENT of the flow: it starts at one of the segment's steps and stops when it leaves it.

- A step of its own is a segment; so are all the steps of a loop together (a Dag has no cycles), and the
  forks among them then run inside that task.
- A fork outside of loops is spread over tasks: ``items`` decides how it runs, a mapped group for each
  branch runs short lists, ``chunks`` and ``chunk`` run long ones, ``aggregate`` joins the results.
- In a branch each segment is a task, mapped over the items, unless the branch runs as one task: when the
  flow says so (``branchGranularity``), or when the fork has a ``maxConcurrency``. Airflow bounds the
  running instances of a TASK, never those of a group; only a branch that is one task holds its slot from
  its first step to its last.
- A fork inside a branch runs inside that step's task: Airflow does not map what is mapped already.

Nothing here imports Airflow, so ``airflow-allma graph`` draws what the Dag factory builds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from airflow_allma.dag_factory.names import NameTable, safe_dag_id
from airflow_allma.dag_factory.step_graph import Component, StepGraph, components, successors_of
from airflow_allma.flow import BranchGranularity, Flow, ParallelBranch, ParallelForkManagerStep, Step

__all__ = ["FlowPlan", "GroupNode", "TaskNode", "TaskRole", "plan_flow"]

_FORK_TASKS = ("items", "chunks", "chunk", "aggregate")


class TaskRole(StrEnum):
    """What a task does."""

    STEP = "step"
    """Runs one step (with the whole fork, if it is one that lies inside a branch)."""
    LOOP = "loop"
    """Runs the steps of a loop until the flow leaves it."""
    BRANCH = "branch"
    """Runs a whole branch for one item."""
    ITEMS = "items"
    """Finds a fork's items and decides whether they run as mapped tasks or in chunks."""
    CHUNKS = "chunks"
    """Plans the chunks of a long list or of a manifest."""
    CHUNK = "chunk"
    """Runs all branches of the items of one chunk."""
    AGGREGATE = "aggregate"
    """Joins a fork's results and decides whether the fork failed."""


@dataclass(frozen=True, slots=True)
class TaskNode:
    """One task of the Dag.

    Attributes:
        task_id: its full id, groups included.
        role: what it does.
        label: what people read.
        steps: ids of the steps that it may run, first the one that names it.
        groups: the names of the groups around it, outermost first.
        upstream: full ids of the tasks that it waits for.
        fork: id of the fork step that it belongs to; None on the main path.
        branch: place of its branch in the fork; None outside of branches.
        at_a_time: most mapped instances that may run at a time in one run; None: no limit of its own.
        begins: whether runs can begin here, though others may come here from the tasks before it.
    """

    task_id: str
    role: TaskRole
    label: str
    steps: tuple[str, ...]
    groups: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    fork: str | None = None
    branch: int | None = None
    at_a_time: int | None = None
    begins: bool = False

    @property
    def name(self) -> str:
        """The task's id inside its group."""
        return self.task_id.rpartition(".")[2]

    @property
    def is_mapped(self) -> bool:
        """Whether it runs once for each item or chunk."""
        return self.branch is not None or self.role is TaskRole.CHUNK


@dataclass(frozen=True, slots=True)
class GroupNode:
    """A group of tasks: a fork, or (with ``branch``) one of its branches, mapped over the items."""

    path: tuple[str, ...]
    label: str
    fork: str
    branch: int | None = None

    @property
    def group_id(self) -> str:
        """The group's full id."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """All tasks of a flow, each after those that it waits for; groups come before what is in them."""

    flow_id: str
    dag_id: str
    start: str
    tasks: tuple[TaskNode, ...]
    groups: tuple[GroupNode, ...]

    def of_fork(self, fork: str) -> tuple[TaskNode, ...]:
        """The tasks of one spread fork."""
        return tuple(task for task in self.tasks if task.fork == fork)


def plan_flow(flow: Flow) -> FlowPlan:
    """Lay out a flow as tasks.

    Args:
        flow: a validated flow. Steps that nothing reaches get no task.

    Returns:
        The same plan for equal flows.
    """
    return _Planner(flow).plan()


@dataclass(frozen=True, slots=True)
class _Ends:
    """The tasks of one segment at which others hang: a fork begins and ends at different tasks."""

    first: str
    last: str


class _Planner:
    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._names = NameTable()
        self._tasks: list[TaskNode] = []
        self._groups: list[GroupNode] = []

    def plan(self) -> FlowPlan:
        flow = self._flow
        # Also those that are not enabled: what they fired before can then be cleared and run again.
        points = (step.step_instance_id for step in flow.schedule_start_points if step.is_entry)
        entries = (flow.start_step_instance_id, *points)
        parts = components(self._graph(flow.steps), *entries)
        upstream = _predecessors(parts)
        ends: dict[str, _Ends] = {}
        for part in parts:
            waits_for = tuple(ends[earlier].last for earlier in upstream[part.steps[0]])
            ends |= dict.fromkeys(part.steps, self._main_segment(part, waits_for))
        return FlowPlan(
            flow_id=flow.id,
            dag_id=safe_dag_id(flow.id),
            start=ends[flow.start_step_instance_id].first,
            tasks=tuple(_told_to_begin(node, entries) for node in self._tasks),
            groups=tuple(self._groups),
        )

    def _graph(self, steps: Mapping[str, Step]) -> StepGraph:
        return {step_id: successors_of(step, self._flow) for step_id, step in steps.items()}

    def _main_segment(self, part: Component, waits_for: tuple[str, ...]) -> _Ends:
        step = self._flow.steps[part.steps[0]]
        if isinstance(step, ParallelForkManagerStep) and not part.is_loop:
            return self._fork(step, waits_for)
        node = _segment_task(part, self._flow.steps, name=self._names.take(step.step_instance_id))
        node = _placed(node, upstream=waits_for)
        self._tasks.append(node)
        return _Ends(node.task_id, node.task_id)

    def _fork(self, step: ParallelForkManagerStep, waits_for: tuple[str, ...]) -> _Ends:
        fork = step.step_instance_id
        group = self._names.take(fork)
        self._groups.append(GroupNode(path=(group,), label=step.label, fork=fork))

        def task(role: TaskRole, upstream: Iterable[str], at_a_time: int | None = None) -> TaskNode:
            node = TaskNode(
                task_id=f"{group}.{role}",
                role=role,
                label=f"{step.label}: {role}",
                steps=(fork,),
                groups=(group,),
                upstream=tuple(upstream),
                fork=fork,
                at_a_time=at_a_time,
            )
            self._tasks.append(node)
            return node

        items = task(TaskRole.ITEMS, waits_for)
        names = NameTable(reserved=_FORK_TASKS)
        leaves = [
            leaf
            for place, branch in enumerate(step.parallel_branches)
            for leaf in self._branch(step, branch, place, (group, names.take(branch.branch_id)), items)
        ]
        chunks = task(TaskRole.CHUNKS, [items.task_id])
        chunk = task(TaskRole.CHUNK, [chunks.task_id], _chunks_at_a_time(step))
        join = task(TaskRole.AGGREGATE, [items.task_id, *leaves, chunks.task_id, chunk.task_id])
        return _Ends(items.task_id, join.task_id)

    def _branch(
        self,
        fork: ParallelForkManagerStep,
        branch: ParallelBranch,
        place: int,
        path: tuple[str, str],
        items: TaskNode,
    ) -> list[str]:
        """Add a branch's group and tasks; returns the ids of the tasks that nothing in it waits for."""
        if branch.start is None:
            return []
        steps = self._flow.steps_of(branch)
        parts = components(self._graph(steps), branch.start)
        group = GroupNode(path=path, label=branch.branch_id, fork=fork.step_instance_id, branch=place)
        self._groups.append(group)
        limit = _items_at_a_time(fork)
        whole = self._flow.airflow.branch_granularity is BranchGranularity.BRANCH or limit is not None
        if whole and len(parts) > 1:
            parts = (_merged(parts, branch.start),)
        upstream = _predecessors(parts)
        ids: dict[str, str] = {}
        awaited: set[str] = set()
        names = NameTable()
        for part in parts:
            node = _segment_task(part, steps, name=names.take(part.steps[0]), whole_branch=whole)
            before = tuple(dict.fromkeys(ids[earlier] for earlier in upstream[part.steps[0]]))
            node = _placed(node, path, before or (items.task_id,), group, limit)
            self._tasks.append(node)
            awaited.update(before)
            ids |= dict.fromkeys(part.steps, node.task_id)
        return [task for task in dict.fromkeys(ids.values()) if task not in awaited]


def _segment_task(
    part: Component, steps: Mapping[str, Step], *, name: str, whole_branch: bool = False
) -> TaskNode:
    role = TaskRole.LOOP if part.is_loop else TaskRole.STEP
    if whole_branch and (part.is_loop or len(part.steps) > 1):
        role = TaskRole.BRANCH
    label = steps[part.steps[0]].label
    if role is not TaskRole.STEP:
        label = f"{label} ({role})"
    return TaskNode(task_id=name, role=role, label=label, steps=part.steps)


def _told_to_begin(node: TaskNode, entries: Collection[str]) -> TaskNode:
    first_of_segment = node.fork is None or node.role is TaskRole.ITEMS
    return replace(node, begins=True) if first_of_segment and not {*node.steps}.isdisjoint(entries) else node


def _placed(
    node: TaskNode,
    groups: tuple[str, ...] = (),
    upstream: tuple[str, ...] = (),
    branch: GroupNode | None = None,
    at_a_time: int | None = None,
) -> TaskNode:
    return TaskNode(
        task_id=".".join((*groups, node.task_id)),
        role=node.role,
        label=node.label,
        steps=node.steps,
        groups=groups,
        upstream=upstream,
        fork=branch.fork if branch else None,
        branch=branch.branch if branch else None,
        at_a_time=at_a_time,
    )


def _merged(parts: tuple[Component, ...], start: str) -> Component:
    steps = dict.fromkeys([start, *(step for part in parts for step in part.steps)])
    return Component(steps=tuple(steps), is_loop=False, successors=())


def _predecessors(parts: Iterable[Component]) -> dict[str, tuple[str, ...]]:
    """First step of a component -> first steps of the components that lead to it, in their order."""
    parts = tuple(parts)
    first_of = {step: part.steps[0] for part in parts for step in part.steps}
    before: dict[str, dict[str, None]] = {part.steps[0]: {} for part in parts}
    for part in parts:
        for target in part.successors:
            before[first_of[target]][part.steps[0]] = None
    return {first: tuple(earlier) for first, earlier in before.items()}


def _items_at_a_time(fork: ParallelForkManagerStep) -> int | None:
    """How many instances of ONE branch's task may run, so that all branches together keep the limit."""
    limit = fork.aggregation_config.max_concurrency
    return max(1, limit // max(1, len(fork.parallel_branches))) if limit else None


_ITEMS_OF_A_PROCESS = 64
"""Branch runs that one process keeps in flight well; a higher limit is spread over several chunks."""


def _chunks_at_a_time(fork: ParallelForkManagerStep) -> int | None:
    limit = fork.aggregation_config.max_concurrency
    return -(-limit // _ITEMS_OF_A_PROCESS) if limit else None
