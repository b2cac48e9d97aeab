"""Rules for what starts runs besides time: the assets and the queue of a flow's ``airflow`` object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from airflow_allma.common.aws_names import parse_queue_url
from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.mail_address import mail_address
from airflow_allma.flow.secret_names import CONNECTION_ID
from airflow_allma.flow.tree_walk import ANY, LocatedStep, select

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


def check_events(flow: Mapping[str, Any], steps: Iterable[LocatedStep] = ()) -> Iterator[Diagnostic]:
    """Yield the errors in the assets, the queue and the e-mail start points of a flow, apart from types.

    Args:
        flow: the flow, a JSON object.
        steps: its own steps, without those of branches.
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
        yield from _mail(flow, watch, [step for step in steps if step.kind == "EMAIL_START_POINT"])


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


def _mail(
    flow: Mapping[str, Any], watch: Mapping[str, Any], points: Sequence[LocatedStep]
) -> Iterator[Diagnostic]:
    most = watch.get("maxMessages")
    if points and isinstance(most, int) and most > 1:
        yield Diagnostic(
            ("airflow", "watch", "maxMessages"),
            "each e-mail starts a run, and the flow has an EMAIL_START_POINT; write 1, or leave it out",
        )
    variables = flow.get("flowVariables")
    seen: set[tuple[str, Any]] = set()
    for point in points:
        written = point.step.get("emailAddress")
        if not isinstance(written, str) or not written:
            continue
        address = mail_address(written, variables if isinstance(variables, dict) else {})
        path = (*point.path, "emailAddress")
        if address is None:
            yield Diagnostic(
                path,
                "the address must be known before a run begins; only `{{flow_variables.name}}` can be in it, "
                "with a variable of this flow that is a string",
            )
            continue
        key = (address, point.step.get("keyword") or None)
        if key in seen:
            yield Diagnostic(
                path, "another start point of this flow has the same address and keyword; change one of them"
            )
        seen.add(key)
