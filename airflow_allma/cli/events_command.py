"""``airflow-allma events``: what the flows of a running Airflow wait for, and events for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import typer

from airflow_allma.cli.airflow_server import AirflowServer, Ask, ask_server
from airflow_allma.cli.json_options import read_object
from airflow_allma.common.printable import printable

__all__ = ["list_waits", "resume_wait"]

_PAGE: Final = 100
_HEADINGS: Final = ("WAITS SINCE", "UNTIL", "KEY", "DAG", "RUN", "STEP")


def list_waits(server: AirflowServer, *, dag_id: str | None, key: str, as_json: bool) -> int:
    """Print what waits, the longest waits first.

    Returns:
        The exit code: 0, 1 if the API server did not answer or refused, 2 if the call is not valid.
    """

    async def work(ask: Ask) -> None:
        query = {"key": key, "limit": str(_PAGE)} | ({} if dag_id is None else {"dagId": dag_id})
        found: list[dict[str, Any]] = []
        while True:
            page = await ask("GET", "allma/waits", query | {"offset": str(len(found))}, None)
            found += page["waits"]
            if not page["waits"] or len(found) >= page["total"]:
                break
        if as_json:
            typer.echo(json.dumps(found))
        else:
            typer.echo(_table(found) if found else "Nothing waits.")

    return ask_server(server, work)


def resume_wait(server: AirflowServer, key: str, payload: str) -> int:
    """Send an event, and print what became of it.

    Returns:
        The exit code: 0, 1 if the event was refused, 2 if the call is not valid.
    """

    async def work(ask: Ask) -> None:
        body = {"correlationValue": key, "payload": read_object(payload, "--payload")}
        typer.echo(json.dumps(await ask("POST", "allma/resume", {}, body)))

    return ask_server(server, work)


def _table(waits: list[dict[str, Any]]) -> str:
    rows = [_HEADINGS, *(_row(wait) for wait in waits)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(wait: Mapping[str, Any]) -> tuple[str, ...]:
    place = [wait["step"]]
    if wait["branch"] is not None:
        place.append(f"branch {wait['branch']}")
    if wait["item"] is not None:
        place.append(f"item {wait['item']}")
    cells = (wait["key"], wait["dagId"], wait["runId"], ", ".join(place))
    return (_time(wait["since"]), _time(wait["until"]), *(printable(str(cell)) for cell in cells))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
