"""Rows of Airflow's database that the pages use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["DagRow", "ImportErrorRow", "RunRow", "TaskCounts", "TaskRow", "VersionRow", "XComRow"]


@dataclass(frozen=True, slots=True)
class DagRow:
    """A Dag.

    Attributes:
        dag_id: its id.
        name: what the UI calls it.
        description: what the UI says about it.
        is_paused: whether it is paused.
        is_stale: whether no file defines it any more.
        file: the file that defines it, relative to its bundle.
        bundle: the bundle.
        timetable: its schedule, as Airflow shows it; None if it has none.
        timetable_description: the schedule in words.
    """

    dag_id: str
    name: str
    description: str | None
    is_paused: bool
    is_stale: bool
    file: str | None
    bundle: str | None
    timetable: str | None
    timetable_description: str | None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run of a Dag; times are None until it has them.

    Attributes:
        run_id: its id.
        state: Airflow's state.
        start: when it began.
        end: when it ended.
        run_after: when it was due.
    """

    run_id: str
    state: str
    start: datetime | None
    end: datetime | None
    run_after: datetime

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.state in {"queued", "running"}


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of a Dag.

    Attributes:
        version_id: its id.
        number: its number, from 1.
        created_at: when the Dag processor first saw it.
        dag_hash: identifies its content; Airflow replaces that of a version that no run has used.
    """

    version_id: Any
    number: int
    created_at: datetime
    dag_hash: str


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """The instances of one task in one state.

    Attributes:
        task_id: the task.
        state: Airflow's state; "none" if they have none.
        count: how many there are.
        start: when the first of them began.
        end: when the last of them ended.
        tries: the highest number of tries.
    """

    task_id: str
    state: str
    count: int
    start: datetime | None
    end: datetime | None
    tries: int


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task instance.

    Attributes:
        task_id: the task.
        map_index: its map index; -1 if it is not mapped.
        state: Airflow's state; "none" if it has none.
        label: its label in the UI; None without one.
        tries: how often it was tried.
        start: when the last try began.
        end: when it ended.
        seconds: how long it took.
    """

    task_id: str
    map_index: int
    state: str
    label: str | None
    tries: int
    start: datetime | None
    end: datetime | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class XComRow:
    """An XCom: what a task instance pushed under a key, as the database has it."""

    task_id: str
    map_index: int
    key: str
    value: Any

    def json(self) -> Any:
        """Return what our tasks pushed as JSON; None if this is something else.

        A backend that stores XComs elsewhere leaves a reference here.
        """
        try:
            return json.loads(self.value)
        except (TypeError, ValueError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class ImportErrorRow:
    """An import error.

    Attributes:
        text: its traceback.
        dag_ids: the Dags that the same file has, or had.
    """

    text: str
    dag_ids: tuple[str, ...]
