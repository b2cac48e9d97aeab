"""Who may read what below ``/allma/api``: Airflow mounts an application without any sign-in of its own."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import APIRouter, Depends, HTTPException, Response

__all__ = ["DAG_PATH", "PRIVATE", "RUN_PATH", "dag_router", "signed_in_router"]

DAG_PATH: Final = "/dags/{dag_id}"
"""Airflow's check finds the Dag by this name only; with another one it would ask about no Dag at all."""

RUN_PATH: Final = DAG_PATH + "/runs/{run_id}"

PRIVATE: Final = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of all answers with data; a route that makes its own response has to set them."""

_ALL_DAGS: Final = "~"


def signed_in_router() -> APIRouter:
    """Return a router whose routes need a user; each route has to ask what that user may see."""
    return APIRouter(dependencies=[Depends(get_user), Depends(_private)])


def dag_router(prefix: str, *entities: DagAccessEntity) -> APIRouter:
    """Return a router whose routes need the right to read one Dag.

    Args:
        prefix: ``DAG_PATH`` or ``RUN_PATH``.
        entities: what of the Dag is read; each needs a right of its own.
    """
    checks: list[Any] = [Depends(_one_dag), Depends(_private), Depends(requires_access_dag(method="GET"))]
    checks += (Depends(requires_access_dag(method="GET", access_entity=entity)) for entity in entities)
    return APIRouter(prefix=prefix, dependencies=checks)


async def _private(response: Response) -> None:
    """Keep browsers and proxies from keeping what only this user may see."""
    response.headers.update(PRIVATE)


async def _one_dag(dag_id: str, user: Any = Depends(get_user)) -> None:  # noqa: B008 - FastAPI's way
    """Refuse the id that Airflow's check takes for no Dag in particular."""
    del user
    if dag_id == _ALL_DAGS:
        raise HTTPException(HTTPStatus.NOT_FOUND, "Name one Dag; ~ is not the id of one.")
