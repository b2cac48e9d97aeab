"""The tasks of a plan as Airflow's operators: one function for each role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from airflow.sdk import TaskGroup, TriggerRule, conf, task_group

from airflow_allma.configuration import integer_setting
from airflow_allma.dag_factory.build.callbacks import task_callbacks
from airflow_allma.dag_factory.plan import DagPlan, GroupNode, TaskNode, TaskRole
from airflow_allma.dag_factory.plan.dag_plan import priority_weight
from airflow_allma.dag_factory.plan.doc_md import step_doc_md
from airflow_allma.flow import ParallelForkManagerStep
from airflow_allma.operators.assets import aggregate_alias, known_manifests
from airflow_allma.operators.flow_branch import FlowBranchOperator
from airflow_allma.operators.flow_operator import LABEL_TEMPLATE
from airflow_allma.operators.flow_ref import FindFlow, FlowRef
from airflow_allma.operators.flow_step import FlowStepOperator
from airflow_allma.operators.fork_aggregate import ForkAggregateOperator
from airflow_allma.operators.fork_chunk import ForkChunkOperator
from airflow_allma.operators.fork_chunks import ForkChunksOperator
from airflow_allma.operators.fork_items import ForkItemsOperator
from airflow_allma.operators.fork_results import BranchTasks
from airflow_allma.operators.retry_policy import LOST_TASK_DELAYS, FlowRetryPolicy

__all__ = ["TaskBuilder"]


class Node(Protocol):
    """A task in the Dag, mapped or not."""

    upstream_task_ids: set[str]

    @property
    def output(self) -> Any:
        """A reference to the task's return value."""

    def set_upstream(self, task_or_task_list: Any) -> None:
        """Add an edge from another task to this one."""


_NOTES: Final[Mapping[TaskRole, str]] = {
    TaskRole.LOOP: "Runs the steps {steps} until the flow leaves them.",
    TaskRole.BRANCH: "Runs the whole branch for one item: {steps}.",
    TaskRole.ITEMS: "Finds the items, and decides whether each gets a map index or they run in chunks.",
    TaskRole.CHUNKS: "Plans the chunks of a long list or of a manifest.",
    TaskRole.CHUNK: "Runs all branches of the items of one chunk.",
    TaskRole.AGGREGATE: "Joins the results in item order and decides whether the fork failed.",
}


class TaskBuilder:
    """Makes the tasks of a plan inside the Dag that is being built.

    Args:
        plan: the Dag's plan.
        find: finds the flows that steps run.
    """

    def __init__(self, plan: DagPlan, find: FindFlow | None = None) -> None:
        self.dag_plan = plan
        self.plan = plan.tasks
        self.flow = FlowRef(plan.flow, find, plan.mail)
        self.tasks: dict[str, Node] = {}
        """Full task id -> the task."""
        self.default_retries = int(conf.getint("core", "default_task_retries", fallback=0))
        """How often Airflow retries tasks that do not say it themselves."""
        lost = plan.flow.airflow.lost_task_retries
        self.lost_retries = integer_setting("lost_task_retries") if lost is None else lost
        """How often lost tries are retried."""
        self._callbacks = task_callbacks(plan.flow)
        self._forks = {group.fork: group for group in self.plan.groups if group.branch is None}

    def build(self) -> None:
        """Make every task and group, and their edges."""
        for node in self.plan.tasks:
            if node.fork is None:
                self._add(node)
            elif node.role is TaskRole.ITEMS:
                self._add_fork(self._forks[node.fork])
        if self.dag_plan.whole_flow is not None:
            start: Any = self.tasks[self.plan.start]
            start.whole_flow = self.dag_plan.whole_flow

    def _add_fork(self, group: GroupNode) -> None:
        nodes = self.plan.of_fork(group.fork)
        branches = [
            branch for branch in self.plan.groups if branch.fork == group.fork and branch.branch is not None
        ]
        with TaskGroup(
            group_id=group.path[-1],
            group_display_name=group.label,
            tooltip=group.label,
        ):
            for node in nodes:
                if node.role is TaskRole.ITEMS:
                    self._add(node)
            for branch in branches:
                self._add_branch(branch, [node for node in nodes if node.branch == branch.branch])
            for node in nodes:
                if node.branch is None and node.role is not TaskRole.ITEMS:
                    self._add(node)

    def _add_branch(self, group: GroupNode, nodes: list[TaskNode]) -> None:
        items = self.tasks[f"{group.path[0]}.{TaskRole.ITEMS}"]

        # Each task finds its item by its map index.
        def body(index: Any) -> None:
            del index
            for node in nodes:
                self._add(node)

        mapped = task_group(group_id=group.path[-1], group_display_name=group.label)(body)
        mapped.expand(index=items.output)

    def _add(self, node: TaskNode) -> None:
        task = _BUILDERS[node.role](self, node)
        self.tasks[node.task_id] = task
        # Mapping over a task's output has already added that edge.
        for upstream in node.upstream:
            if upstream not in task.upstream_task_ids:
                task.set_upstream(self.tasks[upstream])

    def fork_step(self, node: TaskNode) -> ParallelForkManagerStep:
        """Return the fork that a task belongs to."""
        return self._forks[node.fork or ""].step

    def common(self, node: TaskNode) -> dict[str, Any]:
        """Return the arguments that any operator has."""
        note = _NOTES.get(node.role, "").format(steps=", ".join(node.steps))
        arguments: dict[str, Any] = {
            "task_id": node.name,
            "task_display_name": node.label,
            "doc_md": step_doc_md(node.step, note),
            "trigger_rule": _trigger_rule(node),
            **LOST_TASK_DELAYS,
            **self._callbacks,
            **self._retries(node),
        }
        if node.max_active is not None:
            arguments["max_active_tis_per_dagrun"] = node.max_active
        if node.is_mapped:
            arguments["map_index_template"] = LABEL_TEMPLATE
            arguments |= _fork_arguments(self.fork_step(node))
        return arguments

    def _retries(self, node: TaskNode) -> dict[str, Any]:
        retries = node.step.on_error.retries if node.step.on_error else None
        default, lost = self.default_retries, self.lost_retries
        if node.role in _FORK_ROLES:
            # These retries are for lost tasks: a task that fails with an error of its own is not retried.
            if self.dag_plan.flow.airflow.lost_task_retries is None:
                lost = max(lost, default)
            return {"retries": max(retries.count if retries else 0, lost)}
        if node.role is not TaskRole.STEP or retries is None or retries.count == 0:
            # The steps of loops and whole branches are retried by the task itself.
            count = max(lost, default)
            return {"retries": count, "retry_policy": FlowRetryPolicy(None, count - default)}
        return {"retries": retries.count + lost, "retry_policy": FlowRetryPolicy(retries, lost)}


def _fork_arguments(fork: ParallelForkManagerStep) -> dict[str, Any]:
    own = fork.airflow
    weight = priority_weight(own.priority_weight)
    arguments = {"pool": own.pool, "queue": own.queue, "priority_weight": weight}
    return {name: value for name, value in arguments.items() if value is not None}


_FORK_ROLES: Final = frozenset({TaskRole.ITEMS, TaskRole.CHUNKS, TaskRole.CHUNK, TaskRole.AGGREGATE})
"""Roles without effects outside of Airflow, or that keep what they have done: safe to run again."""


def _trigger_rule(node: TaskNode) -> TriggerRule:
    if node.role is TaskRole.AGGREGATE:
        return TriggerRule.ALL_DONE
    # After a single upstream task, Airflow skips a task by itself, without a process. A task that joins paths
    # must run to decide; and so must one where a run can begin, which skips the tasks upstream of it.
    decides = len(node.upstream) > 1 or (node.begins and node.upstream)
    return TriggerRule.NONE_FAILED if decides else TriggerRule.ALL_SUCCESS


def _segment(builder: TaskBuilder, node: TaskNode) -> Node:
    arguments: dict[str, Any] = {
        **builder.common(node),
        "flow": builder.flow,
        "steps": node.steps,
        "retried_by_airflow": node.role is TaskRole.STEP,
        "links_run": node.role is TaskRole.STEP and getattr(node.step, "starts_run", False),
    }
    if node.branch is None:
        return FlowStepOperator(after=node.upstream, begins=node.begins, **arguments)
    items = f"{node.groups[0]}.{TaskRole.ITEMS}"
    return FlowBranchOperator(
        after=tuple(task for task in node.upstream if task != items),
        fork=node.fork or "",
        branch=node.branch,
        items=items,
        **arguments,
    )


def _items(builder: TaskBuilder, node: TaskNode) -> Node:
    return ForkItemsOperator(
        flow=builder.flow,
        steps=node.steps,
        after=node.upstream,
        begins=node.begins,
        inlets=known_manifests(builder.dag_plan.flow, builder.fork_step(node)),
        **builder.common(node),
    )


def _chunks(builder: TaskBuilder, node: TaskNode) -> Node:
    (chunk,) = (task for task in builder.plan.of_fork(node.steps[0]) if task.role is TaskRole.CHUNK)
    return ForkChunksOperator(
        flow=builder.flow,
        step=node.steps[0],
        items=node.upstream[0],
        chunks_at_once=chunk.max_active,
        **builder.common(node),
    )


def _chunk(builder: TaskBuilder, node: TaskNode) -> Node:
    group = node.groups[0]
    (chunks,) = node.upstream
    return ForkChunkOperator.partial(
        flow=builder.flow,
        step=node.steps[0],
        items=f"{group}.{TaskRole.ITEMS}",
        chunks=chunks,
        **builder.common(node),
    ).expand(chunk=builder.tasks[chunks].output)


def _aggregate(builder: TaskBuilder, node: TaskNode) -> Node:
    group = node.groups[0]
    inside = builder.plan.of_fork(node.steps[0])
    branches = []
    for index in range(len(builder.fork_step(node).parallel_branches)):
        tasks = tuple(task.task_id for task in inside if task.branch == index)
        branches.append(BranchTasks(first=tasks[0], tasks=tasks))
    return ForkAggregateOperator(
        flow=builder.flow,
        step=node.steps[0],
        items=f"{group}.{TaskRole.ITEMS}",
        branches=branches,
        chunks=f"{group}.{TaskRole.CHUNKS}",
        chunk=f"{group}.{TaskRole.CHUNK}",
        outlets=[aggregate_alias(builder.plan.dag_id, node.steps[0])],
        **builder.common(node),
    )


_BUILDERS: Final[Mapping[TaskRole, Callable[[TaskBuilder, TaskNode], Node]]] = {
    TaskRole.STEP: _segment,
    TaskRole.LOOP: _segment,
    TaskRole.BRANCH: _segment,
    TaskRole.ITEMS: _items,
    TaskRole.CHUNKS: _chunks,
    TaskRole.CHUNK: _chunk,
    TaskRole.AGGREGATE: _aggregate,
}
