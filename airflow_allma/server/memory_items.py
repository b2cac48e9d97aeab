"""The items of a fork in memory, in the forms in which those in chunks are shown."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow_allma.server.memory_runs import BranchRun, MemoryFork
from airflow_allma.server.run_view import epoch

__all__ = ["item_status", "memory_counts"]

_WORST = ("failed", "running", "waiting", "none", "ok", "skipped")


def item_status(runs: Sequence[BranchRun]) -> str:
    """Return the status of an item: that of the branch run which needs attention most."""
    statuses = {run.status for run in runs}
    return next((status for status in _WORST if status in statuses), "none")


def memory_counts(fork: MemoryFork, *, is_running: bool) -> dict[str, Any]:
    """Return the counts and times of a fork."""
    statuses = [item_status(fork.of_item(index)) for index in range(fork.count)]
    counts = Counter(statuses)
    tasks = [task for run in fork.runs for task in run.tasks]
    start = min((task.start for task in tasks if task.start is not None), default=None)
    ended = counts["failed"] + counts["ok"] + counts["skipped"]
    is_running = is_running and ended < fork.count
    ends = [task.end for task in tasks if task.end is not None]
    end = None if is_running else max(ends, default=None)
    speed = _speed(start, end, ended)
    return {
        "items": fork.count,
        "isExact": True,
        "ended": ended,
        "succeeded": counts["ok"],
        "failed": counts["failed"],
        "skipped": counts["skipped"],
        "running": counts["running"],
        "waiting": counts["waiting"],
        "perSecond": speed,
        "secondsLeft": (fork.count - ended) / speed if is_running and speed else None,
        "start": epoch(start),
        "end": epoch(end),
        "isRunning": is_running,
    }


def _speed(start: datetime | None, end: datetime | None, ended: int) -> float | None:
    if start is None or not ended:
        return None
    seconds = (time.time() if end is None else end.timestamp()) - start.timestamp()
    return ended / seconds if seconds > 0 else None
