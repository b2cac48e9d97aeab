"""``airflow-allma rerun``: items of a fork run again in a running Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import typer

from airflow_allma.cli.airflow_server import AirflowServer, Ask, ServerError, ask_server
from airflow_allma.cli.json_options import UsageError
from airflow_allma.common.printable import printable

__all__ = ["rerun_items"]

_REFUSED: Final = range(400, 501)
"""Statuses of answers that Airflow itself gives, not a proxy before it."""
_STAYS: Final = (
    "If the chunks are cleared later, only the selected items run. To prevent that, delete the XCom "
    "allma_rerun of the fork's chunks task."
)


def rerun_items(
    server: AirflowServer,
    dag_id: str,
    run_id: str,
    *,
    fork: str,
    kind: str | None,
    index: int | None,
    dry_run: bool,
) -> int:
    """Print what a rerun will do and, unless it is only a question, let Airflow do it.

    Args:
        server: how to reach Airflow.
        dag_id: the Dag.
        run_id: the run.
        fork: the fork.
        kind: id of a kind of failure, for the items that failed so.
        index: index of one item; without both, all items that failed run.
        dry_run: whether to print only.

    Returns:
        The exit code: 0, 1 if the API server did not answer or refused, 2 if the call is not valid.
    """
    query = {"what": "failed"}
    if kind is not None:
        query = {"what": "kind", "kind": kind}
    elif index is not None:
        query = {"what": "item", "index": str(index)}

    async def work(ask: Ask) -> None:
        if kind is not None and index is not None:
            raise UsageError("Pass --kind or --index, not both")
        run = f"allma/api/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
        plan = await ask("GET", f"{run}/forks/{quote(fork, safe='')}/rerun", query, None)
        if plan["blocked"]:
            raise ServerError(printable(plan["blocked"]))
        sentences = (plan["sentence"], plan["others"], plan["replaced"])
        typer.echo(printable(" ".join(sentence for sentence in sentences if sentence)))
        if dry_run:
            return
        # In this order: a chunk reads the selection as soon as it runs.
        selection: dict[str, Any] | None = plan["selection"]
        if selection is not None:
            await ask(selection["method"], f"api/v2/{selection['path']}", {}, selection["body"])
        path = f"api/v2/dags/{quote(dag_id, safe='')}/clearTaskInstances"
        try:
            cleared = await ask("POST", path, {}, plan["clear"])
        except ServerError as error:
            if plan["undo"] is None:
                raise
            raise ServerError(f"{error}{await _undo(ask, plan['undo'], error)}", error.status) from error
        typer.echo(f"{cleared['total_entries']} task instances cleared.")

    return ask_server(server, work)


async def _undo(ask: Ask, undo: Mapping[str, Any], refusal: ServerError) -> str:
    """Make the selection void; return a sentence if it stays."""
    reason = ""
    # Without an answer of Airflow itself the tasks may have been cleared, and need the selection.
    if refusal.status in _REFUSED:
        try:
            await ask(undo["method"], f"api/v2/{undo['path']}", {}, undo["body"])
        except ServerError as error:
            reason = f" The selection of items could not be removed: {error}."
        else:
            return ""
    return f"{reason} {_STAYS}"
