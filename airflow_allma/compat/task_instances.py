"""States and XComs of the task instances of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from airflow_allma.compat.missing_names import IS_MISSING, warn_once

__all__ = ["NOT_MAPPED", "count_xcoms", "instance_key", "note_label", "send_label", "task_states"]

NOT_MAPPED: Final = -1
"""Airflow's map index of a task that is not mapped."""


def instance_key(task_id: str, map_index: int = NOT_MAPPED) -> str:
    """Return a task instance's key in what ``task_states`` returns: ``<task>`` or ``<task>_<map index>``.

    It is the key of Airflow's ``get_task_states`` (Airflow 3.0), which only its source documents.
    """
    return task_id if map_index == NOT_MAPPED else f"{task_id}_{map_index}"


def task_states(ti: Any, task_ids: Sequence[str], map_index: int | None = None) -> Mapping[str, str | None]:
    """Return the states of tasks of a task's own Dag run, with one call.

    Uses ``get_task_states`` of the running task instance (Airflow 3.0). Without it each state costs up to
    four calls (``get_ti_count``, Airflow 3.0). Without that too every task counts as successful: tasks then
    decide by the XComs of their upstream tasks, also by those from before a task was cleared.

    Args:
        ti: the task instance that runs.
        task_ids: full ids.
        map_index: only this index (-1 for tasks that are not mapped); None for all.

    Returns:
        ``instance_key`` -> state.
    """
    try:
        get_task_states = ti.get_task_states
    except AttributeError:
        return _CountedStates(ti, task_ids)
    by_run = get_task_states(
        dag_id=ti.dag_id, task_ids=list(task_ids), run_ids=[ti.run_id], map_index=map_index
    )
    states: Mapping[str, str | None] = by_run.get(ti.run_id, {})
    return states


_COUNTED: Final = ("success", "skipped", "failed", "upstream_failed")


class _CountedStates(Mapping[str, str | None]):
    """States that are queried one by one, by counting the instances in each state."""

    def __init__(self, ti: Any, task_ids: Sequence[str]) -> None:
        self._task_ids = frozenset(task_ids)
        self._known: dict[str, str | None] = {}
        self._ti = ti
        self._can_count = hasattr(ti, "get_ti_count")
        warn_once(
            "get_task_states of a task instance",
            "The states of upstream tasks are queried one by one"
            if self._can_count
            else "The states of upstream tasks are unknown; their XComs count, even those before a clear",
        )

    def __getitem__(self, key: str) -> str | None:
        if not self._can_count:
            return "success"
        if key not in self._known:
            self._known[key] = next((state for state in _COUNTED if self._is_in(key, state)), None)
        return self._known[key]

    def _is_in(self, key: str, state: str) -> bool:
        task_id, map_index = key, NOT_MAPPED
        if key not in self._task_ids:
            task_id, _, index = key.rpartition("_")
            map_index = int(index)
        counted = self._ti.get_ti_count(
            dag_id=self._ti.dag_id,
            task_ids=[task_id],
            run_ids=[self._ti.run_id],
            map_index=map_index,
            states=[state],
        )
        return bool(counted)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def count_xcoms(ti: Any, task_id: str, key: str) -> int | None:
    """Return how many map indexes of a task have an XCom with this key, with one call.

    Uses ``SUPERVISOR_COMMS`` of the task runner and ``GetXComCount`` (Airflow 3.0), as Airflow does for the
    length of a mapped task's output. Without them the answer is None: callers ask for the XCom itself, and
    Airflow logs an error for each that does not exist.
    """
    try:
        from airflow.sdk.execution_time.comms import GetXComCount
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        question = GetXComCount(key=key, dag_id=ti.dag_id, run_id=ti.run_id, task_id=task_id)
        counted: int = cast("Any", SUPERVISOR_COMMS.send(question)).len
    except IS_MISSING as error:
        warn_once(
            f"airflow.sdk.execution_time.comms.GetXComCount or SUPERVISOR_COMMS ({error})",
            "XComs are looked up one by one, and Airflow logs an error for each that does not exist",
        )
        return None
    return counted


def note_label(ti: Any, label: str) -> None:
    """Let Airflow send the label of a mapped task together with the task's end.

    Sets ``rendered_map_index`` of the running task instance (Airflow 3.0), to which Airflow's task runner
    compares the label that it renders at the end. Without it, it sends the label in a request of its own.
    """
    try:
        ti.rendered_map_index = label
    except (AttributeError, ValueError):
        warn_once("rendered_map_index of a task instance", "Each label costs a request")


def send_label(ti: Any, label: str) -> None:
    """Show the label of a mapped task that is about to park: Airflow sends labels only when tasks end.

    Uses ``SUPERVISOR_COMMS`` of the task runner and ``SetRenderedMapIndex`` (Airflow 3.0), as the task runner
    does. Without them the label stays as it is.
    """
    try:
        from airflow.sdk.execution_time.comms import SetRenderedMapIndex
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        SUPERVISOR_COMMS.send(SetRenderedMapIndex(rendered_map_index=label))
    except IS_MISSING as error:
        warn_once(
            f"airflow.sdk.execution_time.comms.SetRenderedMapIndex or SUPERVISOR_COMMS ({error})",
            "Labels of parked tasks do not say how many items wait",
        )
        return
    note_label(ti, label)
