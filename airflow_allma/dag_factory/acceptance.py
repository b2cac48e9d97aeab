"""The last check of a Dag: whether Airflow and its database accept it as it was built.

Flows are checked when they are loaded, but cluster policies and ``on_dag`` can set anything, a JSON Schema
has many forms, and the description of a cron expression arises only in Airflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.compat import stored_dag
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

    from airflow_allma.flow import Flow

__all__ = ["check_acceptance", "is_plain"]

_MAXIMUM: Final = {limit.field: limit.maximum for limit in FLOW_LIMITS}
_MAX_TASK_NAME_LENGTH: Final = 2000
"""``task_instance.task_display_name``."""

_PLAIN_SCHEDULE_LENGTH: Final = 80
"""Characters of a cron expression. Airflow's description of it has less than ten times as many."""

_Values = Callable[["DAG"], Iterable[Any]]


def _of_tasks(attribute: str) -> _Values:
    def values(dag: DAG) -> Iterator[Any]:
        return (getattr(task, attribute) for task in dag.tasks)

    return values


_LENGTHS: Final[tuple[tuple[str, _Values, int], ...]] = (
    ("dag_display_name", lambda dag: (dag.dag_display_name,), NAME.maximum),
    ("tags", lambda dag: dag.tags, TAG.maximum),
    ("owner", _of_tasks("owner"), _MAXIMUM["airflow.owner"]),
    ("pool", _of_tasks("pool"), _MAXIMUM["airflow.pool"]),
    ("queue", _of_tasks("queue"), _MAXIMUM["airflow.queue"]),
    ("task_display_name", _of_tasks("task_display_name"), _MAX_TASK_NAME_LENGTH),
)
"""What the message calls a value, its values in a Dag, and the maximum length of each."""

_NUMBERS: Final[tuple[tuple[str, _Values], ...]] = (
    ("max_active_runs", lambda dag: (dag.max_active_runs,)),
    ("max_active_tasks", lambda dag: (dag.max_active_tasks,)),
    ("max_consecutive_failed_dag_runs", lambda dag: (dag.max_consecutive_failed_dag_runs,)),
    ("retries", _of_tasks("retries")),
    # The first task counts with the weights of all tasks downstream of it.
    ("the sum of priority_weight", lambda dag: (sum(abs(task.priority_weight) for task in dag.tasks),)),
)
"""What the message calls a number, and its values in a Dag. All are Integer columns."""


def is_plain(flow: Flow) -> bool:
    """Return whether the table of limits covers everything that a checked flow writes into its Dag."""
    options = flow.airflow
    if options.input_schema is not None or options.deadline is not None:
        return False
    if options.asset_schedule is not None or options.watch is not None:
        return False
    return len(options.time_schedule or "") <= _PLAIN_SCHEDULE_LENGTH


def check_acceptance(dag: DAG, *, serialize: bool) -> None:
    """Check what Airflow and its database would refuse only later, which ends the Dag processor.

    Args:
        dag: the Dag, as cluster policies leave it.
        serialize: whether to check the serialized Dag too, since the Dag may contain anything, see
            ``is_plain``. That takes longer than building it, and the Dag processor does it once more.

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
    if not serialize:
        return
    stored = stored_dag(dag)
    if stored is None:
        return
    if len(stored.schedule) > MAX_TIMETABLE_LENGTH:
        raise FlowError(
            f"Airflow describes this schedule with {len(stored.schedule)} characters, and can store "
            f"{MAX_TIMETABLE_LENGTH}; write shorter lists, or ranges such as 1-5."
        )
    found = unstorable(stored.data)
    if found is not None:
        path, reason = found
        raise FlowError(f"{json_path(path)} of the serialized Dag {reason}.")
