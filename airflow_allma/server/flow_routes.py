# No `from __future__ import annotations`: FastAPI reads the annotations of the routes, which are made in a
# function, and could not resolve them as strings.
"""The routes for flows: the list, one flow, and its picture."""

from typing import Annotated, Any, Final, Literal

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import get_user
from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.orm import Session

from airflow_allma.picture import render_svg
from airflow_allma.server.access import DAG_PATH, PRIVATE, dag_router, signed_in_router
from airflow_allma.server.api_context import ApiContext
from airflow_allma.server.flow_list import FlowQuery, list_flows
from airflow_allma.server.flow_view import flow_page
from airflow_allma.server.not_found import NotFoundError
from airflow_allma.server.run_database import find_dag

__all__ = ["flow_router", "flows_router"]

CurrentUser = Annotated[BaseUser, Depends(get_user)]

_PICTURE_HEADERS: Final = {
    **PRIVATE,
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}


def flows_router(api: ApiContext) -> APIRouter:
    """Return the route that lists flows."""
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
        return await api.read(lambda session: list_flows(session, api.flows, user, query))

    return router


def flow_router(api: ApiContext) -> APIRouter:
    """Return the routes for one flow."""
    router = dag_router(DAG_PATH)

    @router.get("/flow")
    async def flow(dag_id: str) -> dict[str, Any]:
        def work(session: Session) -> dict[str, Any]:
            dag = find_dag(session, dag_id)
            if dag is None:
                raise NotFoundError(f"There is no Dag {dag_id!r:.300}.")
            found = api.flows.find(session, dag_id)
            if found is None:
                return {"isFlow": False}
            return {**flow_page(session, api.flows, dag, found), "picture": found.picture.to_json()}

        return await api.read(work)

    @router.get("/picture.svg")
    async def picture(dag_id: str) -> Response:
        def work(session: Session) -> str:
            found = api.flows.find(session, dag_id)
            if found is None:
                raise NotFoundError(f"Dag {dag_id!r:.300} is not made from an Allma flow.")
            return render_svg(found.picture, found.flow.name or found.flow.id)

        return Response(await api.read(work), media_type="image/svg+xml", headers=_PICTURE_HEADERS)

    return router
