"""What travels between the tasks of a flow beside their return values.

Machinery goes as JSON TEXT under keys of its own: Airflow's serializer gives meaning to some dict keys and
limits numbers, and a flow's data may hold anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec

__all__ = ["NOT_MAPPED", "Key", "pull", "pull_all", "push", "shown"]

NOT_MAPPED: Final = -1
"""Airflow's map index of a task that is not mapped."""

_RESERVED: Final = frozenset({"__classname__", "__version__", "__data__", "__type", "__var", "__id__"})
"""Keys that Airflow's serializer reads as its own."""


class Key(StrEnum):
    """The keys of the machinery's XComs."""

    STATE = "allma_state"
    """Where the run stands as the task leaves it; ``nextStep`` says which task takes it from there."""
    PLAN = "allma_plan"
    """How a fork runs: mode, counts, where its items are."""
    RESULT = "allma_result"
    """What one branch run came to."""
    RESULTS = "allma_results"
    """What the branch runs of a chunk came to, or where that is written."""
    ERROR = "allma_error"
    """The four fields of the error with which a step failed."""


def push(ti: Any, key: Key, value: Any) -> None:
    """Store a JSON value under a key of this task instance."""
    ti.xcom_push(key=key.value, value=msgspec.json.encode(value).decode())


def pull(ti: Any, task_id: str, key: Key, map_index: int = NOT_MAPPED) -> Any:
    """What one task instance pushed; None when it pushed nothing."""
    text = ti.xcom_pull(task_ids=task_id, key=key.value, map_indexes=map_index)
    return None if text is None else msgspec.json.decode(text)


def pull_all(ti: Any, task_id: str, key: Key) -> Iterator[Any]:
    """What all map indexes of a task pushed, in one call, in the order of map indexes.

    Indexes that pushed nothing leave no gap: each value must say whose it is.
    """
    for text in ti.xcom_pull(task_ids=[task_id], key=key.value) or ():
        if text is not None:
            yield msgspec.json.decode(text)


def shown(value: Any) -> Any:
    """A flow's value as a return value: itself, or its JSON text where Airflow would misread it."""
    return msgspec.json.encode(value).decode() if _is_misread(value) else value


def _is_misread(value: Any) -> bool:
    waiting: list[Any] = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if not _RESERVED.isdisjoint(found):
                return True
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return False
