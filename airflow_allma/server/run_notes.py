"""Writes the last checkpoint that a run has passed into its note: tasks cannot write notes."""

from __future__ import annotations

import json
from typing import Any, Final

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_allma.common.checkpoint_notes import CHECKPOINT_KEY, checkpoint_line, note_with

__all__ = ["write_checkpoint_notes"]

_AT_ONCE: Final = 100


def write_checkpoint_notes(session: Session) -> int:
    """Copy the checkpoints that tasks have pushed into the notes of their runs, and remove the XComs.

    Args:
        session: committed at the end.

    Returns:
        how many there may still be.
    """
    query = select(XComModel).where(XComModel.key == CHECKPOINT_KEY).order_by(XComModel.timestamp)
    rows = session.scalars(query.limit(_AT_ONCE).with_for_update(of=XComModel, skip_locked=True)).all()
    for row in rows:
        line = _line_of(row.value)
        run = session.scalar(select(DagRun).filter_by(dag_id=row.dag_id, run_id=row.run_id))
        if line is not None and run is not None:
            _write(run, line)
        session.delete(row)
    session.commit()
    return len(rows) if len(rows) == _AT_ONCE else 0


def _write(run: Any, line: str) -> None:
    if run.dag_run_note is None:
        run.note = note_with(None, line)
    else:
        run.dag_run_note.content = note_with(run.note, line)


def _line_of(value: Any) -> str | None:
    try:
        reached = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return None
    return checkpoint_line(reached) if isinstance(reached, dict) else None
