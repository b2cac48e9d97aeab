"""Asset events that Airflow has recorded and would not start a run for.

Airflow keeps one row for each asset and Dag in ``asset_dag_run_queue``: the first event writes it, the next
ones leave it as it is, and the run that the scheduler makes of it has the events until the row was written.
Later ones, and those that were recorded while the Dag was paused, wait until yet another event comes. After a
burst of messages there is none. So this writes the time of the newest event into the row, or a new row.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final

from airflow.models.asset import AssetDagRunQueue, AssetEvent, DagScheduleAssetReference
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from airflow.utils.types import DagRunType
from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from airflow_allma.flow.ids import FLOW_TAG

__all__ = ["queue_late_events"]

_LOG: Final = logging.getLogger("airflow_allma.server")


def queue_late_events(session: Session) -> int:
    """Make the scheduler start runs for events of flows' assets that no run has, and no run is due to have.

    Several API servers can do it at once.

    Args:
        session: committed for each Dag and asset.

    Returns:
        How many Dags and assets had such events.
    """
    late = _late(session)
    session.commit()
    for dag_id, asset_id, newest, queued in late:
        if queued is None:
            _queue(session, dag_id, asset_id, newest)
        else:
            _postpone(session, dag_id, asset_id, newest)
    return len(late)


def _late(session: Session) -> list[tuple[str, int, datetime, datetime | None]]:
    """Return Dag, asset, time of the newest event, and that of the row if there is one.

    All of it in one statement, so that a run that is made at the same time is seen as a whole or not at all.
    """
    reference = DagScheduleAssetReference
    # A subquery for each asset finds the newest event at the end of the index. `correlate`, because inside of
    # `has_run` it would otherwise be the newest event of all assets.
    time = (
        select(func.max(AssetEvent.timestamp))
        .where(AssetEvent.asset_id == reference.asset_id)
        .correlate(reference)
        .scalar_subquery()
    )
    has_run = (
        select(DagRun.id)
        .where(
            DagRun.dag_id == reference.dag_id,
            DagRun.run_type == DagRunType.ASSET_TRIGGERED,
            DagRun.run_after >= time,
        )
        .exists()
    )
    is_flow = select(DagTag.dag_id).where(DagTag.dag_id == reference.dag_id, DagTag.name == FLOW_TAG).exists()
    queue = AssetDagRunQueue
    query = (
        select(reference.dag_id, reference.asset_id, time, queue.created_at)
        .join(DagModel, DagModel.dag_id == reference.dag_id)
        .outerjoin(queue, and_(queue.target_dag_id == reference.dag_id, queue.asset_id == reference.asset_id))
        .where(
            is_flow,
            DagModel.is_paused.is_(False),
            DagModel.is_stale.is_(False),
            time > reference.created_at,
            or_(and_(queue.created_at.is_(None), ~has_run), queue.created_at < time),
        )
    )
    return [(dag_id, asset_id, newest, queued) for dag_id, asset_id, newest, queued in session.execute(query)]


def _queue(session: Session, dag_id: str, asset_id: int, newest: datetime) -> None:
    session.add(AssetDagRunQueue(target_dag_id=dag_id, asset_id=asset_id, created_at=newest))
    try:
        session.commit()
    except IntegrityError:
        # Another event, or another API server, was faster.
        session.rollback()
        return
    _LOG.info("Dag %s has asset events of %s and no run for them; one is queued", dag_id, newest)


def _postpone(session: Session, dag_id: str, asset_id: int, newest: datetime) -> None:
    queue = AssetDagRunQueue
    session.execute(
        update(queue)
        .where(queue.target_dag_id == dag_id, queue.asset_id == asset_id, queue.created_at < newest)
        .values(created_at=newest)
        .execution_options(synchronize_session=False)
    )
    session.commit()
