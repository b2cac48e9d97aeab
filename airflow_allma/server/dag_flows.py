"""The flows of Dags: the API server has no flow files, but the Dag processor's serialized Dags."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy.orm import Session

from airflow_allma.dag_factory.plan import GroupNode, TaskNode, TaskPlan, plan_tasks
from airflow_allma.dag_factory.plan.flow_text import WHOLE_FLOW, flow_in_doc_md
from airflow_allma.engine import FlowProgram, compile_flow
from airflow_allma.flow import Flow, safe_dag_id
from airflow_allma.picture import Picture, draw_flow
from airflow_allma.server.run_database import find_version, serialized_dag
from airflow_allma.server.run_rows import VersionRow

__all__ = ["DagFlow", "DagFlows", "ForkTasks"]

_KEPT: Final = 64
"""Versions of flows that stay in memory."""

_MAX_CHARACTERS: Final = 4 << 20
"""As for flow files."""

_OUR_MODULES: Final = "airflow_allma."


@dataclass(frozen=True, slots=True)
class ForkTasks:
    """The tasks of a fork of the main path.

    Attributes:
        group: the fork's group of tasks.
        nodes: all of its tasks.
    """

    group: GroupNode
    nodes: tuple[TaskNode, ...]

    @property
    def fork(self) -> str:
        """The fork's step id."""
        return self.group.fork

    def task(self, role: str) -> str:
        """Return the full id of one of its own tasks, such as ``items``."""
        return f"{self.group.group_id}.{role}"

    def of_branch(self, branch: int) -> tuple[TaskNode, ...]:
        """Return the tasks of one of its branches."""
        return tuple(node for node in self.nodes if node.branch == branch)


@dataclass(frozen=True)
class DagFlow:
    """The flow of one version of a Dag.

    Attributes:
        flow: the flow, as the tasks of this version run it.
        source: its JSON.
        version: the version of the Dag.
    """

    flow: Flow
    source: str
    version: VersionRow

    @cached_property
    def tasks(self) -> TaskPlan:
        """Its tasks."""
        return plan_tasks(self.flow)

    @cached_property
    def forks(self) -> dict[str, ForkTasks]:
        """Its forks whose items have tasks of their own, by step id."""
        groups = (group for group in self.tasks.groups if group.branch is None)
        return {group.fork: ForkTasks(group, self.tasks.of_fork(group.fork)) for group in groups}

    @cached_property
    def program(self) -> FlowProgram:
        """The compiled flow."""
        return compile_flow(self.flow)

    @cached_property
    def picture(self) -> Picture:
        """Its picture."""
        return draw_flow(self.flow)

    def fork(self, name: str) -> ForkTasks | None:
        """Return a fork by its step id or the id of its group of tasks; None if there is none."""
        by_group = (fork for fork in self.forks.values() if fork.group.group_id == name)
        return self.forks.get(name) or next(by_group, None)


class DagFlows:
    """Finds the flows of Dags; the last ones stay in memory. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[Any, str], DagFlow | None] = OrderedDict()

    def find(self, session: Session, dag_id: str, run_id: str | None = None) -> DagFlow | None:
        """Return the flow of a Dag; None if the Dag is not one of a flow.

        Args:
            session: the database.
            dag_id: the Dag.
            run_id: a run, for the newest version that it has used; None for the newest of all.
        """
        version = find_version(session, dag_id, run_id)
        return None if version is None else self.of_version(session, dag_id, version)

    def of_version(self, session: Session, dag_id: str, version: VersionRow) -> DagFlow | None:
        """Return the flow of one version of a Dag; None as for ``find``."""
        # Airflow replaces the content of a version that no run has used.
        key = (version.version_id, version.dag_hash)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = _read(serialized_dag(session, version), dag_id, version)
        with self._lock:
            self._known[key] = found
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found


def _read(data: Any, dag_id: str, version: VersionRow) -> DagFlow | None:
    for source in _candidates(data):
        if len(source) > _MAX_CHARACTERS:
            continue
        try:
            flow = Flow.model_validate(json.loads(source), by_alias=True, by_name=False)
        except (ValidationError, ValueError, RecursionError):
            continue
        if safe_dag_id(flow.id) == dag_id:
            return DagFlow(flow, source, version)
    return None


def _candidates(data: Any) -> list[str]:
    """Return what can be the JSON of the flow of a serialized Dag, the best first."""
    dag = data.get("dag") if isinstance(data, dict) else None
    if not isinstance(dag, dict):
        return []
    tasks = [task.get("__var") for task in dag.get("tasks", ()) if isinstance(task, dict)]
    ours = [
        task
        for task in tasks
        if isinstance(task, dict) and str(task.get("_task_module", "")).startswith(_OUR_MODULES)
    ]
    if not ours:
        return []
    shown = flow_in_doc_md(str(dag.get("doc_md") or ""))
    found = (*(task.get(WHOLE_FLOW) for task in ours), shown)
    return [source for source in found if isinstance(source, str)]
