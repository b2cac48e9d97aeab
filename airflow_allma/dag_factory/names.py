"""Ids that Airflow can take, made from ids that a flow's author chose."""

from __future__ import annotations

from airflow_allma.flow import safe_id

__all__ = ["NameTable", "safe_dag_id", "safe_name"]

_LONGEST_DAG_ID = 200
_LONGEST_NAME = 70
"""Airflow takes 250 characters for a full task id, which joins fork, branch and step."""


def safe_dag_id(flow_id: str) -> str:
    """The Dag's id: the flow's own where Airflow can take it."""
    return safe_id(flow_id, _LONGEST_DAG_ID)


def safe_name(step_id: str) -> str:
    """A task's or group's own part of its full id; without dots, which join them."""
    return safe_id(step_id, _LONGEST_NAME)


class NameTable:
    """Gives out names that are unique in one place; the second ``a`` becomes ``a__2``."""

    def __init__(self, reserved: tuple[str, ...] = ()) -> None:
        self._taken: set[str] = set(reserved)

    def take(self, wished: str) -> str:
        """A name like ``wished`` that was not given out before."""
        name = base = safe_name(wished)
        number = 2
        while name in self._taken:
            name = f"{base}__{number}"
            number += 1
        self._taken.add(name)
        return name
