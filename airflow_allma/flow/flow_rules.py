"""Rules for a flow's own fields that their types do not express."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_allma.flow.completion_rules import check_completion_actions
from airflow_allma.flow.diagnostics import Diagnostic, quoted
from airflow_allma.flow.formats import is_date, is_time_zone
from airflow_allma.flow.ids import problem_with_id
from airflow_allma.flow.input_schema import check_input_schema

__all__ = ["check_flow_fields"]


def check_flow_fields(flow: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield the errors in the flow's own fields, apart from their types."""
    flow_id = flow.get("id")
    if isinstance(flow_id, str) and flow_id and (reason := problem_with_id(flow_id)):
        yield Diagnostic(("id",), reason)
    if isinstance(flow.get("steps"), dict) and not flow["steps"]:
        yield Diagnostic(("steps",), "a flow needs at least one step")
    yield from _airflow(flow.get("airflow"))
    yield from check_completion_actions(flow)


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
