"""What a flow must keep to beyond its steps and the types of its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.ids import problem_with_id
from airflow_allma.flow.input_schema import check_input_schema
from airflow_allma.flow.models import Flow
from airflow_allma.flow.steps import STEP_MODELS, AggregationConfig, OnError, ParallelBranch, Transition
from airflow_allma.flow.tree_walk import ANY, Scope, branches_of, select
from airflow_allma.flow.values import is_date, is_time_zone

__all__ = ["check_flow_fields", "check_unknown_fields"]

_NO_TARGET = frozenset({"LOG_ONLY", "DATA_SAVE"})


def _fields(model: Any) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())


_FLOW_FIELDS = _fields(Flow)
_STEP_FIELDS = {str(kind): _fields(model) for kind, model in STEP_MODELS.items()}
_BRANCH_FIELDS = _fields(ParallelBranch) | {"icon"}
_PARTS = (
    (("onError",), _fields(OnError)),
    (("transitions", ANY), _fields(Transition)),
    (("aggregationConfig",), _fields(AggregationConfig)),
)


def check_flow_fields(flow: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Everything about the flow itself that its types do not say."""
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
            f"{quoted(zone)} is no known time zone; write an IANA name, `Europe/Berlin`",
        )
    start = options.get("startDate")
    if isinstance(start, str) and not is_date(start):
        yield Diagnostic(
            ("airflow", "startDate"),
            f"{quoted(start)} is no date; write `2026-01-31` or `2026-01-31T06:00:00Z`",
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


def check_unknown_fields(flow: Mapping[str, Any], all_scopes: list[Scope]) -> Iterator[Diagnostic]:
    """Fields that no one reads but whose name is nearly that of one that is read (warnings)."""
    yield from _misspelt(flow, (), _FLOW_FIELDS)
    for scope in all_scopes:
        for place in scope.steps.values():
            known = _STEP_FIELDS.get(place.kind)
            if known is None:
                continue
            yield from _misspelt(place.step, place.path, known)
            for pattern, fields in _PARTS:
                for path, part in select(place.step, pattern, place.path):
                    yield from _misspelt(part, path, fields)
            for path, branch in branches_of(place):
                yield from _misspelt(branch, path, _BRANCH_FIELDS)


def _misspelt(value: Any, path: Path, known: frozenset[str]) -> Iterator[Diagnostic]:
    if not isinstance(value, dict) or value.keys() <= known:
        return
    for field in value.keys() - known:
        guess = nearest(field, known - value.keys())
        if guess is not None:
            yield Diagnostic(
                (*path, field),
                f"nothing reads {quoted(field)}; did you mean {quoted(guess)}?",
                Severity.WARNING,
                at_key=True,
            )
