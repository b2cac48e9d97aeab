"""Starts the completion actions of runs that have ended, whichever way they did.

Airflow reports some of them to nobody: callbacks and listeners are lost with the process that was to call
them. So this looks into the database. A quick look, every few seconds, finds the runs that were active or
unknown at the last one and have ended; it reads what is active now, not the history. A thorough look, at the
start and every ten minutes, finds whatever the quick ones have missed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.models.dag import DagModel, DagTag
from airflow.models.dag_version import DagVersion
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import String, cast, func, literal, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from airflow_allma.common.batching import batched
from airflow_allma.common.completion_runs import (
    COMPLETION_TAG,
    END_PREFIX,
    EndedRun,
    completion_dag_id,
    flow_dag_id,
)
from airflow_allma.configuration import integer_setting
from airflow_allma.server.marks import was_marked_as_failed

__all__ = ["CompletionStarter", "start_missing_completion_runs"]

_LOG: Final = logging.getLogger("airflow_allma.server")

_AT_ONCE: Final = 100
_DAGS_SECONDS: Final = 10.0
"""How long the list of completion Dags is used."""

_THOROUGH_SECONDS: Final = 600.0
_PAUSE_FACTOR: Final = 50.0
"""The pause after a thorough look, as a multiple of its duration: it reads the runs of many days."""

_MAX_FOUND: Final = 10_000
_MAX_IN: Final = 500
_OVERLAP: Final = 1_000
"""How many of the latest ids are looked at again: ids are assigned before their runs are committed."""

_ACTIVE: Final = (DagRunState.QUEUED, DagRunState.RUNNING)
_ENDED: Final = (DagRunState.SUCCESS, DagRunState.FAILED)


@dataclass(slots=True)
class CompletionStarter:
    """What one API server knows of its earlier looks; all of it can be lost."""

    _since: dict[str, datetime] = field(default_factory=dict)
    """Id of a flow's Dag -> when it first had completion actions."""
    _listed_at: float = float("-inf")
    _thorough_at: float = float("-inf")
    _active: set[int] = field(default_factory=set)
    _highest: int | None = None
    _found: dict[int, None] = field(default_factory=dict)
    """The ids of runs whose completion runs are to be started, in their order."""

    def start_missing(self, session: Session, limit: int = _AT_ONCE) -> int:
        """Start the completion runs of ended runs that have none.

        Args:
            session: committed for each run that is started.
            limit: how many are started at most.

        Returns:
            how many are left to be started.
        """
        days = integer_setting("completion_days")
        self._list_dags(session)
        if days <= 0 or not self._since:
            return 0
        earliest = datetime.now(UTC) - timedelta(days=days)
        self._look(session)
        if time.monotonic() >= self._thorough_at:
            self._look_thoroughly(session, earliest)
        session.commit()
        now = list(self._found)[:limit]
        for run_ids in batched(now, _MAX_IN):
            self._start(session, run_ids, earliest)
        for run_id in now:
            del self._found[run_id]
        return len(self._found)

    def _list_dags(self, session: Session) -> None:
        if time.monotonic() < self._listed_at + _DAGS_SECONDS:
            return
        rows = session.execute(
            select(DagTag.dag_id, func.min(DagVersion.created_at))
            .join(DagModel, DagModel.dag_id == DagTag.dag_id)
            .join(DagVersion, DagVersion.dag_id == DagTag.dag_id)
            .where(DagTag.name == COMPLETION_TAG, DagModel.is_stale.is_(False))
            .group_by(DagTag.dag_id)
        )
        known = {flow_dag_id(dag_id): since for dag_id, since in rows}
        if known.keys() - self._since.keys():
            self._thorough_at = float("-inf")
        self._since = {dag_id: since for dag_id, since in known.items() if dag_id is not None}
        self._listed_at = time.monotonic()

    def _dag_ids(self) -> Iterable[list[str]]:
        return batched(sorted(self._since), _MAX_IN)

    def _look(self, session: Session) -> None:
        """Find the runs that have ended since the last look."""
        highest = session.scalar(select(func.max(DagRun.id))) or 0
        active: set[int] = set()
        for dag_ids in self._dag_ids():
            of_dags = select(DagRun.id).where(DagRun.dag_id.in_(dag_ids))
            active.update(session.scalars(of_dags.where(DagRun.state.in_(_ACTIVE))))
            if self._highest is not None:
                new = of_dags.where(DagRun.id > self._highest - _OVERLAP, DagRun.state.in_(_ENDED))
                self._found.update(dict.fromkeys(session.scalars(new.order_by(DagRun.id))))
        self._found.update(dict.fromkeys(sorted(self._active - active)))
        self._active, self._highest = active, highest

    def _look_thoroughly(self, session: Session, earliest: datetime) -> None:
        """Find all runs without a completion run; of those whose id is too long for one, too many."""
        begun = time.monotonic()
        started = aliased(DagRun)
        for dag_ids in self._dag_ids():
            since = max(earliest, min(self._since[dag_id] for dag_id in dag_ids))
            completion_id = literal(END_PREFIX) + cast(DagRun.clear_number, String) + "__" + DagRun.run_id
            has_one = (
                select(started.id)
                .where(
                    started.dag_id == DagRun.dag_id + literal(completion_dag_id("")),
                    started.run_id == completion_id,
                )
                .exists()
            )
            query = (
                select(DagRun.id)
                .where(
                    DagRun.dag_id.in_(dag_ids), DagRun.state.in_(_ENDED), DagRun.end_date >= since, ~has_one
                )
                .order_by(DagRun.end_date)
                .limit(_MAX_FOUND)
            )
            self._found.update(dict.fromkeys(session.scalars(query)))
        ended = time.monotonic()
        self._thorough_at = ended + max(_THOROUGH_SECONDS, _PAUSE_FACTOR * (ended - begun))

    def _start(self, session: Session, ids: Sequence[int], earliest: datetime) -> None:
        query = select(DagRun).where(
            DagRun.id.in_(ids), DagRun.state.in_(_ENDED), DagRun.end_date >= earliest
        )
        ended = {
            (completion_dag_id(run.dag_id), _ended_run(run).completion_run_id): run
            for run in session.scalars(query)
            if run.end_date is not None
            and run.end_date >= self._since.get(run.dag_id, datetime.now(UTC))
            # `dag.test()`, which is for looking at one Dag, has no other runs either.
            and run.triggered_by is not DagRunTriggeredByType.TEST
        }
        existing = {
            (dag_id, run_id)
            for dag_id, run_id in session.execute(
                select(DagRun.dag_id, DagRun.run_id).where(
                    DagRun.dag_id.in_({dag_id for dag_id, _ in ended}),
                    DagRun.run_id.in_({run_id for _, run_id in ended}),
                )
            )
        }
        dags = DBDagBag()
        for (dag_id, run_id), run in ended.items():
            if (dag_id, run_id) not in existing:
                self._create(session, dags, run)

    def _create(self, session: Session, dags: DBDagBag, run: DagRun) -> None:
        dag_id, run_id = run.dag_id, run.run_id
        dag = dags.get_latest_version_of_dag(completion_dag_id(dag_id), session=session)
        if dag is None:
            return
        marked = run.state == DagRunState.FAILED and was_marked_as_failed(
            session, dag_id, run_id, since=run.start_date, until=run.end_date or datetime.now(UTC)
        )
        ended = _ended_run(run, was_marked=marked)
        try:
            dag.create_dagrun(
                run_id=ended.completion_run_id,
                run_after=datetime.now(UTC),
                conf=ended.to_conf(),
                run_type=DagRunType.OPERATOR_TRIGGERED,
                triggered_by=DagRunTriggeredByType.OPERATOR,
                state=DagRunState.QUEUED,
                session=session,
            )
            session.commit()
        except IntegrityError:
            # Another API server was quicker.
            session.rollback()
        except SQLAlchemyError:
            raise
        except Exception:  # noqa: BLE001 - such as an id that [scheduler] allowed_run_id_pattern refuses
            # The others must start.
            session.rollback()
            _LOG.exception("Completion actions of run %s of %s cannot be started", run_id, dag_id)


def _ended_run(run: DagRun, *, was_marked: bool = False) -> EndedRun:
    ended_at: Any = run.end_date
    return EndedRun(
        run.run_id, run.clear_number or 0, DagRunState(run.state).value, ended_at.isoformat(), was_marked
    )


_STARTER: Final = CompletionStarter()


def start_missing_completion_runs(session: Session, limit: int = _AT_ONCE) -> int:
    """Start the completion runs of ended runs that have none, see ``CompletionStarter``; for one thread.

    Args:
        session: committed for each run that is started.
        limit: how many are started at most.

    Returns:
        how many are left to be started.
    """
    return _STARTER.start_missing(session, limit)
