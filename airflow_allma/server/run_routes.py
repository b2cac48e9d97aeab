# No `from __future__ import annotations`: FastAPI reads the annotations of the routes, which are made in a
# function, and could not resolve them as strings.
"""The routes for a run: its steps, one of them, and its forks."""

import asyncio
from typing import Annotated, Any, Final

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user
from fastapi import APIRouter, Depends, Query
from sqlalchemy.orm import Session

from airflow_allma.exceptions import AllmaError, StorageError
from airflow_allma.server.access import RUN_PATH, dag_router
from airflow_allma.server.api_context import ApiContext, require_run
from airflow_allma.server.fork_answers import answers_of
from airflow_allma.server.fork_views import ForkState, empty_summary, read_forks
from airflow_allma.server.item_routes import add_item_routes
from airflow_allma.server.run_view import run_page
from airflow_allma.server.step_view import step_page
from airflow_allma.server.work_pool import BusyError

__all__ = ["run_router"]

CurrentUser = Annotated[BaseUser, Depends(get_user)]

_ENTITIES: Final = (DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
_SUMMARY_SECONDS: Final = 4.0


def run_router(api: ApiContext) -> APIRouter:
    """Return the routes for runs."""
    router = dag_router(RUN_PATH, *_ENTITIES)

    @router.get("")
    async def run(dag_id: str, run_id: str, user: CurrentUser) -> dict[str, Any]:
        def work(session: Session) -> tuple[dict[str, Any], list[ForkState]]:
            row = require_run(session, dag_id, run_id)
            found = api.flows.find(session, dag_id, run_id)
            if found is None:
                return {"isFlow": False}, []
            states = read_forks(session, found, [*found.forks.values()], dag_id, row)
            in_chunks = {state.tasks.fork for state in states if state.is_in_chunks}
            return run_page(session, row, found, user, dag_id=dag_id, in_chunks=in_chunks), states

        page, states = await api.read(work)
        if page["isFlow"]:
            page["forks"] = await asyncio.gather(*(_summary(api, state) for state in states))
        return page

    @router.get("/steps/{step_id:path}")
    async def step(
        dag_id: str,
        run_id: str,
        step_id: str,
        map_index: Annotated[int | None, Query(alias="mapIndex", ge=-1, lt=1 << 31)] = None,
    ) -> dict[str, Any]:
        def work(session: Session) -> dict[str, Any]:
            require_run(session, dag_id, run_id)
            found = api.require_flow(session, dag_id, run_id)
            return step_page(session, dag_id, run_id, found, step_id, map_index=map_index)

        return await api.read(work)

    add_item_routes(router, api)

    @router.get("/forks/{fork:path}")
    async def one_fork(dag_id: str, run_id: str, fork: str) -> dict[str, Any]:
        return await api.answer(dag_id, run_id, fork, lambda answers: answers.summary())

    return router


async def _summary(api: ApiContext, state: ForkState) -> dict[str, Any]:
    """Return the counts of a fork; as far as the database knows them if the store does not answer soon."""
    answers = answers_of(state, api.stores)
    try:
        return await api.store.run(answers.summary, seconds=_SUMMARY_SECONDS)
    except (BusyError, StorageError):
        return await api.database.run(answers.quick_summary)
    except AllmaError as error:
        return {**empty_summary(state), "problem": str(error)}
