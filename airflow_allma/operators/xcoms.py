"""The internal XComs: what the tasks of a flow exchange besides their return values.

Internal data is pushed as JSON STRINGS under keys of its own: Airflow's serializer interprets some dict
keys and limits numbers, and a flow's data can contain anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec

from airflow_allma.compat import NOT_MAPPED

__all__ = ["Key", "pull", "pull_all", "push", "xcom_safe"]

_RESERVED: Final = frozenset({"__classname__", "__version__", "__data__", "__type", "__var", "__id__"})
"""Keys that Airflow's serializer interprets."""


class Key(StrEnum):
    """The keys of the internal XComs."""

    STATE = "allma_state"
    """The run's state as the task leaves it; ``nextStep`` decides which task continues."""
    PLAN = "allma_plan"
    """How a fork runs: mode, counts, chunks."""
    RESULT = "allma_result"
    """The result of one branch run."""
    RESULTS = "allma_results"
    """The results of a chunk's branch runs, or their count if they are stored."""
    ERROR = "allma_error"
    """The four fields of the error with which a step failed."""


def push(ti: Any, key: Key, value: Any) -> None:
    """Store a JSON value under a key of this task instance."""
    ti.xcom_push(key=key.value, value=msgspec.json.encode(value).decode())


def pull(ti: Any, task_id: str, key: Key, map_index: int = NOT_MAPPED) -> Any:
    """Return what one task instance pushed; None when it pushed nothing."""
    encoded = ti.xcom_pull(task_ids=task_id, key=key.value, map_indexes=map_index)
    return None if encoded is None else msgspec.json.decode(encoded)


def pull_all(ti: Any, task_id: str, key: Key) -> Iterator[Any]:
    """Yield what all map indexes of a task pushed, in the order of map indexes, with one call.

    Indexes that pushed nothing are omitted, so each value must contain its own index.
    """
    for encoded in ti.xcom_pull(task_ids=[task_id], key=key.value) or ():
        if encoded is not None:
            yield msgspec.json.decode(encoded)


def xcom_safe(value: Any) -> Any:
    """Return a flow's value as a return value: itself, or as a JSON string where Airflow would misread it."""
    return msgspec.json.encode(value).decode() if _is_misread(value) else value


def _is_misread(value: Any) -> bool:
    waiting: list[Any] = [value]
    while waiting:
        member = waiting.pop()
        if isinstance(member, dict):
            if not _RESERVED.isdisjoint(member):
                return True
            waiting.extend(member.values())
        elif isinstance(member, list):
            waiting.extend(member)
    return False
