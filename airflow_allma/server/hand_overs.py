"""Events that runs send to the runs that started them, through an XCom of their last task."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_allma.common.wait_keys import HAND_OVER_KEY
from airflow_allma.server.delivery import Event, NobodyWaitsError, NotDeliveredError, deliver

__all__ = ["deliver_hand_overs"]

_LOG: Final = logging.getLogger("airflow_allma.server")
_AT_ONCE: Final = 100
_PATIENCE: Final = timedelta(minutes=10)
"""How long a run that has ended before its parent waits for it has its event kept."""


def deliver_hand_overs(session: Session) -> int:
    """Deliver the events of ended runs, and remove their XComs; each is a transaction of its own.

    Nothing else is asked for: the run that waits passed its key to the run that it started.

    Returns:
        how many were delivered.
    """
    query = select(XComModel).where(XComModel.key == HAND_OVER_KEY).order_by(XComModel.timestamp)
    waiting = query.limit(_AT_ONCE).with_for_update(of=XComModel, skip_locked=True)
    delivered = 0
    for row in session.scalars(waiting).all():
        delivered += _deliver(session, row)
    session.commit()
    return delivered


def _deliver(session: Session, row: XComModel) -> bool:
    event = _event_of(row)
    delivered = False
    if event is not None:
        try:
            deliver(session, event, bool)
            delivered = True
        except NobodyWaitsError:
            if row.timestamp > datetime.now(UTC) - _PATIENCE:
                return False
            _LOG.warning("%s: nothing waits for its _flow_resume_key", event.by)
        except NotDeliveredError as error:
            _LOG.warning("%s: its event was not delivered: %s", event.by, error)
    session.delete(row)
    session.flush()
    return delivered


def _event_of(row: XComModel) -> Event | None:
    sender = f"run {row.run_id} of {row.dag_id}"
    try:
        value: Any = json.loads(row.value)
        if isinstance(value, str):
            # Tasks push their data as JSON strings, which pass through Airflow unchanged.
            value = json.loads(value)
        key, payload = value["key"], value["payload"]
    except (TypeError, ValueError, KeyError):
        key = payload = None
    if isinstance(key, str) and key and isinstance(payload, dict):
        return Event(key, payload, sender)
    _LOG.warning("%s: its XCom %s is not an event", sender, HAND_OVER_KEY)
    return None
