# No `from __future__ import annotations`: FastAPI reads the annotations of the routes, which are made in a
# function, and could not resolve them as strings.
"""The routes for the items of a fork: pages, one item, whole values, downloads, and what a rerun would do."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from airflow_allma.inspection import ItemQuery
from airflow_allma.server.access import PRIVATE
from airflow_allma.server.api_context import ApiContext
from airflow_allma.server.fork_answers import ForkAnswers, answers_of
from airflow_allma.server.rerun_view import rerun_view

__all__ = ["add_item_routes"]

_JSON: Final = "application/json"
_JSON_LINES: Final = "application/x-ndjson"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_NAME: Final = 120

Branch = Annotated[str | None, Query(max_length=200)]
Kind = Annotated[str | None, Query(max_length=40)]
Text = Annotated[str | None, Query(max_length=200)]
Index = Annotated[int, Query(ge=0, lt=1 << 53)]


def _item_query(  # noqa: PLR0917 - FastAPI passes them by name
    show: Literal["all", "failed", "succeeded", "running"] = "all",
    kind: Kind = None,
    label: Text = None,
    text: Text = None,
    branch: Branch = None,
    chunk: Annotated[int | None, Query(ge=0, lt=1 << 31)] = None,
    start: Index = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> ItemQuery:
    return ItemQuery(
        show=show,
        kind=kind or None,
        label=label or None,
        text=text or None,
        branch=branch or None,
        chunk=chunk,
        start=start,
        limit=limit,
    )


def add_item_routes(router: APIRouter, api: ApiContext) -> None:
    """Add the routes to the router of runs."""
    # The ids of forks can have slashes: the longer paths come first.
    _add_routes_of_one_item(router, api)
    _add_routes_of_many_items(router, api)


def _add_routes_of_one_item(router: APIRouter, api: ApiContext) -> None:
    path = "/forks/{fork:path}/items/{index}"

    @router.get(path + "/value")
    async def value(  # noqa: PLR0917 - as above
        dag_id: str,
        run_id: str,
        fork: str,
        index: int,
        part: Literal["input", "output", "error"],
        branch: Branch = None,
    ) -> StreamingResponse:
        def blocks(answers: ForkAnswers) -> Iterator[bytes]:
            return answers.value(index, part, branch)

        found = await api.answer(dag_id, run_id, fork, blocks)
        return await _download(api, found, f"{fork}-{index}-{part}.json", _JSON)

    @router.get(path)
    async def item(dag_id: str, run_id: str, fork: str, index: int, branch: Branch = None) -> dict[str, Any]:
        return await api.answer(dag_id, run_id, fork, lambda answers: answers.detail(index, branch))


def _add_routes_of_many_items(router: APIRouter, api: ApiContext) -> None:
    @router.get("/forks/{fork:path}/items")
    async def items(
        dag_id: str, run_id: str, fork: str, query: Annotated[ItemQuery, Depends(_item_query)]
    ) -> dict[str, Any]:
        return await api.answer(dag_id, run_id, fork, lambda answers: answers.page(query))

    @router.get("/forks/{fork:path}/rerun")
    async def rerun(  # noqa: PLR0917 - as above
        dag_id: str,
        run_id: str,
        fork: str,
        what: Literal["failed", "kind", "item"] = "failed",
        kind: Kind = None,
        index: Annotated[int | None, Query(ge=0, lt=1 << 53)] = None,
    ) -> dict[str, Any]:
        state = await api.fork(dag_id, run_id, fork)
        read = partial(rerun_view, state, what=what, kind=kind, index=index)
        return await api.store.run(lambda: read(answers_of(state, api.stores)))

    @router.get("/forks/{fork:path}/download")
    async def download(
        dag_id: str, run_id: str, fork: str, show: Literal["all", "failed", "succeeded"] = "all"
    ) -> StreamingResponse:
        found = await api.answer(dag_id, run_id, fork, lambda answers: answers.download(show))
        return await _download(api, found, f"{dag_id}-{fork}-{show}.jsonl", _JSON_LINES)


async def _download(api: ApiContext, blocks: Iterator[bytes], name: str, kind: str) -> StreamingResponse:
    # Names of files can come from a flow: nothing of them can end the header or name a folder.
    safe = _UNSAFE.sub("_", name)[-_MAX_NAME:].lstrip(".")
    headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="{safe}"'}
    return StreamingResponse(await api.stream(blocks), media_type=kind, headers=headers)
