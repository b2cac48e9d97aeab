"""The list of all flows that a user may see: those with a Dag, and those that are broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from sqlalchemy.orm import Session

from airflow_allma.common.broken_flows import BROKEN_FLOWS, BrokenFlow, read_broken_flows
from airflow_allma.flow import safe_dag_id
from airflow_allma.flow.ids import FLOW_TAG
from airflow_allma.server.dag_flows import DagFlows
from airflow_allma.server.read_rights import ReadRights
from airflow_allma.server.run_database import dag_tags, find_import_errors, last_runs, list_dags
from airflow_allma.server.run_rows import DagRow, RunRow
from airflow_allma.server.run_view import epoch

__all__ = ["STATES", "FlowQuery", "list_flows", "schedule_in_words"]

STATES: Final = ("active", "paused", "broken", "unpublished")

_RUNS: Final = 10
_MAX_IMPORT_ERRORS: Final = 20
_MAX_PROBLEM: Final = 4_000
_NOT_BUILT: Final = (
    "No flow file has a published version of this flow any more, or the loader leaves it out. Its runs stay."
)


@dataclass(frozen=True, slots=True)
class FlowQuery:
    """Which flows are listed.

    Attributes:
        text: part of an id, a name, a description, a tag or a file; "" for all.
        state: one of ``STATES``; None for all.
        limit: how many are listed.
        offset: how many are left out before them.
    """

    text: str = ""
    state: str | None = None
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Listed:
    """A flow before the details are read that only those shown need."""

    dag_id: str
    state: str
    dag: DagRow | None = None
    broken: BrokenFlow | None = None
    tags: Sequence[str] = field(default=())

    @property
    def name(self) -> str:
        if self.dag is not None:
            return self.dag.name
        return self.broken.flow_id if self.broken is not None else self.dag_id

    def matches(self, text: str) -> bool:
        dag, broken = self.dag, self.broken
        found: list[str | None] = [self.dag_id, self.name, *self.tags]
        found += [dag.description, dag.file] if dag is not None else []
        found += [broken.flow_id, broken.file] if broken is not None else []
        return any(text in value.casefold() for value in found if value)

    @property
    def problem(self) -> str | None:
        if self.broken is not None:
            return (self.broken.problem or f"See the import error of {self.broken.file}.")[:_MAX_PROBLEM]
        return _NOT_BUILT if self.state == "unpublished" else None


def list_flows(session: Session, flows: DagFlows, user: BaseUser, query: FlowQuery) -> dict[str, Any]:
    """Return a page of the flows that a user may see, and how many there are in each state."""
    rights = ReadRights(user)
    text = query.text.strip().casefold()
    listed = [flow for flow in _all(session, rights) if not text or flow.matches(text)]
    chosen = [flow for flow in listed if query.state in {None, flow.state}]
    shown = chosen[query.offset : query.offset + query.limit]
    dag_ids = [flow.dag_id for flow in shown if flow.dag is not None]
    runs = last_runs(session, [dag_id for dag_id in dag_ids if rights.may_see_runs(dag_id)], _RUNS)
    counts = Counter(flow.state for flow in listed)
    return {
        "flows": [_described(session, flows, flow, runs.get(flow.dag_id, ())) for flow in shown],
        "total": len(chosen),
        "counts": {state: counts[state] for state in STATES},
    }


def _all(session: Session, rights: ReadRights) -> list[_Listed]:
    dags = {dag.dag_id: dag for dag in list_dags(session, FLOW_TAG, rights.dag_ids())}
    tags = dag_tags(session, [*dags])
    broken = {safe_dag_id(flow.flow_id): flow for flow in _broken(session, rights)}
    listed = [
        _Listed(dag_id, _state(dag, broken.get(dag_id)), dag, broken.get(dag_id), tags.get(dag_id, ()))
        for dag_id, dag in dags.items()
    ]
    # A Dag that is not in the list is one that the user may not see, or none yet.
    new = rights.without_dag(session, [dag_id for dag_id in broken if dag_id not in dags])
    listed += [_Listed(dag_id, "broken", broken=broken[dag_id]) for dag_id in new]
    return sorted(listed, key=lambda flow: (flow.name.casefold(), flow.dag_id))


def _broken(session: Session, rights: ReadRights) -> Iterable[BrokenFlow]:
    if rights.may_see_import_errors():
        for error in find_import_errors(session, BROKEN_FLOWS, _MAX_IMPORT_ERRORS):
            # As Airflow's own list of import errors: a file with Dags needs the rights of all of them.
            if all(rights.may_see(dag_id) for dag_id in error.dag_ids):
                yield from read_broken_flows(error.text)


def _state(dag: DagRow, broken: BrokenFlow | None) -> str:
    if dag.is_stale:
        return "broken" if broken is not None else "unpublished"
    return "paused" if dag.is_paused else "active"


def _described(session: Session, flows: DagFlows, listed: _Listed, runs: Sequence[RunRow]) -> dict[str, Any]:
    dag, broken = listed.dag, listed.broken
    found = None if dag is None else flows.find(session, listed.dag_id)
    flow_id = broken.flow_id if broken is not None else listed.dag_id
    return {
        "dagId": listed.dag_id if dag is not None else None,
        "flowId": flow_id if found is None else found.flow.id,
        "version": None if found is None else found.flow.version,
        "name": listed.name,
        "description": None if dag is None else dag.description,
        "state": listed.state,
        "problem": listed.problem,
        "file": broken.file if broken is not None else dag.file if dag is not None else None,
        "schedule": None if dag is None else schedule_in_words(dag),
        "tags": [tag for tag in listed.tags if tag != FLOW_TAG],
        "lastRuns": [
            {"runId": run.run_id, "state": run.state, "start": epoch(run.start), "end": epoch(run.end)}
            for run in runs
        ],
    }


def schedule_in_words(dag: DagRow) -> str | None:
    """Return when a Dag runs, as a sentence; None if nothing but people and other runs start it."""
    if not dag.timetable or dag.timetable == "None":
        return None
    return dag.timetable_description or dag.timetable
