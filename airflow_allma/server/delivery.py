"""Delivering an event to the task that waits for it: once, with the rights of who sends it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import msgspec
from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.state import TaskScope, get_state_backend
from sqlalchemy.orm import Session

from airflow_allma.common.wait_keys import event_key, wait_token
from airflow_allma.exceptions import AllmaError
from airflow_allma.server.open_waits import TaskWait, find_waits, lock_task, unchanged_row
from airflow_allma.server.waking import Schedulers, WakeReasons, request_wake, wake_parked

__all__ = ["AUDIT_EVENT", "Event", "MayResume", "NobodyWaitsError", "NotDeliveredError", "deliver"]

AUDIT_EVENT: Final = "allma_resume"
"""The ``event`` of the rows in Airflow's audit log."""

_ATTEMPTS: Final = 3

MayResume = Callable[[str], bool]
"""Says whether the sender may resume tasks of a Dag."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event from outside.

    Attributes:
        key: the correlation key.
        payload: a JSON object.
        by: the name of the user who sent it, for the audit log.
    """

    key: str
    payload: dict[str, Any]
    by: str

    @property
    def token(self) -> str:
        """The key's name in keys of XComs."""
        return wait_token(self.key)


class NotDeliveredError(AllmaError):
    """An event was refused.

    Attributes:
        status: the HTTP status that says why.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class NobodyWaitsError(NotDeliveredError):
    """Nothing waits for the key, and nothing has."""

    def __init__(self) -> None:
        super().__init__(
            HTTPStatus.NOT_FOUND, "Nothing waits for this correlationValue. Check its spelling: case counts"
        )


def deliver(
    session: Session, event: Event, may_resume: MayResume, runs: Collection[tuple[str, str]] | None = None
) -> TaskWait:
    """Store an event for the task that waits for it, and wake the task now or have the waker do it.

    The event goes to the task's state store, in the same transaction as the mark on the wait and the line in
    the audit log. Of several waits for one key, the first one gets it.

    Args:
        session: not committed.
        event: the event.
        may_resume: says of which Dags tasks may be resumed.
        runs: Dag and run ids; waits of other runs are as if they were not there. None for those of all runs.

    Returns:
        the wait that it was delivered to.

    Raises:
        NobodyWaitsError: 404.
        NotDeliveredError: 403, 409, 410 or 503.
    """
    for _ in range(_ATTEMPTS):
        found = find_waits(session, [event.token])
        if runs is not None:
            found = [wait for wait in found if (wait.task.dag_id, wait.task.run_id) in runs]
        wait = _select_wait(found, may_resume)
        if _deliver_to(session, wait, event):
            return wait
        # Changed since it was read, such as by the same event from somebody else.
        session.expire_all()
    # Not 409, by which a sender knows that the event was delivered before.
    raise NotDeliveredError(HTTPStatus.SERVICE_UNAVAILABLE, "The wait keeps changing. Send the event again")


def _select_wait(found: list[TaskWait], may_resume: MayResume) -> TaskWait:
    if not found:
        raise NobodyWaitsError
    open_waits = [wait for wait in found if wait.is_open]
    wait = min(open_waits, key=_order) if open_waits else max(found, key=_order)
    if not may_resume(wait.task.dag_id):
        # The same answer as without a wait would reveal less, but hide a missing right from its owner.
        raise NotDeliveredError(
            HTTPStatus.FORBIDDEN, "You may not resume tasks of the Dag that waits for this correlationValue"
        )
    if wait.wait.delivered is not None:
        when = datetime.fromtimestamp(wait.wait.delivered, UTC).isoformat(timespec="seconds")
        raise NotDeliveredError(
            HTTPStatus.CONFLICT, f"An event for this wait was delivered before, at {when}"
        )
    if not wait.is_unfinished:
        raise NotDeliveredError(HTTPStatus.GONE, f"Run {wait.task.run_id} does not wait any more")
    if wait.is_late:
        when = datetime.fromtimestamp(wait.wait.until, UTC).isoformat(timespec="seconds")
        raise NotDeliveredError(HTTPStatus.GONE, f"The wait ended at {when}")
    return wait


def _order(wait: TaskWait) -> Any:
    return wait.order


def _deliver_to(session: Session, wait: TaskWait, event: Event) -> bool:
    task = lock_task(session, wait.task)
    row = unchanged_row(session, wait)
    if task is None or row is None:
        return False
    now = datetime.now(UTC)
    _store(session, wait, event, now)
    row.value = msgspec.structs.replace(wait.wait, delivered=now.timestamp(), by=event.by).to_json()
    request_wake(session, task, WakeReasons(arrived=[wait.token]))
    session.add(_audit(task, wait, event))
    wake_parked(session, task, Schedulers.read(session, now))
    session.flush()
    return True


def _store(session: Session, wait: TaskWait, event: Event, now: datetime) -> None:
    scope = TaskScope(wait.task.dag_id, wait.task.run_id, wait.task.task_id, wait.task.map_index)
    value = {"payload": event.payload, "by": event.by, "at": now.isoformat()}
    get_state_backend().set(scope, event_key(wait.token), json.dumps(value), session=session)


def _audit(task: TaskInstance, wait: TaskWait, event: Event) -> Log:
    seconds = round(time.time() - wait.wait.since)
    extra = {"correlationValue": event.key, "step": wait.wait.step, "waitedSeconds": seconds}
    return Log(
        event=AUDIT_EVENT,
        task_instance=task,
        owner=event.by,
        owner_display_name=event.by,
        extra=json.dumps(extra),
    )
