"""Flows that take each other's e-mails, or that watch one queue in two ways."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_allma.flow.diagnostics import Path, Problem, Severity, json_path, quoted
from airflow_allma.flow.event_rules import queue_asset_uri
from airflow_allma.flow.files import FlowSource
from airflow_allma.flow.mail_routes import MailRoute, mail_routes
from airflow_allma.flow.positions import Positions

__all__ = ["without_start_conflicts"]


def without_start_conflicts(
    sources: Iterable[FlowSource], positions: Positions
) -> tuple[tuple[FlowSource, ...], tuple[Problem, ...]]:
    """Return the flows that run, and an error for each that does not, as it conflicts with an earlier one.

    Args:
        sources: one version of each flow, ordered by id; of two flows, the first runs.
        positions: locates what conflicts.
    """
    mail: dict[tuple[str, str | None], tuple[FlowSource, MailRoute]] = {}
    queues: dict[str, tuple[FlowSource, str | None]] = {}
    kept: list[FlowSource] = []
    problems: list[Problem] = []
    for source in sources:
        if source.flow.airflow.watch is None:
            kept.append(source)
            continue
        routes = mail_routes([source.flow])
        problem = _queue_conflict(source, queues, positions) or _mail_conflict(
            source, routes, mail, positions
        )
        if problem is not None:
            problems.append(problem)
            continue
        kept.append(source)
        mail |= {route.key: (source, route) for route in routes}
        queues.setdefault(*_queue(source))
    return tuple(kept), tuple(problems)


def _queue(source: FlowSource) -> tuple[str, tuple[FlowSource, str | None]]:
    options = source.flow.airflow
    url = options.watch.sqs_queue_url if options.watch is not None else ""
    conn_id = options.watch.conn_id if options.watch is not None else None
    return queue_asset_uri(url), (source, conn_id or options.aws_conn_id)


def _queue_conflict(
    source: FlowSource, queues: dict[str, tuple[FlowSource, str | None]], positions: Positions
) -> Problem | None:
    uri, (_, conn_id) = _queue(source)
    owner, other = queues.get(uri, (source, conn_id))
    if other == conn_id:
        return None
    return _problem(
        source,
        ("airflow", "watch"),
        f"flow {quoted(owner.flow.id)} ({owner.file}:{owner.line}) watches this queue with the connection "
        f"{_named(other)}, this one with {_named(conn_id)}; use the same, as a queue has one watcher",
        positions,
    )


def _named(conn_id: str | None) -> str:
    return "of `[allma] aws_conn_id`" if conn_id is None else quoted(conn_id)


def _mail_conflict(
    source: FlowSource,
    routes: Iterable[MailRoute],
    mail: dict[tuple[str, str | None], tuple[FlowSource, MailRoute]],
    positions: Positions,
) -> Problem | None:
    route = next((route for route in routes if route.key in mail), None)
    if route is None:
        return None
    owner, other = mail[route.key]
    what = "without a keyword" if route.keyword is None else f"with the keyword {quoted(route.keyword)}"
    return _problem(
        source,
        ("steps", route.step_id, "emailAddress"),
        f"e-mails to {quoted(route.address)} {what} start step {quoted(other.step_id)} of flow "
        f"{quoted(owner.flow.id)} ({owner.file}:{owner.line}) already; change the keyword or the address, or "
        "remove one of the two",
        positions,
    )


def _problem(source: FlowSource, path: Path, message: str, positions: Positions) -> Problem:
    whole = (*source.path, *path)
    line, column = positions.find(source.file, whole)
    return Problem(source.file, line, column, json_path(whole), message, Severity.ERROR)
