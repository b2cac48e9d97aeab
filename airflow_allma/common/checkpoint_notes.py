"""The line about a run's last checkpoint in the note of the run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from airflow_allma.common.printable import printable, shortened

__all__ = ["CHECKPOINT_KEY", "CHECKPOINT_LINE", "checkpoint_in", "checkpoint_line", "note_with"]

CHECKPOINT_KEY: Final = "allma_checkpoint"
"""The XCom with which a task tells the API server which checkpoint its run has passed."""

CHECKPOINT_LINE: Final = re.compile(r"^Checkpoint \d+ of \d+ \(\d+ %\): (.*)$", re.MULTILINE)
_END: Final = re.compile(r"(.*), (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")
_MAX_LABEL: Final = 200
_MAX_NOTE: Final = 1000
"""Characters of ``dag_run_note.content`` and ``task_instance_note.content``."""


def checkpoint_line(reached: Mapping[str, Any]) -> str | None:
    """Return a checkpoint as a line: ``Checkpoint 2 of 3 (67 %): Packed, 2026-03-01 08:30:00 UTC``.

    Args:
        reached: ``$.reachedCheckpoint`` of the run.

    Returns:
        None if it is something else.
    """
    numbers = [reached.get(name) for name in ("ordinal", "total", "percent")]
    label, moment = reached.get("label"), reached.get("reachedAt")
    if not all(isinstance(number, int) for number in numbers):
        return None
    if not isinstance(label, str) or not isinstance(moment, str):
        return None
    try:
        passed = datetime.fromisoformat(moment).astimezone(UTC)
    except ValueError:
        return None
    ordinal, total, percent = numbers
    shown = shortened(printable(label), _MAX_LABEL)
    return f"Checkpoint {ordinal} of {total} ({percent} %): {shown}, {passed:%Y-%m-%d %H:%M:%S} UTC"


def note_with(note: str | None, line: str, pattern: re.Pattern[str] = CHECKPOINT_LINE) -> str:
    """Return a note with this line in the place of the one before, or at the end; the rest is people's.

    A note that has no room for it is returned unchanged.

    Args:
        note: the note.
        line: the line.
        pattern: matches the line before.
    """
    note = note or ""
    if pattern.search(note):
        changed = pattern.sub(lambda _: line, note, count=1)
    else:
        changed = f"{note}\n{line}" if note else line
    return changed if len(changed) <= _MAX_NOTE else note


def checkpoint_in(note: str | None) -> tuple[str, float] | None:
    """Return the last checkpoint in a note: its label, and when it was passed in seconds since the epoch."""
    line = CHECKPOINT_LINE.search(note or "")
    end = _END.fullmatch(line[1]) if line is not None else None
    if end is None:
        return None
    try:
        return end[1], datetime.fromisoformat(f"{end[2]}+00:00").timestamp()
    except ValueError:
        return None
