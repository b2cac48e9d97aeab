"""The waker: a thread in each API server that does what no request does.

Everything that it needs to know is in the database, so that it goes on where it, or that of another API
server, was stopped. Several wakers at once are safe: they lock what they change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_allma.common.wait_keys import WAKE_KEY
from airflow_allma.server.completion_starts import start_missing_completion_runs
from airflow_allma.server.conflicts import refuse_second_waits
from airflow_allma.server.early_events import deliver_early_events
from airflow_allma.server.hand_overs import deliver_hand_overs
from airflow_allma.server.open_waits import TaskKey, lock_task
from airflow_allma.server.queued_events import queue_late_events
from airflow_allma.server.run_notes import write_run_notes
from airflow_allma.server.waking import Schedulers, task_key, wake_parked

__all__ = ["DUTIES", "Duty", "Waker", "wake_requested"]

_LOG: Final = logging.getLogger("airflow_allma.server")

_BUSY_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 3.0
_AFTER_ERROR_SECONDS: Final = 15.0
_OVERLAP: Final = timedelta(minutes=2)
"""How far a look at newly parked tasks reaches back beyond the last one: commits come late, clocks differ."""
_STOP_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Round:
    """What duties know of the waker's earlier rounds."""

    parked_since: datetime | None = None


Duty = Callable[[Session, _Round], int]
"""One thing that the waker does in each round; it commits, and returns how much is still to do soon."""


def wake_requested(session: Session) -> int:
    """Wake the tasks that must be woken, as far as that is safe now.

    Returns:
        how many still wait to be woken.
    """
    columns = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
    tasks = [TaskKey(*row) for row in session.execute(select(*columns).where(XComModel.key == WAKE_KEY))]
    session.commit()
    if not tasks:
        return 0
    schedulers = Schedulers.read(session, datetime.now(UTC))
    return sum(not _wake(session, task, schedulers) for task in tasks)


def _wake(session: Session, key: TaskKey, schedulers: Schedulers) -> bool:
    """Return whether nothing is left to do for this task."""
    task = lock_task(session, key, skip_locked=True)
    done = task is None or wake_parked(session, task, schedulers) or _drop_if_ended(session, task)
    session.commit()
    return done


def _drop_if_ended(session: Session, task: TaskInstance) -> bool:
    if task.state not in State.finished:
        return False
    row = session.scalar(select(XComModel).where(task_key(task).where(XComModel), XComModel.key == WAKE_KEY))
    if row is not None:
        session.delete(row)
    return True


def _refuse_conflicts(session: Session, this: _Round) -> int:
    begun = datetime.now(UTC)
    refused = refuse_second_waits(session, this.parked_since)
    this.parked_since = begun - _OVERLAP
    return refused


DUTIES: tuple[tuple[str, Duty], ...] = (
    ("deliver events of ended runs", lambda session, _: deliver_hand_overs(session)),
    ("deliver events that came early", lambda session, _: deliver_early_events(session)),
    ("refuse second waits for a key", _refuse_conflicts),
    ("queue runs for asset events", lambda session, _: queue_late_events(session)),
    ("wake tasks", lambda session, _: wake_requested(session)),
    ("write checkpoints into notes", lambda session, _: write_run_notes(session)),
    ("start completion actions", lambda session, _: start_missing_completion_runs(session)),
)
"""What a round of the waker does, in this order."""


@dataclass(slots=True)
class Waker:
    """A thread that repeats the duties until it is stopped.

    Args:
        duties: what to do, with names for the log.
    """

    duties: tuple[tuple[str, Duty], ...] = DUTIES
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _round: _Round = field(default_factory=_Round)
    _failed: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="allma-waker", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread after what it is doing; a longer duty is cut off by the end of the process."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def do_round(self) -> bool:
        """Do every duty once; a duty that failed is left out for some seconds, the others go on.

        Returns:
            whether there is more to do soon.
        """
        more = 0
        for name, duty in self.duties:
            if self._failed.get(name, 0.0) > time.monotonic():
                continue
            try:
                with create_session() as session:
                    more += duty(session, self._round)
            except Exception:  # noqa: BLE001 - such as a database that restarts
                if self._stopped.is_set():
                    break
                if name not in self._failed:
                    _LOG.exception("Could not %s; it is tried again every %d s", name, _AFTER_ERROR_SECONDS)
                self._failed[name] = time.monotonic() + _AFTER_ERROR_SECONDS
            else:
                self._failed.pop(name, None)
        return more > 0

    def _run(self) -> None:
        while not self._stopped.wait(_BUSY_SECONDS if self.do_round() else _IDLE_SECONDS):
            pass
