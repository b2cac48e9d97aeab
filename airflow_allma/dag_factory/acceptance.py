"""The last check of a Dag: whether Airflow and its database accept it as it was built.

Flows are checked when they are loaded, but cluster policies and ``on_dag`` can set anything, and some values
arise only in Airflow, such as the description of a cron expression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.compat import serialized_dag
from airflow_allma.exceptions import FlowError
from airflow_allma.flow.airflow_limits import (
    FLOW_LIMITS,
    INT_MAX,
    MAX_TIMETABLE_LENGTH,
    NAME,
    TAG,
    unstorable,
)
from airflow_allma.flow.diagnostics import json_path

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["check_acceptance"]

_MOST: Final = {limit.field: limit.most for limit in FLOW_LIMITS}
_MAX_TASK_NAME_LENGTH: Final = 2000
"""``task_instance.task_display_name``."""

_Values = Callable[["DAG"], Iterable[Any]]


def _of_tasks(attribute: str) -> _Values:
    def values(dag: DAG) -> Iterator[Any]:
        return (getattr(task, attribute) for task in dag.tasks)

    return values


def _description(dag: DAG) -> Iterator[Any]:
    yield getattr(dag.timetable, "description", "")


_LENGTHS: Final[tuple[tuple[str, _Values, int], ...]] = (
    ("dag_display_name", lambda dag: (dag.dag_display_name,), NAME.most),
    ("tags", lambda dag: dag.tags, TAG.most),
    ("the description of its schedule", _description, MAX_TIMETABLE_LENGTH),
    ("owner", _of_tasks("owner"), _MOST["airflow.owner"]),
    ("pool", _of_tasks("pool"), _MOST["airflow.pool"]),
    ("queue", _of_tasks("queue"), _MOST["airflow.queue"]),
    ("task_display_name", _of_tasks("task_display_name"), _MAX_TASK_NAME_LENGTH),
)
"""What the message calls a value, its values in a Dag, and the most characters of each."""

_NUMBERS: Final[tuple[tuple[str, _Values], ...]] = (
    ("max_active_runs", lambda dag: (dag.max_active_runs,)),
    ("max_active_tasks", lambda dag: (dag.max_active_tasks,)),
    ("max_consecutive_failed_dag_runs", lambda dag: (dag.max_consecutive_failed_dag_runs,)),
    ("retries", _of_tasks("retries")),
    # The first task counts with the weights of all tasks downstream of it.
    ("the sum of priority_weight", lambda dag: (sum(abs(task.priority_weight) for task in dag.tasks),)),
)
"""What the message calls a number, and its values in a Dag. All are Integer columns."""


def check_acceptance(dag: DAG, *, is_free: bool) -> None:
    """Check what Airflow and its database refuse when it is too late: it ends the Dag processor.

    Args:
        dag: the Dag, as cluster policies leave it.
        is_free: whether it contains anything but what the plan of a checked flow contains. Only then is it
            serialized, which takes longer than to build it; the Dag processor does it once more.

    Raises:
        FlowError: a value is too long or too high, or cannot be stored.
        Exception: whatever Airflow raises for a Dag that it cannot serialize.
    """
    for name, values, most in _LENGTHS:
        longest = max((len(value) for value in values(dag) if value), default=0)
        if longest > most:
            raise FlowError(f"{name} can have at most {most} characters; this one has {longest}.")
    for name, values in _NUMBERS:
        for value in values(dag):
            if value is not None and not -INT_MAX <= value <= INT_MAX:
                raise FlowError(f"{name} must be {INT_MAX} or less; {str(value)[:40]} is not.")
    if not is_free:
        return
    found = unstorable(serialized_dag(dag))
    if found is not None:
        path, reason = found
        raise FlowError(f"{json_path(path)} of the serialized Dag {reason}.")
