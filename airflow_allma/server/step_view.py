"""One step of a run: its task instance, and what it got, did and returned."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.orm import Session

from airflow_allma.compat import redact_connections
from airflow_allma.dag_factory.plan import TaskNode, TaskRole
from airflow_allma.operators.run_states import trace_in_state
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.dag_flows import DagFlow
from airflow_allma.server.not_found import NotFoundError
from airflow_allma.server.run_database import find_tasks, find_xcoms
from airflow_allma.server.run_rows import TaskRow
from airflow_allma.server.run_view import STEP_STATES, epoch
from airflow_allma.server.ui_paths import log_path

__all__ = ["step_page"]

_NOT_RUN: Final = "The run has not reached this step."
_NOT_RECORDED: Final = (
    "Nothing is recorded of this step: it ran with a version that recorded nothing, its process was lost, or "
    "somebody marked its task. Clear the task to record it."
)
_IN_ITEMS: Final = "This step runs once for each item: open an item of the fork to see what it got and did."
_NO_INSTANCES: Final = (
    "The items of this fork ran in chunks, not as task instances: open an item of the fork to see its steps."
)


def step_page(
    session: Session, dag_id: str, run_id: str, found: DagFlow, step_id: str, *, map_index: int | None
) -> dict[str, Any]:
    """Return what is shown of one step.

    Args:
        session: the database.
        dag_id: the Dag.
        run_id: the run.
        found: its flow.
        step_id: the step, of the main path or of a branch.
        map_index: which instance of a step in a branch; None for the first that failed, or else the first.

    Raises:
        NotFoundError: no task of the flow runs such a step.
    """
    nodes = [node for node in found.tasks.tasks if step_id in node.steps]
    if not nodes:
        raise NotFoundError(
            f"Flow {found.flow.id}, version {found.flow.version}, has no step {step_id!r:.200} that a task "
            "runs. The steps of a fork inside of a branch run in the task of that branch."
        )
    indexes = None if map_index is None else [map_index]
    rows = find_tasks(session, dag_id, run_id, [node.task_id for node in nodes], map_indexes=indexes)
    row = _shown(rows, nodes)
    node = next((node for node in nodes if row is not None and node.task_id == row.task_id), nodes[0])
    page: dict[str, Any] = {"step": step_id, "type": _type_of(found, step_id), "task": None, "trace": []}
    if row is None:
        return {**page, "note": _NO_INSTANCES if node.is_mapped else _NOT_RUN}
    where = (dag_id, run_id, row.task_id, row.map_index)
    page["task"] = {
        "taskId": row.task_id,
        "mapIndex": row.map_index,
        "state": STEP_STATES.get(row.state, "none"),
        "tries": row.tries,
        "start": epoch(row.start),
        "end": epoch(row.end),
        "seconds": row.seconds,
        "logUrl": log_path(*where, row.tries),
    }
    page["trace"] = _trace(session, dag_id, run_id, row, step_id)
    return {**page, "note": _note(row, page["trace"], node, map_index)}


def _shown(rows: list[TaskRow], nodes: list[TaskNode]) -> TaskRow | None:
    """Return the task instance that says most: one that failed, or else of a fork its last task."""
    order = {node.task_id: index for index, node in enumerate(nodes)}
    begun = [row for row in rows if row.state not in {"none", "removed"}] or rows
    ranked = sorted(begun, key=lambda row: (row.state != "failed", -order[row.task_id], row.map_index))
    roles = {node.task_id: node.role for node in nodes}
    aggregate = next((row for row in ranked if roles[row.task_id] is TaskRole.AGGREGATE), None)
    return aggregate or next(iter(ranked), None)


def _type_of(found: DagFlow, step_id: str) -> str | None:
    for node in found.tasks.tasks:
        if node.step.step_instance_id == step_id:
            return str(node.step.step_type)
    step = found.flow.steps.get(step_id)
    return None if step is None else str(step.step_type)


def _trace(session: Session, dag_id: str, run_id: str, row: TaskRow, step_id: str) -> list[Any]:
    # A task that has failed has pushed no state.
    keys = [Key.TRACE.value, Key.STATE.value]
    for xcom in find_xcoms(session, dag_id, run_id, [row.task_id], keys, map_indexes=[row.map_index]):
        value = xcom.json() if xcom.key == Key.TRACE.value else trace_in_state(xcom.json())
        steps = value.get("steps") if isinstance(value, dict) else None
        if isinstance(steps, list):
            # A loop runs a step several times.
            own = [step for step in steps if isinstance(step, dict) and step.get("step") == step_id]
            shown: list[Any] = redact_connections(own)
            return shown
    return []


def _note(row: TaskRow, trace: list[Any], node: TaskNode, map_index: int | None) -> str | None:
    if trace:
        return None
    if node.is_mapped and map_index is None:
        return _IN_ITEMS
    return _NOT_RUN if row.state in {"none", "skipped", "upstream_failed"} else _NOT_RECORDED
