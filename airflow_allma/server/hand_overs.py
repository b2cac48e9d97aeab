"""Events that runs send to the runs that started them, through an XCom of their last task."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from airflow_allma.common.wait_keys import HAND_OVER_PREFIX
from airflow_allma.engine.flow_runs import MAX_FLOW_DEPTH
from airflow_allma.operators.run_link import RunLink
from airflow_allma.server.delivery import Event, NobodyWaitsError, NotDeliveredError, deliver
from airflow_allma.server.open_waits import find_waits

__all__ = ["deliver_hand_overs"]

_LOG: Final = logging.getLogger("airflow_allma.server")
_PATIENCE: Final = timedelta(minutes=10)
"""How long a run that has ended before its parent waits for it has its event kept."""


def deliver_hand_overs(session: Session) -> int:
    """Deliver the events of ended runs, and remove their XComs; each is a transaction of its own.

    Only the run that started the sender, or one that started that one, gets the event: whoever can push an
    XCom, or fill the payload of a flow that starts others, could otherwise resume any run.

    Returns:
        how many were delivered.
    """
    columns = (XComModel.dag_run_id, XComModel.task_id, XComModel.map_index, XComModel.key)
    query = select(*columns, XComModel.timestamp).where(
        XComModel.key.startswith(HAND_OVER_PREFIX, autoescape=True)
    )
    rows = session.execute(query.order_by(XComModel.timestamp)).all()
    if not rows:
        return 0
    # Runs can end long before their parents wait for them: those must not delay the others.
    awaited = {wait.token for wait in find_waits(session, {_token(row.key) for row in rows})}
    session.commit()
    oldest = datetime.now(UTC) - _PATIENCE
    due = [row for row in rows if _token(row.key) in awaited or row.timestamp < oldest]
    return sum(_hand_over(session, row) for row in due)


def _token(key: str) -> str:
    return key.removeprefix(HAND_OVER_PREFIX)


def _hand_over(session: Session, key: Any) -> bool:
    query = select(XComModel).filter_by(
        dag_run_id=key.dag_run_id, task_id=key.task_id, map_index=key.map_index, key=key.key
    )
    locked = query.with_for_update(of=XComModel, skip_locked=True)
    row = session.scalar(locked.execution_options(populate_existing=True))
    delivered = False
    if row is not None:
        try:
            delivered = _deliver(session, row)
        except SQLAlchemyError:
            raise
        except Exception:  # noqa: BLE001 - one event must not keep the others from being delivered
            session.rollback()
            _LOG.exception("An event of run %s of %s is removed", row.run_id, row.dag_id)
            session.delete(row)
    session.commit()
    return delivered


def _deliver(session: Session, row: XComModel) -> bool:
    event = _event_of(row)
    delivered = False
    if event is not None:
        try:
            deliver(session, event, bool, set(_ancestors(session, row.dag_id, row.run_id)))
            delivered = True
        except NobodyWaitsError:
            if row.timestamp > datetime.now(UTC) - _PATIENCE:
                return False
            _LOG.warning("%s: no run that started it waits for its _flow_resume_key", event.by)
        except NotDeliveredError as error:
            _LOG.warning("%s: its event was not delivered: %s", event.by, error)
    session.delete(row)
    session.flush()
    return delivered


def _ancestors(session: Session, dag_id: str, run_id: str) -> Iterator[tuple[str, str]]:
    """Yield Dag and run id of the run that started a run, of the one that started that, and so on."""
    for _ in range(MAX_FLOW_DEPTH + 1):
        run = session.scalar(select(DagRun).filter_by(dag_id=dag_id, run_id=run_id))
        link = RunLink.of(run) if run is not None else None
        if link is None:
            return
        dag_id, run_id = link.dag_id, link.run_id
        yield dag_id, run_id


def _event_of(row: XComModel) -> Event | None:
    sender = f"run {row.run_id} of {row.dag_id}"
    try:
        value: Any = json.loads(row.value)
        if isinstance(value, str):
            # Tasks push their data as JSON strings, which pass through Airflow unchanged.
            value = json.loads(value)
        key, payload = value["key"], value["payload"]
    except (TypeError, ValueError, KeyError, RecursionError):
        key = payload = None
    if isinstance(key, str) and key and isinstance(payload, dict):
        event = Event(key, payload, sender)
        if event.token == _token(row.key):
            return event
    _LOG.warning("%s: its XCom %s is not an event", sender, row.key)
    return None
