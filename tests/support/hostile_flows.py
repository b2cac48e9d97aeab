"""Flows that have one extreme value in one field, made from the table of limits and from lists of values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from airflow_allma.flow.airflow_limits import (
    FLOW_LIMITS,
    FORK_LIMITS,
    START_POINT_LIMITS,
    STEP_LIMITS,
    Kind,
    Limit,
)

Json = dict[str, Any]

OWNERS = {
    "flow": FLOW_LIMITS,
    "step": STEP_LIMITS,
    "fork": FORK_LIMITS,
    "start_point": START_POINT_LIMITS,
}
"""What has a field, by the name of its step below -> its limits."""

ROWS = [(owner, limit) for owner, limits in OWNERS.items() for limit in limits]

_BASE: Json = {
    "startStepInstanceId": "step",
    "steps": {
        "step": {"stepType": "NO_OP", "defaultNextStepInstanceId": "fork"},
        "fork": {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.items",
            "parallelBranches": [{"branchId": "b", "stepInstanceId": "inner"}],
        },
        "inner": {"stepType": "NO_OP"},
    },
}
_START_POINT: Json = {
    "stepType": "SCHEDULE_START_POINT",
    "scheduleExpression": "rate(365 days)",
    "enabled": False,
}


def with_value(flow_id: str, owner: str, field: str, value: Any) -> Json:
    """Return a flow with a value in a field, ``a.b``; ``a.*`` is a list of one, or its ``milliseconds``."""
    flow: Json = {"id": flow_id, **deepcopy(_BASE)}
    if owner == "start_point":
        flow["steps"]["start_point"] = dict(_START_POINT)
    at = flow if owner == "flow" else flow["steps"][owner]
    *around, last = field.split(".")
    if last == "*":
        value = {"milliseconds": value} if around == ["delay"] else [value]
        *around, last = around
    for key in around:
        at = at.setdefault(key, {})
    at[last] = value
    return flow


def path_of(owner: str, field: str) -> tuple[str | int, ...]:
    """Return the path of the value that ``with_value`` sets."""
    member: str | int = "milliseconds" if field.startswith("delay") else 0
    inside = tuple(member if key == "*" else key for key in field.split("."))
    return inside if owner == "flow" else ("steps", owner, *inside)


TEXTS: dict[str, str] = {
    "nul": "a\x00b",
    "escape": "\x1b[31mred\r\n::group::x",
    "turned": "a\u202eb",
    "half": "a\ud800b",
    "endless": "x" * 100_000,
    "wide": "\U0001f600" * 3000,
}
NUMBERS: dict[str, int | float] = {
    "int32": 2**31,
    "tera": 2**40,
    "int64": 2**63,
    "uint64": 2**64,
    "huge": 10**300,
    "float": 1.7e308,
    "below": -(2**31) - 1,
}
DATES: dict[str, str] = {
    "first": "0001-01-01",
    "offset": "0001-01-01T00:00:00+23:59",
    "last": "9999-12-31T23:59:59-23:59",
    "epoch": "1970-01-01T00:00:00+14:00",
    "mysql": "2038-01-19T03:14:08",
}
SCHEMAS: dict[str, Json] = {
    "nul-title": {"properties": {"a": {"title": "a\x00"}}},
    "nul-key": {"properties": {"a\x00": {}}},
    "nul-default": {"properties": {"a": {"default": {"b": ["\x00"]}}}},
    "nul-enum": {"properties": {"a": {"enum": ["\x00"]}}},
    "uint64": {"properties": {"a": {"default": 2**64}}},
    "minimum": {"properties": {"a": {"minimum": -(10**30)}}},
    "large": {"properties": {"a": {"description": "x" * 100_000}}},
    "many": {"properties": {f"a{number}": {"type": "string"} for number in range(3000)}},
}
VALUES: dict[Kind, dict[str, Any]] = {
    Kind.TEXT: TEXTS,
    Kind.NUMBER: NUMBERS,
    Kind.DATE: DATES,
    Kind.JSON: SCHEMAS,
}

ELSEWHERE: list[tuple[str, str, str]] = [
    ("flow", "flowVariables.a", "nul"),
    ("flow", "createdAt", "nul"),
    ("flow", "note", "nul"),
    ("flow", "airflow.timezone", "nul"),
    ("flow", "airflow.timezone", "endless"),
    ("step", "stepDefinitionId", "nul"),
    ("step", "moduleIdentifier", "nul"),
    ("step", "checkpoint.label", "nul"),
    ("step", "fill", "nul"),
    ("step", "literals.a", "nul"),
    ("step", "customConfig.a", "nul"),
    ("fork", "itemsPath", "nul"),
    ("fork", "itemLabelPath", "turned"),
    ("fork", "aggregationConfig.customModuleIdentifier", "nul"),
    ("start_point", "timezone", "nul"),
    ("start_point", "payloadTemplate.a", "nul"),
]
"""Fields without a row in the table, which reach Airflow in another form or not at all."""


def hostile_flows() -> Iterator[Json]:
    """Yield flows, each with an id that says what is in it."""
    for owner, limit in ROWS:
        for name, value in VALUES[limit.kind].items():
            yield with_value(_id(owner, limit.field, name), owner, limit.field, value)
        if limit.kind is not Kind.JSON:
            yield with_value(_id(owner, limit.field, "most"), owner, limit.field, beyond(limit))
    for owner, field, name in ELSEWHERE:
        yield with_value(_id(owner, field, name), owner, field, TEXTS[name])
    # The descriptions of these schedules are longer than they are.
    yield with_value("cron-weekdays", "flow", "airflow.schedule", f"0 0 * * {','.join(['3'] * 110)}")
    yield with_value("cron-hours", "flow", "airflow.schedule", f"0 {','.join(['0'] * 110)} * * *")
    yield with_value("many-inputs", "step", "inputMappings", _inputs(5000))


def _inputs(count: int) -> Json:
    return {f"a{number}": f"$.initialContextData.{'k' * 200}{number}" for number in range(count)}


def _id(owner: str, field: str, name: str) -> str:
    return f"hostile-{owner}-{field}-{name}".replace(".*", "").replace(".", "-")


def within(limit: Limit) -> Any:
    """Return the highest value that is fine, or the longest."""
    if limit.kind is Kind.TEXT:
        return "x" * limit.maximum
    return _schema(limit.maximum) if limit.kind is Kind.JSON else limit.maximum


def beyond(limit: Limit) -> Any:
    """Return the lowest value that is too high, or the shortest that is too long."""
    if limit.kind is Kind.TEXT:
        return "x" * (limit.maximum + 1)
    if limit.kind is Kind.DATE:
        return "2038-01-01"
    return _schema(limit.maximum + 1) if limit.kind is Kind.JSON else limit.maximum + 1


def _schema(size: int) -> Json:
    empty = len(json.dumps({"title": ""}, separators=(",", ":")))
    return {"title": "x" * (size - empty)}
