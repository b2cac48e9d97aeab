"""What a rerun of items of a fork would do, from what the database and the store know of it."""

from __future__ import annotations

from typing import Any

from airflow.utils.session import create_session

from airflow_allma.dag_factory.plan import TaskRole
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.fork_answers import ForkAnswers
from airflow_allma.server.fork_views import ForkState
from airflow_allma.server.not_found import NotFoundError
from airflow_allma.server.rerun_plan import plan_rerun
from airflow_allma.server.rerun_subject import RerunFork, RerunItems, RerunSubject, RerunWhat
from airflow_allma.server.run_database import find_tasks, find_xcoms

__all__ = ["rerun_view"]


def rerun_view(
    state: ForkState, answers: ForkAnswers, *, what: str, kind: str | None, index: int | None
) -> dict[str, Any]:
    """Return what a rerun would do; see ``rerun_plan.plan_rerun``.

    Args:
        state: the fork.
        answers: what answers questions about its items.
        what: ``failed``, ``kind`` or ``item``.
        kind: the kind's id.
        index: the item's index.

    Raises:
        NotFoundError: a rerun of a kind or an item without saying which.
    """
    if (what == "kind" and not kind) or (what == "item" and index is None):
        raise NotFoundError(f"Say which {what} is to run again.")
    selected = answers.selected(what, kind, index)
    summary = answers.quick_summary()
    chunks = {number: tuple(items) for number, items in selected.get("chunks", {}).items()}
    count = selected["items"]
    items = RerunItems(
        count=summary["failed"] if count is None else count,
        chunks=chunks,
        branches=selected.get("branches", {}),
        is_complete=selected["isComplete"],
        lost=selected.get("lost", ()),
    )
    return plan_rerun(
        _fork(state, is_stored=summary["stored"]), RerunSubject(RerunWhat(what), kind, index), items
    )


def _fork(state: ForkState, *, is_stored: bool) -> RerunFork:
    ids = [node.task_id for node in state.tasks.nodes]
    chunk_task, chunks_task = state.tasks.task(TaskRole.CHUNK), state.tasks.task(TaskRole.CHUNKS)
    run_id = state.run.run_id
    with create_session() as session:
        states: dict[str, dict[int, str | None]] = {task: {} for task in ids}
        chunk_starts: dict[int, float] = {}
        for row in find_tasks(session, state.dag_id, run_id, ids):
            states[row.task_id][row.map_index] = None if row.state == "none" else row.state
            if row.task_id == chunk_task and row.start is not None:
                chunk_starts[row.map_index] = row.start.timestamp()
        written = find_xcoms(session, state.dag_id, run_id, [chunks_task], [Key.RERUN.value])
        selection = next((row.value for row in written), None)
    planned = (state.plan or {}).get("chunks") or ()
    handed_on = state.handed_on
    return RerunFork(
        dag_id=state.dag_id,
        run_id=run_id,
        run_state=state.run.state,
        plan=state.found.tasks,
        fork=state.tasks.fork,
        states=states,
        in_chunks=state.is_in_chunks,
        is_stored=is_stored,
        chunk_items={
            map_index: handed_on.get(map_index, {}).get("items", chunk.get("count"))
            for map_index, chunk in enumerate(planned)
        },
        selection=selection,
        chunk_starts=chunk_starts,
    )
