"""A flow as tasks: which steps run together in one task, and which task waits for which.

A task runs a SEGMENT of the flow: it starts at one of the segment's steps and stops when it leaves it.

- A step of its own is a segment; so are all the steps of a loop together (a Dag has no cycles), and the
  forks among them then run inside that task.
- A fork outside of loops is spread over tasks: ``items`` decides how it runs, a mapped group for each
  branch runs short lists, ``chunks`` and ``chunk`` run long ones, ``aggregate`` joins the results.
- In a branch each segment is a task, mapped over the items, unless the branch runs as one task: when the
  flow says so (``branchGranularity``), or when the fork has a ``maxConcurrency``. Airflow limits the
  running instances of a TASK, never those of a group; only a branch that is one task holds its slot from
  its first step to its last.
- A fork inside a branch runs inside that step's task: Airflow does not map what is mapped already.

Nothing here imports Airflow, so ``airflow-allma graph`` draws what the Dag factory builds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from airflow_allma.dag_factory.plan.task_names import NameTable
from airflow_allma.flow import (
    BranchGranularity,
    EmailStartPointStep,
    Flow,
    ParallelBranch,
    ParallelForkManagerStep,
    ScheduleStartPointStep,
    Step,
    safe_dag_id,
)
from airflow_allma.flow.airflow_limits import DISPLAY_NAME
from airflow_allma.flow.step_graph import Component, StepGraph, components, successors_of

__all__ = ["GroupNode", "TaskNode", "TaskPlan", "TaskRole", "plan_tasks"]

_FORK_TASKS: Final = ("items", "chunks", "chunk", "aggregate")


class TaskRole(StrEnum):
    """What a task does."""

    STEP = "step"
    """Runs one step (with the whole fork, if it is a fork inside a branch)."""
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
        label: the name that the UI shows.
        steps: ids of the steps that it can run; the first one names it.
        step: the step that names it.
        groups: the names of the groups around it, outermost first.
        upstream: full ids of the tasks that it waits for.
        fork: id of the fork step that it belongs to; None on the main path.
        branch: index of its branch in the fork; None outside of branches.
        max_active: how many mapped instances can run at once in one run; None: no limit of its own.
        begins: whether runs can begin here, though other runs reach it from the tasks upstream.
    """

    task_id: str
    role: TaskRole
    label: str
    steps: tuple[str, ...]
    step: Step = field(repr=False)
    groups: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    fork: str | None = None
    branch: int | None = None
    max_active: int | None = None
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
    """A group of tasks: a fork, or (with ``branch``) one of its branches, mapped over the items.

    Attributes:
        path: its name, and before it those of the groups around it.
        label: the name that the UI shows.
        step: the fork.
        branch: index of the branch; None for the fork itself.
    """

    path: tuple[str, ...]
    label: str
    step: ParallelForkManagerStep = field(repr=False)
    branch: int | None = None

    @property
    def fork(self) -> str:
        """The fork's step id."""
        return self.step.step_instance_id

    @property
    def group_id(self) -> str:
        """The group's full id."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """All tasks of a flow, each after those that it waits for; groups come before what is in them."""

    flow_id: str
    dag_id: str
    start: str
    tasks: tuple[TaskNode, ...]
    groups: tuple[GroupNode, ...]

    def of_fork(self, fork: str) -> tuple[TaskNode, ...]:
        """Return the tasks of one spread fork."""
        return tuple(task for task in self.tasks if task.fork == fork)


def plan_tasks(flow: Flow) -> TaskPlan:
    """Lay out a flow as tasks. Equal flows have equal plans.

    Args:
        flow: a validated flow. Steps that nothing reaches get no task.
    """
    return _Planner(flow).plan()


@dataclass(frozen=True, slots=True)
class _Ends:
    """The first and the last task of one segment: a fork begins and ends at different tasks."""

    first: str
    last: str


class _Planner:
    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._names = NameTable()
        self._tasks: list[TaskNode] = []
        self._groups: list[GroupNode] = []

    def plan(self) -> TaskPlan:
        flow = self._flow
        # Also those that are not enabled: the runs that they fired before can then be cleared and run again.
        mail = () if flow.airflow.watch is None else flow.mail_start_points
        starts: tuple[ScheduleStartPointStep | EmailStartPointStep, ...] = (
            *flow.schedule_start_points,
            *mail,
        )
        points = (step.step_instance_id for step in starts if step.is_entry)
        entries = (flow.start_step_instance_id, *points)
        parts = components(self._graph(flow.steps), *entries)
        upstream = _predecessors(parts)
        ends: dict[str, _Ends] = {}
        for part in parts:
            waits_for = tuple(ends[earlier].last for earlier in upstream[part.steps[0]])
            ends |= dict.fromkeys(part.steps, self._main_segment(part, waits_for))
        return TaskPlan(
            flow_id=flow.id,
            dag_id=safe_dag_id(flow.id),
            start=ends[flow.start_step_instance_id].first,
            tasks=tuple(_with_begins(node, entries) for node in self._tasks),
            groups=tuple(self._groups),
        )

    def _graph(self, steps: Mapping[str, Step]) -> StepGraph:
        return {step_id: successors_of(step, self._flow) for step_id, step in steps.items()}

    def _main_segment(self, part: Component, waits_for: tuple[str, ...]) -> _Ends:
        step = self._flow.steps[part.steps[0]]
        if isinstance(step, ParallelForkManagerStep) and not part.is_loop:
            return self._fork(step, waits_for)
        node = _segment_task(part, step, name=self._names.take(step.step_instance_id))
        node = replace(node, upstream=waits_for)
        self._tasks.append(node)
        return _Ends(node.task_id, node.task_id)

    def _fork(self, step: ParallelForkManagerStep, waits_for: tuple[str, ...]) -> _Ends:
        fork = step.step_instance_id
        group = self._names.take(fork)
        self._groups.append(GroupNode(path=(group,), label=_label(step), step=step))

        def task(role: TaskRole, upstream: Iterable[str], max_active: int | None = None) -> TaskNode:
            node = TaskNode(
                task_id=f"{group}.{role}",
                role=role,
                label=f"{_label(step)}: {role}",
                steps=(fork,),
                step=step,
                groups=(group,),
                upstream=tuple(upstream),
                fork=fork,
                max_active=max_active,
            )
            self._tasks.append(node)
            return node

        items = task(TaskRole.ITEMS, waits_for)
        names = NameTable(reserved=_FORK_TASKS)
        leaves: list[str] = []
        for index, branch in enumerate(step.parallel_branches):
            path = (group, names.take(branch.branch_id))
            leaves += self._branch(
                step, branch, GroupNode(path, branch.branch_id, step, index), items.task_id
            )
        chunks = task(TaskRole.CHUNKS, [items.task_id])
        chunk = task(TaskRole.CHUNK, [chunks.task_id], _max_active_chunks(step))
        join = task(TaskRole.AGGREGATE, [items.task_id, *leaves, chunks.task_id, chunk.task_id])
        return _Ends(items.task_id, join.task_id)

    def _branch(
        self, fork: ParallelForkManagerStep, branch: ParallelBranch, group: GroupNode, items: str
    ) -> list[str]:
        """Add a branch's group and tasks; return the ids of the tasks that nothing in it waits for."""
        if branch.start is None:
            return []
        steps = self._flow.steps_of(branch)
        parts = components(self._graph(steps), branch.start)
        self._groups.append(group)
        limit = _max_active_items(fork)
        is_whole = self._flow.airflow.branch_granularity is BranchGranularity.BRANCH or limit is not None
        if is_whole and len(parts) > 1:
            parts = (_merged(parts, branch.start),)
        upstream = _predecessors(parts)
        ids: dict[str, str] = {}
        awaited: set[str] = set()
        names = NameTable()
        for part in parts:
            first = part.steps[0]
            node = _segment_task(part, steps[first], name=names.take(first), is_whole_branch=is_whole)
            before = tuple(dict.fromkeys(ids[earlier] for earlier in upstream[first]))
            node = replace(
                node,
                task_id=".".join((*group.path, node.task_id)),
                groups=group.path,
                upstream=before or (items,),
                fork=group.fork,
                branch=group.branch,
                max_active=limit,
            )
            self._tasks.append(node)
            awaited.update(before)
            ids |= dict.fromkeys(part.steps, node.task_id)
        return [task for task in dict.fromkeys(ids.values()) if task not in awaited]


def _segment_task(part: Component, step: Step, *, name: str, is_whole_branch: bool = False) -> TaskNode:
    role = TaskRole.LOOP if part.is_loop else TaskRole.STEP
    if is_whole_branch and (part.is_loop or len(part.steps) > 1):
        role = TaskRole.BRANCH
    label = _label(step) if role is TaskRole.STEP else f"{_label(step)} ({role})"
    return TaskNode(task_id=name, role=role, label=label, steps=part.steps, step=step)


def _label(step: Step) -> str:
    label: str = DISPLAY_NAME.fit(step.label)
    return label


def _with_begins(node: TaskNode, entries: Collection[str]) -> TaskNode:
    is_first_of_segment = node.fork is None or node.role is TaskRole.ITEMS
    begins = is_first_of_segment and not {*node.steps}.isdisjoint(entries)
    return replace(node, begins=True) if begins else node


def _merged(parts: tuple[Component, ...], start: str) -> Component:
    steps = dict.fromkeys([start, *(step for part in parts for step in part.steps)])
    return Component(steps=tuple(steps), is_loop=False, successors=())


def _predecessors(parts: Iterable[Component]) -> dict[str, tuple[str, ...]]:
    """Return first step of a component -> first steps of the components that lead to it, in their order."""
    parts = tuple(parts)
    first_of = {step: part.steps[0] for part in parts for step in part.steps}
    before: dict[str, dict[str, None]] = {part.steps[0]: {} for part in parts}
    for part in parts:
        for target in part.successors:
            before[first_of[target]][part.steps[0]] = None
    return {first: tuple(earlier) for first, earlier in before.items()}


def _max_active_items(fork: ParallelForkManagerStep) -> int | None:
    """Return how many instances of ONE branch's task can run, so that all branches keep the limit."""
    limit = _max_concurrency(fork)
    return max(1, limit // max(1, len(fork.parallel_branches))) if limit else None


def _max_concurrency(fork: ParallelForkManagerStep) -> int:
    """Return the number in the flow; 0 for a JSONPath: such a fork runs in chunks, which keep the limit."""
    limit = fork.aggregation_config.max_concurrency
    return limit if isinstance(limit, int) else 0


_ITEMS_PER_PROCESS: Final = 64
"""Branch runs that one process handles well at once; a higher limit is spread over several chunks."""


def _max_active_chunks(fork: ParallelForkManagerStep) -> int | None:
    limit = _max_concurrency(fork)
    return -(-limit // _ITEMS_PER_PROCESS) if limit else None
