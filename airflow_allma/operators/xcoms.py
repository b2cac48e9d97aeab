"""The internal XComs: what the tasks of a flow exchange besides their return values.

Internal data is pushed as JSON STRINGS under keys of its own: Airflow's transport and databases refuse or
change some values, and a flow's data can contain anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from logging import Logger
from typing import Any, Final

from airflow_allma.common.checkpoint_notes import CHECKPOINT_KEY
from airflow_allma.common.fork_notes import FORK_NOTE_KEY
from airflow_allma.compat import NOT_MAPPED, count_xcoms
from airflow_allma.operators.transport import from_json, json_bytes

__all__ = [
    "Key",
    "may_have",
    "pull",
    "pull_all",
    "pull_all_returned",
    "pull_raw",
    "pull_returned",
    "push",
    "push_or_warn",
]

_RETURN_VALUE: Final = "return_value"


class Key(StrEnum):
    """The keys of the internal XComs."""

    STATE = "allma_state"
    """The run's state as the task leaves it, and the trace of its steps; ``nextStep`` decides which task
    continues."""
    PLAN = "allma_plan"
    """How a fork runs: mode, counts, chunks."""
    RESULT = "allma_result"
    """The result of one branch run."""
    RESULTS = "allma_results"
    """How many items a chunk had, how many of them failed, the index of its first item among all items (null
    if its lines are not counted), and the results of its branch runs, unless they are stored."""
    SUSPENDED = "allma_suspended"
    """The run of a task that waits, for the same task when it continues."""
    CHECKPOINT = CHECKPOINT_KEY
    """The last checkpoint that the run has passed, until the API server has written it into its note."""
    FORK_NOTE = FORK_NOTE_KEY
    """How many items of a fork failed, until the API server has written it into the notes."""
    RERUN = "allma_rerun"
    """The items of a fork that are to run again, written over Airflow's API for the ``chunks`` task."""
    TRACE = "allma_trace"
    """The steps that a task without a state has run, for pages: ``{"steps": [...]}`` in the form of
    ``engine.traces``. It has failed, or runs for an item."""
    TOKENS = "allma_tokens"
    """What the model calls of the task took, by model: see ``engine.llm.TokenTotals``."""
    FORK_TOKENS = "allma_fork_tokens"
    """What all model calls of a fork's items took, likewise; pushed by the task that joins the results."""
    ERROR = "allma_error"
    """The four fields of the error with which a step failed."""


def push(ti: Any, key: Key, value: Any) -> None:
    """Store a JSON value under a key of this task instance."""
    ti.xcom_push(key=key.value, value=json_bytes(value).decode())


def push_or_warn(ti: Any, key: Key, value: Any, log: Logger, message: str, *arguments: Any) -> None:
    """Store what only people read: a failure is a warning, and fails no task.

    Args:
        ti: this task instance.
        key: the key.
        value: a JSON value.
        log: receives the warning.
        message: what is missing then; a format whose last placeholder is the error.
        arguments: the values of its other placeholders.
    """
    try:
        push(ti, key, value)
    except Exception as error:  # noqa: BLE001 - whatever Airflow raises
        log.warning(message, *arguments, error)


def pull(ti: Any, task_id: str, key: Key, map_index: int = NOT_MAPPED) -> Any:
    """Return what one task instance pushed; None when it pushed nothing."""
    encoded = ti.xcom_pull(task_ids=task_id, key=key.value, map_indexes=map_index)
    return None if encoded is None else from_json(encoded)


def pull_raw(ti: Any, task_id: str, key: Key) -> Any:
    """Return what a task that is not mapped has under a key, as it is; None if it has nothing.

    Airflow logs an error if a single value is asked for and does not exist, but not so for a list.
    """
    values = ti.xcom_pull(task_ids=[task_id], key=key.value) or ()
    return next((value for value in values if value is not None), None)


def pull_all(ti: Any, task_id: str, key: Key) -> Iterator[Any]:
    """Yield what all map indexes of a task pushed, in the order of map indexes, with one call.

    Indexes that pushed nothing are omitted, so each value must contain its own index.
    """
    for encoded in ti.xcom_pull(task_ids=[task_id], key=key.value) or ():
        if encoded is not None:
            yield from_json(encoded)


def may_have(ti: Any, task_id: str, key: Key) -> bool:
    """Return whether any map index of a task has pushed something, with one call; True if that is unknown.

    Asking for one that does not exist makes Airflow log an error.
    """
    return count_xcoms(ti, task_id, key.value) != 0


def pull_returned(ti: Any, task_id: str, map_index: int) -> Any:
    """Return what one task instance returned; None when it returned nothing."""
    return ti.xcom_pull(task_ids=task_id, key=_RETURN_VALUE, map_indexes=map_index)


def pull_all_returned(ti: Any, task_id: str) -> list[Any]:
    """Return what all map indexes of a task returned, in the order of map indexes, with one call.

    Indexes that returned nothing are omitted.
    """
    values = ti.xcom_pull(task_ids=[task_id], key=_RETURN_VALUE) or ()
    return [value for value in values if value is not None]
