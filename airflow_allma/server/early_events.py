"""Events that come before anything waits for them: kept for a while, as encrypted Airflow Variables."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from airflow.models.variable import Variable
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from airflow_allma.common.wait_keys import wait_token
from airflow_allma.server.delivery import Event, NotDeliveredError, deliver
from airflow_allma.server.open_waits import find_waits
from airflow_allma.server.rights import UserRights, user_from_claims

__all__ = ["MAX_EARLY_EVENTS", "deliver_early_events", "keep_event"]

MAX_EARLY_EVENTS: Final = 1000
"""How many events are kept at a time."""

_LOG: Final = logging.getLogger("airflow_allma.server")
_PREFIX: Final = "allma_early_event."
_DESCRIPTION: Final = "An event for a flow that does not wait for it yet; removed by itself after "
"""Followed by the time, in seconds since the epoch: it must be readable without decrypting the event."""


class _EarlyEvent(msgspec.Struct):
    key: str
    payload: dict[str, Any]
    by: str
    claims: dict[str, Any]
    until: float


def keep_event(session: Session, event: Event, claims: Mapping[str, Any], seconds: int) -> None:
    """Keep an event until something waits for its key, or the time is over.

    Raises:
        NotDeliveredError: 409, one of this sender for this key is kept already; 429, too many are kept.
    """
    # Somebody without the right to resume the task must not keep the event of somebody with it away.
    name = f"{_PREFIX}{event.token}.{wait_token(event.by)}"
    count = (
        select(func.count()).select_from(Variable).where(Variable.key.startswith(_PREFIX, autoescape=True))
    )
    if (session.scalar(count) or 0) >= MAX_EARLY_EVENTS:
        raise NotDeliveredError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"{MAX_EARLY_EVENTS} events that nothing waits for are kept already. Send it again later",
        )
    kept = _EarlyEvent(event.key, event.payload, event.by, dict(claims), time.time() + seconds)
    value = msgspec.json.encode(kept).decode()
    description = f"{_DESCRIPTION}{kept.until:.0f}"
    session.add(Variable(name, value, description))  # type: ignore[no-untyped-call]
    try:
        session.flush()
    except IntegrityError as error:
        session.rollback()
        raise NotDeliveredError(
            HTTPStatus.CONFLICT, "An event for this correlationValue is kept already"
        ) from error


def deliver_early_events(session: Session) -> int:
    """Deliver kept events that something waits for now, with the rights that their senders have now.

    Removes those, and those whose time is over. Each is a transaction of its own.

    Returns:
        how many were delivered.
    """
    kept = session.execute(
        select(Variable.key, Variable.description)
        .where(Variable.key.startswith(_PREFIX, autoescape=True))
        .order_by(Variable.id)
        .limit(MAX_EARLY_EVENTS)
    ).all()
    if not kept:
        return 0
    tokens = [name.removeprefix(_PREFIX).partition(".")[0] for name, _ in kept]
    awaited = {wait.token for wait in find_waits(session, tokens) if wait.is_open}
    session.commit()
    now = time.time()
    return sum(
        _hand_over(session, name, is_awaited=token in awaited)
        for (name, description), token in zip(kept, tokens, strict=True)
        # All others stay as they are, without being decrypted every few seconds.
        if token in awaited or _is_over(description, now)
    )


def _is_over(description: str | None, now: float) -> bool:
    until = (description or "").removeprefix(_DESCRIPTION)
    return not until.isdecimal() or float(until) < now


def _hand_over(session: Session, name: str, *, is_awaited: bool) -> bool:
    variable = session.scalar(select(Variable).where(Variable.key == name).with_for_update(skip_locked=True))
    if variable is None:
        return False
    kept = _decoded(variable)
    delivered = False
    if kept is None or (kept.until < time.time() and not is_awaited):
        session.delete(variable)
    elif is_awaited:
        delivered = _deliver(session, kept)
        session.delete(variable)
    session.commit()
    return delivered


def _decoded(variable: Variable) -> _EarlyEvent | None:
    try:
        value = variable.get_val()  # type: ignore[no-untyped-call]
        return msgspec.json.decode(value or "", type=_EarlyEvent)
    except msgspec.DecodeError:
        _LOG.warning("Variable %s is not an event that came early; it is removed", variable.key)
        return None


def _deliver(session: Session, kept: _EarlyEvent) -> bool:
    user = user_from_claims(kept.claims)
    event = Event(kept.key, kept.payload, kept.by)
    try:
        deliver(session, event, UserRights(user).may_resume if user is not None else _nobody)
    except NotDeliveredError as error:
        _LOG.warning("An event of %s that came early was not delivered: %s", kept.by, error)
        return False
    return True


def _nobody(dag_id: str) -> bool:
    del dag_id
    return False
