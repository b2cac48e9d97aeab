"""The completion Dag of a flow as a plan: one task for each action after a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from airflow_allma.common.completion_runs import COMPLETION_TAG, completion_dag_id
from airflow_allma.dag_factory.plan.dag_plan import DagPlan
from airflow_allma.dag_factory.plan.segments import TaskNode, TaskRole
from airflow_allma.flow.airflow_limits import NAME

__all__ = ["ActionNode", "CompletionPlan", "plan_completion"]

_LEAVE_STATE: Final = frozenset({TaskRole.STEP, TaskRole.LOOP, TaskRole.ITEMS, TaskRole.AGGREGATE})
_INHERITED: Final = ("owner", "pool", "priority_weight", "queue")


@dataclass(frozen=True, slots=True)
class ActionNode:
    """The task of one action.

    Attributes:
        task_id: its id.
        label: the name that the UI shows.
        index: the index of the action in the flow.
    """

    task_id: str
    label: str
    index: int


@dataclass(frozen=True, slots=True)
class CompletionPlan:
    """Everything that a flow determines about its completion Dag.

    Attributes:
        dag: the plan of the flow's own Dag.
        dag_id: the id of the completion Dag.
        display_name: the name that the UI shows.
        doc_md: the documentation that the UI shows.
        tags: the Dag's tags.
        actions: the tasks, in the order of the flow.
        tasks: full ids of the tasks of the flow's own Dag that leave the run's state, in their order.
        task_defaults: arguments of all tasks, by Airflow's names.
    """

    dag: DagPlan
    dag_id: str
    display_name: str
    doc_md: str
    tags: frozenset[str]
    actions: tuple[ActionNode, ...]
    tasks: tuple[str, ...]
    task_defaults: dict[str, object]


def plan_completion(plan: DagPlan) -> CompletionPlan | None:
    """Plan the completion Dag of a planned Dag; None if the flow has no actions."""
    flow = plan.flow
    if not flow.on_completion_actions:
        return None
    dag_id = plan.tasks.dag_id
    return CompletionPlan(
        dag=plan,
        dag_id=completion_dag_id(dag_id),
        display_name=NAME.fit(f"{plan.display_name}: completion actions"),
        doc_md=(
            f"The actions of flow `{flow.id}` after a run of the Dag `{dag_id}` has ended. Airflow's API "
            "server starts these runs."
        ),
        tags=frozenset({*plan.tags, COMPLETION_TAG}),
        actions=tuple(
            ActionNode(f"action_{index}", f"{index}: {action.action_type.value}", index)
            for index, action in enumerate(flow.on_completion_actions)
        ),
        tasks=tuple(node.task_id for node in plan.tasks.tasks if _leaves_state(node)),
        task_defaults={name: plan.task_defaults[name] for name in _INHERITED if name in plan.task_defaults},
    )


def _leaves_state(node: TaskNode) -> bool:
    return node.branch is None and node.role in _LEAVE_STATE
