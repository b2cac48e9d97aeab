"""Ids that Airflow can take, made from ids that a flow's author chose."""

from __future__ import annotations

import hashlib
import re

__all__ = ["NameTable", "safe_dag_id", "safe_name"]

_MOST_CHARACTERS_OF_DAG_ID = 200
_MOST_CHARACTERS_OF_NAME = 70
"""Airflow takes 250 characters for a full id, and a full id joins fork, branch and step."""

_DAG_ID_FORBIDS = re.compile(r"[^\w.-]", re.ASCII)
_NAME_FORBIDS = re.compile(r"[^\w-]", re.ASCII)


def safe_dag_id(flow_id: str) -> str:
    """The Dag's id: ``flow_id`` with what Airflow cannot take replaced by ``_``.

    An id that had to be changed gets a short hash of the original, so that two flows never share a Dag.
    """
    cleaned = _DAG_ID_FORBIDS.sub("_", flow_id)
    if cleaned == flow_id and len(cleaned) <= _MOST_CHARACTERS_OF_DAG_ID:
        return flow_id
    return f"{cleaned[:_MOST_CHARACTERS_OF_DAG_ID]}-{_digest(flow_id)}"


def safe_name(step_id: str) -> str:
    """A task or group id without dots, which Airflow uses to join groups and tasks."""
    cleaned = _NAME_FORBIDS.sub("_", step_id) or "_"
    if len(cleaned) <= _MOST_CHARACTERS_OF_NAME:
        return cleaned
    return f"{cleaned[:_MOST_CHARACTERS_OF_NAME]}-{_digest(step_id)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
