"""Rules for what starts runs besides time: the assets and the queue of a flow's ``airflow`` object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from airflow_allma.common.aws_names import parse_queue_url
from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.secret_names import CONNECTION_ID
from airflow_allma.flow.tree_walk import ANY, select

__all__ = ["QUEUE_SCHEME", "check_events", "queue_asset_uri"]

QUEUE_SCHEME: Final = "sqs"
"""The scheme of the URIs of the assets that stand for queues."""

_QUEUE_FORM: Final = "https://sqs.<region>.amazonaws.com/<account>/<queue>"


def queue_asset_uri(queue_url: str) -> str:
    """Return the URI of the asset that stands for a queue, which is its name too.

    Args:
        queue_url: the URL of a queue, as ``common.aws_names.parse_queue_url`` accepts it.
    """
    _, rest = queue_url.split("://", 1)
    return f"{QUEUE_SCHEME}://{rest}"


def check_events(flow: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield the errors in the assets and the queue of a flow, apart from types and lengths.

    Args:
        flow: the flow, a JSON object.
    """
    options = flow.get("airflow")
    if not isinstance(options, dict):
        return
    for path, uri in select(options, ("schedule", "assets", ANY), ("airflow",)):
        if isinstance(uri, str) and uri:
            yield from _asset(uri, path)
    watch = options.get("watch")
    if isinstance(watch, dict):
        yield from _watch(watch, options)


def _asset(uri: str, path: Path) -> Iterator[Diagnostic]:
    try:
        scheme = urlsplit(uri).scheme
    except ValueError:
        scheme = ""
    if "{{" in uri or not uri.isascii() or not scheme or any(char.isspace() for char in uri):
        yield Diagnostic(
            path,
            f"{quoted(uri)} is not the URI of an asset; write a fixed one in ASCII, `s3://bucket/key`",
        )
    elif scheme == QUEUE_SCHEME:
        yield Diagnostic(
            path, "only `airflow.watch` receives messages; write the queue's URL in its `sqsQueueUrl`"
        )


def _watch(watch: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[Diagnostic]:
    path = ("airflow", "watch")
    if options.get("schedule") is not None:
        yield Diagnostic(
            path,
            "a Dag has one schedule, and the flow has `airflow.schedule` too; remove one of the two, or make "
            "the schedule a SCHEDULE_START_POINT",
        )
    url = watch.get("sqsQueueUrl")
    if isinstance(url, str) and url:
        try:
            parse_queue_url(url)
        except ValueError as error:
            yield Diagnostic((*path, "sqsQueueUrl"), f"{error}; a queue URL is `{_QUEUE_FORM}`")
    conn_id = watch.get("connId")
    if isinstance(conn_id, str) and conn_id and not CONNECTION_ID.fullmatch(conn_id):
        yield Diagnostic((*path, "connId"), f"{quoted(conn_id)} cannot be the id of a connection")
