"""All that the pages read from Airflow's database: columns, never entities.

Airflow does not declare its models stable for plugins. A contract test checks the columns named here, for
each version of Airflow that is supported.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from airflow.models.dag import DagModel, DagTag
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun, DagRunNote
from airflow.models.errors import ParseImportError
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from airflow_allma.common.batching import batched
from airflow_allma.server.run_rows import (
    DagRow,
    ImportErrorRow,
    RunRow,
    TaskCounts,
    TaskRow,
    VersionRow,
    XComRow,
)

__all__ = [
    "count_tasks",
    "dag_tags",
    "dag_versions",
    "find_dag",
    "find_import_errors",
    "find_note",
    "find_run",
    "find_tasks",
    "find_version",
    "find_xcoms",
    "first_tasks",
    "last_runs",
    "list_dags",
    "serialized_dag",
]

_MAX_IN: Final = 500


def _columns(*columns: Any) -> Any:
    # Airflow's models are only partly typed.
    return select(*columns)


# `DagRun.state` and two labels are properties of the entities; these are their columns.
_RUN_STATE: Final = DagRun.__table__.c.state
_LABEL: Final = TaskInstance.__table__.c.rendered_map_index
_DAG: Final = (
    DagModel.dag_id,
    DagModel.dag_display_name,
    DagModel.description,
    DagModel.is_paused,
    DagModel.is_stale,
    DagModel.relative_fileloc,
    DagModel.bundle_name,
    DagModel.timetable_summary,
    DagModel.timetable_description,
)
_BAD: Final = ("failed", "upstream_failed")
_VERSION: Final = (
    DagVersion.id,
    DagVersion.version_number,
    DagVersion.created_at,
    SerializedDagModel.dag_hash,
)


def _task_columns() -> tuple[Any, ...]:
    return (
        TaskInstance.task_id,
        TaskInstance.map_index,
        func.coalesce(TaskInstance.state, "none").label("state"),
        _LABEL.label("label"),
        TaskInstance.try_number,
        TaskInstance.start_date,
        TaskInstance.end_date,
        TaskInstance.duration,
    )


def find_dag(session: Session, dag_id: str) -> DagRow | None:
    """Return a Dag; None if there is none with this id."""
    row = session.execute(_columns(*_DAG).where(DagModel.dag_id == dag_id)).one_or_none()
    return None if row is None else DagRow(*row)


def list_dags(session: Session, tag: str, dag_ids: Iterable[str]) -> list[DagRow]:
    """Return the Dags with a tag among those with some ids, by id; also those that no file defines now."""
    tagged = _columns(DagTag.dag_id).where(DagTag.name == tag)
    known = set(session.scalars(tagged)) & set(dag_ids)
    found: list[DagRow] = []
    for batch in batched(sorted(known), _MAX_IN):
        query = _columns(*_DAG).where(DagModel.dag_id.in_(batch))
        found += (DagRow(*row) for row in session.execute(query))
    return sorted(found, key=lambda dag: dag.dag_id)


def dag_tags(session: Session, dag_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the tags of some Dags, by Dag id."""
    found: dict[str, list[str]] = {}
    for batch in batched(dag_ids, _MAX_IN):
        query = _columns(DagTag.dag_id, DagTag.name).where(DagTag.dag_id.in_(batch)).order_by(DagTag.name)
        for dag_id, name in session.execute(query):
            found.setdefault(dag_id, []).append(name)
    return found


def find_import_errors(session: Session, text: str, limit: int) -> list[ImportErrorRow]:
    """Return the import errors that contain a text, each with the Dags of its file."""
    query = _columns(ParseImportError.filename, ParseImportError.bundle_name, ParseImportError.stacktrace)
    rows = session.execute(
        query.where(ParseImportError.stacktrace.contains(text, autoescape=True))
        .order_by(ParseImportError.id)
        .limit(limit)
    ).all()
    found = []
    for file, bundle, stacktrace in rows:
        dags = _columns(DagModel.dag_id).where(
            DagModel.relative_fileloc == file, DagModel.bundle_name == bundle
        )
        found.append(ImportErrorRow(stacktrace or "", tuple(session.scalars(dags))))
    return found


def find_run(session: Session, dag_id: str, run_id: str) -> RunRow | None:
    """Return a run; None if there is none with this id."""
    query = _columns(DagRun.run_id, _RUN_STATE, DagRun.start_date, DagRun.end_date, DagRun.run_after)
    row = session.execute(query.where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).one_or_none()
    return None if row is None else RunRow(*row)


def find_note(session: Session, dag_id: str, run_id: str) -> str | None:
    """Return the note of a run; None without one."""
    query = _columns(DagRunNote.content).join(DagRun, DagRun.id == DagRunNote.dag_run_id)
    note: str | None = session.scalar(query.where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    return note


def last_runs(session: Session, dag_ids: Sequence[str], count: int) -> dict[str, list[RunRow]]:
    """Return the last runs of some Dags, by Dag id, the newest first."""
    rank = func.row_number().over(partition_by=DagRun.dag_id, order_by=DagRun.run_after.desc())
    found: dict[str, list[RunRow]] = {}
    for batch in batched(dag_ids, _MAX_IN):
        ranked = (
            _columns(
                DagRun.dag_id,
                DagRun.run_id,
                _RUN_STATE.label("state"),
                DagRun.start_date,
                DagRun.end_date,
                DagRun.run_after,
                rank.label("rank"),
            )
            .where(DagRun.dag_id.in_(batch))
            .subquery()
        )
        query = _columns(ranked).where(ranked.c.rank <= count).order_by(ranked.c.dag_id, ranked.c.rank)
        for dag_id, *run, _ in session.execute(query):
            found.setdefault(dag_id, []).append(RunRow(*run))
    return found


def find_version(session: Session, dag_id: str, run_id: str | None = None) -> VersionRow | None:
    """Return the newest version that a run has used; that of the Dag without a run, or if it used none."""
    query = _versions(dag_id).limit(1)
    if run_id is not None:
        used = _columns(TaskInstance.dag_version_id).where(
            TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id
        )
        created = _columns(DagRun.created_dag_version_id).where(
            DagRun.dag_id == dag_id, DagRun.run_id == run_id
        )
        for ids in (used, created):
            row = session.execute(query.where(DagVersion.id.in_(ids))).one_or_none()
            if row is not None:
                return VersionRow(*row)
    row = session.execute(query).one_or_none()
    return None if row is None else VersionRow(*row)


def dag_versions(session: Session, dag_id: str, limit: int) -> list[VersionRow]:
    """Return the versions of a Dag, the newest first."""
    return [VersionRow(*row) for row in session.execute(_versions(dag_id).limit(limit))]


def _versions(dag_id: str) -> Any:
    joined = _columns(*_VERSION).join(SerializedDagModel, SerializedDagModel.dag_version_id == DagVersion.id)
    return joined.where(DagVersion.dag_id == dag_id).order_by(DagVersion.version_number.desc())


def serialized_dag(session: Session, version: VersionRow) -> dict[str, Any] | None:
    """Return a version of a Dag as the Dag processor serialized it; None if it was removed since."""
    table = SerializedDagModel.__table__.c
    query = _columns(table.data, table.data_compressed).where(table.dag_version_id == version.version_id)
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    data = row.data if row.data is not None else json.loads(zlib.decompress(row.data_compressed))
    return data if isinstance(data, dict) else None


def count_tasks(session: Session, dag_id: str, run_id: str) -> list[TaskCounts]:
    """Return the task instances of a run, counted by task and state."""
    query = (
        _columns(
            TaskInstance.task_id,
            func.coalesce(TaskInstance.state, "none"),
            func.count(),
            func.min(TaskInstance.start_date),
            func.max(TaskInstance.end_date),
            func.max(TaskInstance.try_number),
        )
        .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        .group_by(TaskInstance.task_id, TaskInstance.state)
    )
    return [TaskCounts(*row) for row in session.execute(query)]


def first_tasks(session: Session, dag_id: str, run_id: str, count: int) -> dict[str, list[TaskRow]]:
    """Return the first instances of each task of a run, by task id: failed ones first, then by map index."""
    rank = func.row_number().over(
        partition_by=TaskInstance.task_id,
        order_by=(case((TaskInstance.state.in_(_BAD), 0), else_=1), TaskInstance.map_index),
    )
    of_run = (TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
    ranked = _columns(*_task_columns(), rank.label("rank")).where(*of_run).subquery()
    query = _columns(ranked).where(ranked.c.rank <= count).order_by(ranked.c.task_id, ranked.c.rank)
    found: dict[str, list[TaskRow]] = {}
    for *task, _ in session.execute(query):
        row = TaskRow(*task)
        found.setdefault(row.task_id, []).append(row)
    return found


def find_tasks(
    session: Session,
    dag_id: str,
    run_id: str,
    task_ids: Iterable[str],
    *,
    map_indexes: Sequence[int] | None = None,
    limit: int | None = None,
) -> list[TaskRow]:
    """Return instances of some tasks, by task id and map index."""
    query = (
        _columns(*_task_columns())
        .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        .order_by(TaskInstance.task_id, TaskInstance.map_index)
    )
    if map_indexes is not None:
        query = query.where(TaskInstance.map_index.in_(map_indexes))
    found = [
        TaskRow(*row)
        for batch in batched(task_ids, _MAX_IN)
        for row in session.execute(query.where(TaskInstance.task_id.in_(batch)).limit(limit))
    ]
    return sorted(found, key=lambda task: (task.task_id, task.map_index))


def find_xcoms(
    session: Session,
    dag_id: str,
    run_id: str,
    task_ids: Iterable[str],
    keys: Sequence[str],
    *,
    map_indexes: Sequence[int] | None = None,
) -> Iterator[XComRow]:
    """Yield the XComs of some tasks, in no order."""
    query = _columns(XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value).where(
        XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key.in_(keys)
    )
    if map_indexes is not None:
        query = query.where(XComModel.map_index.in_(map_indexes))
    for batch in batched(task_ids, _MAX_IN):
        for row in session.execute(query.where(XComModel.task_id.in_(batch))):
            yield XComRow(*row)
