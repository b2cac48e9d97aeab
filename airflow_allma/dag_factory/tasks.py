"""From the plan's tasks to Airflow's operators: one builder for each role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

from airflow.sdk import TaskGroup, TriggerRule, conf, task_group

from airflow_allma.configuration import integer_setting
from airflow_allma.dag_factory.doc_md import step_doc_md
from airflow_allma.dag_factory.segments import FlowPlan, GroupNode, TaskNode, TaskRole
from airflow_allma.flow import AirflowOptions, Flow, ParallelForkManagerStep, Step
from airflow_allma.operators.assets import aggregate_alias, known_manifests
from airflow_allma.operators.base import LABEL_TEMPLATE
from airflow_allma.operators.flow_branch import FlowBranchOperator
from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.flow_step import FlowStepOperator
from airflow_allma.operators.fork_aggregate import ForkAggregateOperator
from airflow_allma.operators.fork_chunk import ForkChunkOperator
from airflow_allma.operators.fork_chunks import ForkChunksOperator
from airflow_allma.operators.fork_items import ForkItemsOperator
from airflow_allma.operators.fork_results import BranchTasks
from airflow_allma.operators.retry_policy import FlowRetryPolicy

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


@dataclass(slots=True)
class TaskBuilder:
    """Makes the tasks of one flow inside the Dag that is being built.

    Args:
        flow: the flow.
        plan: its tasks.
        handle: the flow, as operators hold it.
    """

    flow: Flow
    plan: FlowPlan
    handle: FlowRef
    _made: dict[str, Node] = field(default_factory=dict)

    def build(self) -> None:
        """Make every task and group, and their edges."""
        forks = {group.fork: group for group in self.plan.groups if group.branch is None}
        for node in self.plan.tasks:
            if node.fork is None:
                self._add(node)
            elif node.role is TaskRole.ITEMS:
                self._fork(forks[node.fork])

    def _fork(self, group: GroupNode) -> None:
        nodes = self.plan.of_fork(group.fork)
        branches = [one for one in self.plan.groups if one.fork == group.fork and one.branch is not None]
        step = self.flow.steps[group.fork]
        with TaskGroup(
            group_id=group.path[-1], group_display_name=group.label, tooltip=step.display_name or group.fork
        ):
            for node in nodes:
                if node.role is TaskRole.ITEMS:
                    self._add(node)
            for branch in branches:
                self._branch(branch, [node for node in nodes if node.branch == branch.branch])
            for node in nodes:
                if node.branch is None and node.role is not TaskRole.ITEMS:
                    self._add(node)

    def _branch(self, group: GroupNode, nodes: list[TaskNode]) -> None:
        items = self._made[f"{group.path[0]}.{TaskRole.ITEMS}"]

        def body(mapped_item: Any) -> None:
            for node in nodes:
                self._add(node, mapped_item)

        mapped = task_group(group_id=group.path[-1], group_display_name=group.label)(body)
        mapped.expand(mapped_item=items.output)

    def _add(self, node: TaskNode, mapped_item: Any = None) -> None:
        task = _BUILDERS[node.role](self, node, mapped_item)
        self._made[node.task_id] = task
        # Mapping over a task's output has made that edge already.
        for earlier in node.upstream:
            if earlier not in task.upstream_task_ids:
                task.set_upstream(self._made[earlier])

    def step_of(self, node: TaskNode) -> Step:
        """The step that gives the task its name."""
        if node.branch is None or node.fork is None:
            return self.flow.steps[node.steps[0]]
        fork = self.flow.steps[node.fork]
        assert isinstance(fork, ParallelForkManagerStep)  # noqa: S101 - the plan says so
        return self.flow.steps_of(fork.parallel_branches[node.branch])[node.steps[0]]

    def common(self, node: TaskNode) -> dict[str, Any]:
        """What Airflow is told about any task."""
        step = self.step_of(node)
        note = _NOTES.get(node.role, "").format(steps=", ".join(node.steps))
        arguments: dict[str, Any] = {
            "task_id": node.name,
            "task_display_name": node.label,
            "doc_md": step_doc_md(step, note),
            "trigger_rule": _trigger_rule(node),
            **self._retries(step, node),
        }
        if node.at_a_time is not None:
            arguments["max_active_tis_per_dagrun"] = node.at_a_time
        if node.is_mapped:
            arguments["map_index_template"] = LABEL_TEMPLATE
            arguments |= self._of_fork(node)
        return arguments

    def _of_fork(self, node: TaskNode) -> dict[str, Any]:
        fork = self.flow.steps[node.fork or ""]
        assert isinstance(fork, ParallelForkManagerStep)  # noqa: S101 - the plan says so
        own = fork.airflow
        said = {"pool": own.pool, "queue": own.queue, "priority_weight": own.priority_weight}
        return {name: value for name, value in said.items() if value is not None}

    def _retries(self, step: Step, node: TaskNode) -> dict[str, Any]:
        retries = step.on_error.retries if step.on_error else None
        if node.role in _OF_FORKS:
            # What fails by an error of its own fails for good. These are for processes that are lost.
            count = max(retries.count if retries else 0, _lost_task_retries(self.flow.airflow))
            seconds = retries.interval_seconds if retries else _LOST_TASK_WAIT
            return {"retries": count, "retry_delay": timedelta(seconds=seconds)}
        if node.role is not TaskRole.STEP or retries is None or retries.count == 0:
            return {}
        return {
            "retries": retries.count,
            "retry_delay": timedelta(seconds=retries.interval_seconds),
            "retry_policy": FlowRetryPolicy(retries),
        }


def _lost_task_retries(own: AirflowOptions) -> int:
    if own.lost_task_retries is not None:
        return own.lost_task_retries
    of_airflow = int(conf.getint("core", "default_task_retries", fallback=0))
    return max(integer_setting("lost_task_retries"), of_airflow)


_OF_FORKS: Final = frozenset({TaskRole.ITEMS, TaskRole.CHUNKS, TaskRole.CHUNK, TaskRole.AGGREGATE})
"""Tasks that do nothing outside, or keep what they have done: it is safe to run them again."""

_LOST_TASK_WAIT: Final = 5.0
"""Seconds; when a process was lost there is nothing to wait for."""


def _trigger_rule(node: TaskNode) -> TriggerRule:
    if node.role is TaskRole.AGGREGATE:
        return TriggerRule.ALL_DONE
    # With one task before it, Airflow skips a task by itself, without a process. A join runs, and asks; and
    # so does one where a run can begin, which skips what is before it.
    asks = len(node.upstream) > 1 or (node.begins and node.upstream)
    return TriggerRule.NONE_FAILED if asks else TriggerRule.ALL_SUCCESS


def _segment(builder: TaskBuilder, node: TaskNode, mapped_item: Any) -> Node:
    arguments: dict[str, Any] = {
        **builder.common(node),
        "flow": builder.handle,
        "steps": node.steps,
        "retried_by_airflow": node.role is TaskRole.STEP,
    }
    if node.branch is None:
        return FlowStepOperator(after=node.upstream, begins=node.begins, **arguments)
    items = f"{node.groups[0]}.{TaskRole.ITEMS}"
    return FlowBranchOperator(
        after=tuple(task for task in node.upstream if task != items),
        fork=node.fork or "",
        branch=node.branch,
        items=items,
        mapped_item=mapped_item,
        **arguments,
    )


def _items(builder: TaskBuilder, node: TaskNode, _: Any) -> Node:
    fork = builder.flow.steps[node.steps[0]]
    assert isinstance(fork, ParallelForkManagerStep)  # noqa: S101 - the plan says so
    return ForkItemsOperator(
        flow=builder.handle,
        steps=node.steps,
        after=node.upstream,
        begins=node.begins,
        inlets=known_manifests(builder.flow, fork),
        **builder.common(node),
    )


def _chunks(builder: TaskBuilder, node: TaskNode, _: Any) -> Node:
    (chunk,) = (one for one in builder.plan.of_fork(node.steps[0]) if one.role is TaskRole.CHUNK)
    return ForkChunksOperator(
        flow=builder.handle,
        step=node.steps[0],
        items=node.upstream[0],
        chunks_at_once=chunk.at_a_time,
        **builder.common(node),
    )


def _chunk(builder: TaskBuilder, node: TaskNode, _: Any) -> Node:
    group = node.groups[0]
    (chunks,) = node.upstream
    return ForkChunkOperator.partial(
        flow=builder.handle,
        step=node.steps[0],
        items=f"{group}.{TaskRole.ITEMS}",
        chunks=chunks,
        **builder.common(node),
    ).expand(chunk=builder._made[chunks].output)  # noqa: SLF001 - the builder's own table


def _aggregate(builder: TaskBuilder, node: TaskNode, _: Any) -> Node:
    group = node.groups[0]
    fork = builder.flow.steps[node.steps[0]]
    assert isinstance(fork, ParallelForkManagerStep)  # noqa: S101 - the plan says so
    inside = builder.plan.of_fork(node.steps[0])
    branches = []
    for place in range(len(fork.parallel_branches)):
        tasks = tuple(one.task_id for one in inside if one.branch == place)
        branches.append(BranchTasks(first=tasks[0], tasks=tasks))
    return ForkAggregateOperator(
        flow=builder.handle,
        step=node.steps[0],
        items=f"{group}.{TaskRole.ITEMS}",
        branches=branches,
        chunks=f"{group}.{TaskRole.CHUNKS}",
        chunk=f"{group}.{TaskRole.CHUNK}",
        outlets=[aggregate_alias(builder.plan.dag_id, node.steps[0])],
        **builder.common(node),
    )


_BUILDERS: Final[Mapping[TaskRole, Callable[[TaskBuilder, TaskNode, Any], Node]]] = {
    TaskRole.STEP: _segment,
    TaskRole.LOOP: _segment,
    TaskRole.BRANCH: _segment,
    TaskRole.ITEMS: _items,
    TaskRole.CHUNKS: _chunks,
    TaskRole.CHUNK: _chunk,
    TaskRole.AGGREGATE: _aggregate,
}
