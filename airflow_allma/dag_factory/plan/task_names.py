"""Names of tasks and groups, made from the ids that a flow's author chose."""

from __future__ import annotations

from typing import Final

from airflow_allma.flow import safe_id

__all__ = ["NameTable"]

_MAX_LENGTH: Final = 70
"""Airflow accepts 250 characters for a full task id, which joins fork, branch and step."""


class NameTable:
    """Assigns names that are unique in one group; the second ``a`` becomes ``a__2``.

    A name has no dots, which join the names of groups and tasks to a full id.

    Args:
        reserved: names that are not assigned.
    """

    def __init__(self, reserved: tuple[str, ...] = ()) -> None:
        self._taken: set[str] = set(reserved)

    def take(self, wanted: str) -> str:
        """Return a name like ``wanted`` that was not assigned before."""
        name = base = safe_id(wanted, _MAX_LENGTH)
        number = 2
        while name in self._taken:
            name = f"{base}__{number}"
            number += 1
        self._taken.add(name)
        return name
