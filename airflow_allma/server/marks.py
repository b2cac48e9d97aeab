"""Whether somebody has marked a run, or one of its tasks, as failed: Airflow's audit log says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from airflow.models.log import Log
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

__all__ = ["was_marked_as_failed"]

_EVENTS: Final = (
    "patch_dag_run",
    "patch_task_instance",
    "patch_task_group_instances",
    "bulk_dag_runs",
    "bulk_task_instances",
)
"""What Airflow's API calls the requests that can change a state (Airflow 3.3)."""

_STATES: Final = frozenset({"state", "new_state"})
_AROUND: Final = timedelta(minutes=1)
_MAX_ROWS: Final = 200


def was_marked_as_failed(
    session: Session, dag_id: str, run_id: str, *, since: datetime | None, until: datetime
) -> bool:
    """Return whether the audit log has a request that marked the run, or a task of it, as failed.

    Args:
        session: only read.
        dag_id: the run's Dag.
        run_id: the run.
        since: when the run started; None if it never did.
        until: when it ended.
    """
    its_own = (Log.dag_id == dag_id) & (Log.run_id == run_id)
    # A request for several runs names them in its body.
    several = Log.event.like("bulk_%") & Log.extra.contains(run_id, autoescape=True)
    query = (
        select(Log.extra, Log.run_id)
        .where(Log.event.in_(_EVENTS), Log.dttm <= until + _AROUND, or_(its_own, several))
        .where(Log.extra.contains("failed"))
        .order_by(Log.dttm.desc())
        .limit(_MAX_ROWS)
    )
    if since is not None:
        query = query.where(Log.dttm >= since)
    return any(_marks(extra) for extra, _ in session.execute(query))


def _marks(extra: str | None) -> bool:
    try:
        body: Any = json.loads(extra or "")
    except ValueError:
        return False
    return any(state == "failed" for state in _states(body))


def _states(value: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the states that the body of a request sets; those of bulk requests are some levels deeper."""
    if depth > 4:
        return
    if isinstance(value, dict):
        for name, member in value.items():
            if name in _STATES:
                yield member
            yield from _states(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            yield from _states(member, depth + 1)
