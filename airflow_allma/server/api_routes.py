# No `from __future__ import annotations`: FastAPI reads the annotations of the routes, which are made in a
# function, and could not resolve them as strings.
"""The API of the pages: GET only, JSON, each route with the rights of its Dag."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, Query
from sqlalchemy.orm import Session

from airflow_allma.server.access import DAG_PATH, RUN_PATH, dag_router, signed_in_router
from airflow_allma.server.dag_flows import DagFlow, DagFlows
from airflow_allma.server.flow_list import FlowQuery, list_flows
from airflow_allma.server.flow_view import flow_page
from airflow_allma.server.fork_views import fork_states, fork_summary
from airflow_allma.server.not_found import NotFoundError
from airflow_allma.server.run_database import count_tasks, find_dag, find_run
from airflow_allma.server.run_rows import RunRow
from airflow_allma.server.run_view import run_header, step_states
from airflow_allma.server.work_pool import WorkPool

__all__ = ["api_routers"]

T = TypeVar("T")

CurrentUser = Annotated[BaseUser, Depends(get_user)]

_THREADS: Final = 8
_SECONDS: Final = 30.0

_RUN_ENTITIES: Final = (DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)


def api_routers() -> Sequence[APIRouter]:
    """Return the routers of all routes with data."""
    flows = DagFlows()
    pool = WorkPool("allma-api", _THREADS, _SECONDS)

    read = Reader(pool)
    return [_flows_router(flows, read), _flow_router(flows, read), _run_router(flows, read)]


class Reader:
    """Reads Airflow's database in our own threads."""

    def __init__(self, pool: WorkPool) -> None:
        self._pool = pool

    async def __call__(self, work: Callable[[Session], T]) -> T:
        """Return what a function makes of a session."""

        def call() -> T:
            with create_session() as session:
                return work(session)

        return await self._pool.run(call)


def _flows_router(flows: DagFlows, read: Reader) -> APIRouter:
    router = signed_in_router()

    @router.get("/flows")
    async def all_flows(
        user: CurrentUser,
        q: Annotated[str, Query(max_length=200)] = "",
        state: Literal["active", "paused", "broken", "unpublished"] | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        query = FlowQuery(q, state, limit, offset)
        return await read(lambda session: list_flows(session, flows, user, query))

    return router


def _flow_router(flows: DagFlows, read: Reader) -> APIRouter:
    router = dag_router(DAG_PATH)

    @router.get("/flow")
    async def flow(dag_id: str) -> dict[str, Any]:
        def work(session: Session) -> dict[str, Any]:
            dag = find_dag(session, dag_id)
            if dag is None:
                raise NotFoundError(f"There is no Dag {dag_id!r:.300}.")
            found = flows.find(session, dag_id)
            if found is None:
                return {"isFlow": False}
            return {**flow_page(session, flows, dag, found), "picture": None}

        return await read(work)

    return router


def _run_router(flows: DagFlows, read: Reader) -> APIRouter:
    router = dag_router(RUN_PATH, *_RUN_ENTITIES)

    @router.get("")
    async def run(dag_id: str, run_id: str) -> dict[str, Any]:
        def work(session: Session) -> dict[str, Any]:
            row = _run(session, dag_id, run_id)
            found = flows.find(session, dag_id, run_id)
            if found is None:
                return {"isFlow": False}
            return {
                **run_header(dag_id, row, found),
                "picture": None,
                "steps": step_states(found, count_tasks(session, dag_id, run_id)),
                "forks": [
                    fork_summary(session, state)
                    for state in fork_states(session, found, [*found.forks.values()], dag_id, row)
                ],
                "checkpoint": None,
                "waits": [],
                "tokens": None,
                "error": None,
            }

        return await read(work)

    @router.get("/forks/{fork:path}")
    async def one_fork(dag_id: str, run_id: str, fork: str) -> dict[str, Any]:
        def work(session: Session) -> dict[str, Any]:
            row = _run(session, dag_id, run_id)
            found = _flow(flows, session, dag_id, run_id)
            tasks = found.fork(fork)
            if tasks is None:
                raise NotFoundError(
                    f"Flow {found.flow.id}, version {found.flow.version}, has no fork {fork!r:.200} with "
                    "tasks of its own. A fork in a branch or a loop runs inside of another step's task."
                )
            (state,) = fork_states(session, found, [tasks], dag_id, row)
            return fork_summary(session, state)

        return await read(work)

    return router


def _run(session: Session, dag_id: str, run_id: str) -> RunRow:
    row = find_run(session, dag_id, run_id)
    if row is None:
        raise NotFoundError(f"Dag {dag_id} has no run {run_id!r:.300}; it may have been deleted.")
    return row


def _flow(flows: DagFlows, session: Session, dag_id: str, run_id: str) -> DagFlow:
    found = flows.find(session, dag_id, run_id)
    if found is None:
        raise NotFoundError(f"Dag {dag_id} is not made from an Allma flow.")
    return found
