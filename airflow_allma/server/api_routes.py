"""The API of the pages: GET only, JSON, each route with the rights of its Dag."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from airflow_allma.server.api_context import ApiContext
from airflow_allma.server.flow_routes import flow_router, flows_router
from airflow_allma.server.run_routes import run_router

__all__ = ["api_routers"]


def api_routers() -> Sequence[APIRouter]:
    """Return the routers of all routes with data."""
    api = ApiContext()
    return [flows_router(api), flow_router(api), run_router(api)]
