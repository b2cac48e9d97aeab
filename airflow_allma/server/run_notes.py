"""Writes what tasks say of their run into notes, as tasks cannot write notes.

A run's note has the last checkpoint that it has passed, and for each fork how many of its items failed; the
note of the fork's last task has the latter, too. What people wrote stays.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from airflow.configuration import conf
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_allma.common.checkpoint_notes import (
    CHECKPOINT_KEY,
    CHECKPOINT_LINE,
    checkpoint_line,
    note_with,
)
from airflow_allma.common.fork_notes import FORK_NOTE_KEY, ForkNote, items_url

__all__ = ["write_run_notes"]

_AT_ONCE: Final = 100
_KEYS: Final = (CHECKPOINT_KEY, FORK_NOTE_KEY)


def write_run_notes(session: Session) -> int:
    """Copy what tasks have pushed into notes, and remove the XComs.

    Args:
        session: committed at the end.

    Returns:
        how many there may still be.
    """
    query = select(XComModel).where(XComModel.key.in_(_KEYS)).order_by(XComModel.timestamp)
    rows = session.scalars(query.limit(_AT_ONCE).with_for_update(of=XComModel, skip_locked=True)).all()
    for row in rows:
        found = _line_of(row)
        if found is not None:
            names: dict[str, Any] = {"dag_id": row.dag_id, "run_id": row.run_id}
            run = session.scalar(select(DagRun).filter_by(**names))
            _write(run, "dag_run_note", found)
            if row.key == FORK_NOTE_KEY:
                names |= {"task_id": row.task_id, "map_index": row.map_index}
                task = session.scalar(select(TaskInstance).filter_by(**names))
                _write(task, "task_instance_note", found)
        session.delete(row)
    session.commit()
    return len(rows) if len(rows) == _AT_ONCE else 0


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a note.

    Attributes:
        text: the line.
        pattern: matches the line before.
        only_replaces: whether it is written only over such a line.
    """

    text: str
    pattern: re.Pattern[str]
    only_replaces: bool = False


def _write(owner: Any, attribute: str, line: _Line) -> None:
    before = getattr(owner, attribute, None)
    if owner is None or (line.only_replaces and not line.pattern.search(getattr(before, "content", ""))):
        return
    if before is None:
        owner.note = note_with(None, line.text, line.pattern)
    else:
        before.content = note_with(before.content, line.text, line.pattern)


def _line_of(row: Any) -> _Line | None:
    """Return the line that an XCom means; None if it means nothing."""
    try:
        saved = json.loads(row.value)
    except (TypeError, ValueError, RecursionError):
        return None
    if row.key == CHECKPOINT_KEY:
        line = checkpoint_line(saved) if isinstance(saved, dict) else None
        return None if line is None else _Line(line, CHECKPOINT_LINE)
    note = ForkNote.read(saved)
    if note is None:
        return None
    base = conf.get("api", "base_url", fallback="") or ""
    url = items_url(base, row.dag_id, row.run_id, note.fork)
    return _Line(note.line(url), note.pattern, only_replaces=not note.failed)
