"""The application below ``/allma``: events, the API of the pages, and the pages' own files."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from airflow_allma.exceptions import AllmaError, InspectionError, ItemNotFoundError, StorageError
from airflow_allma.server.api_routes import api_routers
from airflow_allma.server.delivery import NotDeliveredError
from airflow_allma.server.event_routes import event_router, refused
from airflow_allma.server.not_found import NotFoundError
from airflow_allma.server.page_routes import page_router
from airflow_allma.server.work_pool import BusyError

__all__ = ["API_PATH", "create_app"]

API_PATH: Final = "/api"

_STATUS: Final[Mapping[type[AllmaError], HTTPStatus]] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    ItemNotFoundError: HTTPStatus.NOT_FOUND,
    InspectionError: HTTPStatus.UNPROCESSABLE_ENTITY,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageError: HTTPStatus.SERVICE_UNAVAILABLE,
    AllmaError: HTTPStatus.CONFLICT,
}
_RETRY_SECONDS: Final = "5"


def create_app() -> FastAPI:
    """Return the application; Airflow mounts it, without any sign-in of its own.

    ``access`` makes the routers of all routes with data.
    """
    app = FastAPI(title="Allma flows", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(event_router())
    for router in api_routers():
        app.include_router(router, prefix=API_PATH)
    app.include_router(page_router())
    app.add_exception_handler(NotDeliveredError, refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(SQLAlchemyError, _no_database)
    for error in _STATUS:
        app.add_exception_handler(error, _failed)
    return app


async def _failed(request: Request, error: Exception) -> JSONResponse:
    del request
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    headers = {"Retry-After": _RETRY_SECONDS} if isinstance(error, BusyError) else None
    return JSONResponse({"detail": str(error)}, status, headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    del request
    found: Any = error.errors() if isinstance(error, RequestValidationError) else ()
    reasons = (f"{'.'.join(map(str, error['loc'][1:]))}: {error['msg']}" for error in found)
    return JSONResponse({"detail": "; ".join(reasons)}, HTTPStatus.UNPROCESSABLE_ENTITY)


async def _no_database(request: Request, error: Exception) -> JSONResponse:
    del request, error
    detail = "Airflow's database did not answer as expected; the API server's log says more."
    return JSONResponse({"detail": detail}, HTTPStatus.SERVICE_UNAVAILABLE)
