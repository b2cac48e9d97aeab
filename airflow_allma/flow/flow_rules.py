"""Rules for a flow's own fields that their types do not express."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.formats import is_date, is_time_zone
from airflow_allma.flow.ids import problem_with_id
from airflow_allma.flow.input_schema import check_input_schema
from airflow_allma.flow.tree_walk import ANY, select

__all__ = ["check_flow_fields"]

_NO_TARGET = frozenset({"LOG_ONLY", "DATA_SAVE"})


def check_flow_fields(flow: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield the errors in the flow's own fields, apart from their types."""
    flow_id = flow.get("id")
    if isinstance(flow_id, str) and flow_id and (reason := problem_with_id(flow_id)):
        yield Diagnostic(("id",), reason)
    if isinstance(flow.get("steps"), dict) and not flow["steps"]:
        yield Diagnostic(("steps",), "a flow needs at least one step")
    yield from _airflow(flow.get("airflow"))
    for path, action in select(flow, ("onCompletionActions", ANY)):
        if isinstance(action, dict):
            yield from _action(path, action)


def _airflow(options: Any) -> Iterator[Diagnostic]:
    if not isinstance(options, dict):
        return
    yield from check_input_schema(options)
    zone = options.get("timezone")
    if isinstance(zone, str) and not is_time_zone(zone):
        yield Diagnostic(
            ("airflow", "timezone"),
            f"{quoted(zone)} is not a known time zone; write an IANA name, `Europe/Berlin`",
        )
    start = options.get("startDate")
    if isinstance(start, str) and not is_date(start):
        yield Diagnostic(
            ("airflow", "startDate"),
            f"{quoted(start)} is not a date; write `2026-01-31` or `2026-01-31T06:00:00Z`",
        )
    location = options.get("offloadLocation")
    if isinstance(location, str) and location and not location.startswith(("s3://", "file:///")):
        yield Diagnostic(
            ("airflow", "offloadLocation"), "not a location; write `s3://bucket/prefix` or `file:///folder`"
        )


def _action(path: Path, action: Mapping[str, Any]) -> Iterator[Diagnostic]:
    kind = action.get("actionType")
    if not isinstance(kind, str):
        return
    if kind not in _NO_TARGET and not action.get("target"):
        yield Diagnostic((*path, "target"), f"`target` is missing; {kind} needs a URL, an ARN or a queue")
    if kind == "API_CALL" and action.get("apiHttpMethod") is None:
        yield Diagnostic((*path, "apiHttpMethod"), "`apiHttpMethod` is missing; API_CALL needs it")
    if kind == "DATA_SAVE" and not action.get("moduleIdentifier"):
        yield Diagnostic((*path, "moduleIdentifier"), "`moduleIdentifier` is missing; DATA_SAVE needs it")
