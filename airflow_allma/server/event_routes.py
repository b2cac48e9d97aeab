# No `from __future__ import annotations`: FastAPI reads the annotations of the routes, which are made in a
# function, and could not resolve them as strings.
"""The routes for events: resume a waiting task, list what waits, and the page for both."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any, Final, TypeVar

import anyio
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from airflow_allma.configuration import integer_setting
from airflow_allma.server.delivery import Event, NobodyWaitsError, NotDeliveredError, deliver
from airflow_allma.server.early_events import keep_event
from airflow_allma.server.open_waits import TaskWait, dags_with_waits, list_waits
from airflow_allma.server.resume_body import check_sender, event_fields, read_body
from airflow_allma.server.rights import UserRights, claims_of

__all__ = ["event_router", "refused"]

_THREADS: Final = 8
"""Threads for requests, apart from those of Airflow's own routes."""
_MAX_LISTED: Final = 20_000
_PAGE: Final = 100
_STATIC: Final = {"events.js": "text/javascript", "events.css": "text/css"}
_PAGE_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
}

CurrentUser = Annotated[BaseUser, Depends(get_user)]
T = TypeVar("T")


async def refused(request: Request, error: Exception) -> JSONResponse:
    """Answer the request whose event was refused."""
    del request
    status = error.status if isinstance(error, NotDeliveredError) else HTTPStatus.CONFLICT
    return JSONResponse({"detail": str(error)}, status)


def event_router() -> APIRouter:
    """Return the routes; each asks for the user itself."""
    router = APIRouter()
    limiter = anyio.CapacityLimiter(_THREADS)

    async def in_thread(function: Callable[[Session], T]) -> T:
        def call() -> T:
            with create_session() as session:
                return function(session)

        return await anyio.to_thread.run_sync(call, limiter=limiter)

    @router.post("/resume", status_code=HTTPStatus.ACCEPTED)
    async def resume(request: Request, user: CurrentUser) -> dict[str, Any]:
        check_sender(request.headers)
        max_bytes = integer_setting("max_event_bytes")
        body = await read_body(request.stream(), request.headers.get("content-length"), max_bytes)
        key, payload = event_fields(body, max_bytes)
        return await in_thread(partial(_resume, Event(key, payload, user.get_name()), user))

    @router.get("/waits")
    async def waits(  # noqa: PLR0917 - FastAPI passes them by name
        user: CurrentUser,
        dag_id: Annotated[str | None, Query(alias="dagId")] = None,
        run_id: Annotated[str | None, Query(alias="runId")] = None,
        key: Annotated[str, Query(description="part of the correlation key")] = "",
        limit: Annotated[int, Query(ge=1, le=_PAGE)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        chosen = partial(_waits, user, lambda wait: _matches(wait, dag_id, run_id, key))
        return await in_thread(lambda session: chosen(session, limit, offset))

    @router.get("/events")
    async def page() -> Response:
        return _file("events.html", "text/html")

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in _STATIC:
            return JSONResponse({"detail": "Not found"}, HTTPStatus.NOT_FOUND)
        return _file(name, _STATIC[name])

    return router


def _resume(event: Event, user: BaseUser, session: Session) -> dict[str, Any]:
    rights = UserRights(user)
    try:
        wait = deliver(session, event, rights.may_resume)
    except NobodyWaitsError:
        if not rights.may_resume_any():
            raise _without_rights() from None
        return _keep(session, event, user)
    except NotDeliveredError as error:
        # Whoever may resume nothing does not learn from the answer whether something waits.
        if error.status is HTTPStatus.FORBIDDEN and not rights.may_resume_any():
            raise _without_rights() from None
        raise
    task = wait.task
    return {
        "state": "delivered",
        "dagId": task.dag_id,
        "runId": task.run_id,
        "taskId": task.task_id,
        "mapIndex": task.map_index,
    }


def _without_rights() -> NotDeliveredError:
    return NotDeliveredError(HTTPStatus.FORBIDDEN, "You may not resume tasks of any Dag")


def _keep(session: Session, event: Event, user: BaseUser) -> dict[str, Any]:
    seconds = integer_setting("early_event_seconds")
    claims = claims_of(user)
    if seconds <= 0 or claims is None:
        raise NobodyWaitsError
    keep_event(session, event, claims, seconds)
    return {"state": "kept", "seconds": seconds}


def _matches(wait: TaskWait, dag_id: str | None, run_id: str | None, key: str) -> bool:
    return dag_id in {None, wait.task.dag_id} and run_id in {None, wait.task.run_id} and key in wait.wait.key


def _waits(
    user: BaseUser, matches: Callable[[TaskWait], bool], session: Session, limit: int, offset: int
) -> dict[str, Any]:
    rights = UserRights(user)
    dag_ids = [dag_id for dag_id in dags_with_waits(session) if rights.may_see(dag_id)]
    found = [wait for wait in list_waits(session, dag_ids, at_most=_MAX_LISTED) if matches(wait)]
    shown = found[offset : offset + limit]
    return {
        "waits": [_described(wait) | {"mayResume": rights.may_resume(wait.task.dag_id)} for wait in shown],
        "total": len(found),
        "limit": limit,
        "offset": offset,
    }


def _described(wait: TaskWait) -> dict[str, Any]:
    written = wait.wait
    return {
        "key": written.key,
        "dagId": wait.task.dag_id,
        "runId": wait.task.run_id,
        "taskId": wait.task.task_id,
        "mapIndex": wait.task.map_index,
        "step": written.step,
        "branch": written.branch,
        "item": written.item,
        "message": written.message,
        "since": written.since,
        "until": written.until,
    }


def _file(name: str, media_type: str) -> Response:
    content = files("airflow_allma.server").joinpath("static", name).read_bytes()
    return Response(content, media_type=media_type, headers=_PAGE_HEADERS)
