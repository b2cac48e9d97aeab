"""What Airflow and its database accept of the values that a flow hands to Airflow: one table.

Airflow checks little of it when it reads a Dag. A value that PostgreSQL refuses ends the Dag processor or the
scheduler, and with it all other Dags. SQLite, which ``dag.test()`` uses, refuses hardly anything.

A test compares the table with the columns of the Airflow that is installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

from airflow_allma.common.printable import printable, unprintable
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.steps import StepType
from airflow_allma.flow.tree_walk import Pattern, Scope, select

__all__ = [
    "DESCRIPTION",
    "DISPLAY_NAME",
    "FLOW_LIMITS",
    "FORK_LIMITS",
    "INT_MAX",
    "MAX_ALIAS_LENGTH",
    "MAX_ASSET_LENGTH",
    "MAX_TIMETABLE_LENGTH",
    "NAME",
    "PRIORITY_WEIGHT",
    "START_POINT_LIMITS",
    "STEP_LIMITS",
    "TAG",
    "Effect",
    "Kind",
    "Limit",
    "check_airflow_limits",
    "unstorable",
]

INT_MAX: Final = 2**31 - 1
"""The highest number of an Integer column."""

MAX_ASSET_LENGTH: Final = 1200
"""Characters of an asset's URI, which is its name too. The columns hold 1,500 each, but a row of PostgreSQL's
index over both (``idx_asset_name_uri_unique``) at most 2,704 bytes."""

MAX_ALIAS_LENGTH: Final = 1500
"""Characters of an asset alias's name: ``asset_alias.name``."""

MAX_TIMETABLE_LENGTH: Final = 1000
"""Characters of a timetable's description: ``dag.timetable_description``."""

_MIN_INT64: Final = -(2**63)
_MAX_INT64: Final = 2**63 - 1
"""Numbers beyond cannot be passed between Airflow's processes, which use MessagePack."""

_CENTURY: Final = 36_500 * 24 * 3600
"""Seconds. The scheduler subtracts a run's time limit from now: dates begin at the year 1."""

_LINES: Final = "\n\r\t"


class Kind(StrEnum):
    """What is limited."""

    TEXT = "characters"
    """The length of a string, and which characters it has."""
    NUMBER = "number"
    DATE = "date"
    JSON = "bytes of JSON"
    """The size of a value, and the strings and numbers in it."""


class Effect(StrEnum):
    """What happens to a value beyond the limit."""

    ERROR = "error"
    """The flow does not run: the value identifies something, or is surely wrong."""
    BOUNDED = "bounded"
    """The flow runs, with a warning; Airflow gets a value that it accepts."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of one field.

    Attributes:
        field: the field's path in the flow or the step, with dots; ``*`` is each member.
        kind: what is limited.
        maximum: the highest value, length or size; a date in ISO 8601.
        effect: what happens beyond it.
        columns: ``table.column`` in Airflow's database that gets the value.
        minimum: the lowest value.
        allowed: control characters that a string can have.
    """

    field: str
    kind: Kind
    maximum: Any
    effect: Effect
    columns: tuple[str, ...] = ()
    minimum: Any = None
    allowed: str = ""

    def fit(self, value: Any) -> Any:
        """Return the value that Airflow gets: the value itself if it is within the limit.

        Only for limits with ``Effect.BOUNDED``.
        """
        if self.kind is Kind.NUMBER:
            return max(self.minimum, min(self.maximum, value))
        text = printable(value, self.allowed)
        return text if len(text) <= self.maximum else text[: self.maximum - 3] + "..."


def _key(field: str, maximum: int, *columns: str) -> Limit:
    return Limit(field, Kind.TEXT, maximum, Effect.ERROR, columns)


def _shown(field: str, maximum: int, *columns: str, allowed: str = "") -> Limit:
    return Limit(field, Kind.TEXT, maximum, Effect.BOUNDED, columns, allowed=allowed)


def _number(field: str, maximum: int, *columns: str) -> Limit:
    return Limit(field, Kind.NUMBER, maximum, Effect.ERROR, columns)


NAME: Final = _shown("name", 2000, "dag.dag_display_name")
# MySQL's TEXT has 65,535 bytes, and a character up to four.
DESCRIPTION: Final = _shown("description", 16_000, "dag.description", allowed=_LINES)
TAG: Final = _shown("tags.*", 100, "dag_tag.name")
# A task of a fork adds its role.
DISPLAY_NAME: Final = _shown("displayName", 1900, "task_instance.task_display_name")
# A task counts with the sum of the weights of all tasks downstream of it, which is an Integer.
PRIORITY_WEIGHT: Final = Limit(
    "airflow.priorityWeight",
    Kind.NUMBER,
    100_000,
    Effect.BOUNDED,
    ("task_instance.priority_weight",),
    minimum=-100_000,
)

_POOL_AND_QUEUE: Final = (
    _key("airflow.pool", 256, "task_instance.pool", "slot_pool.pool"),
    _key("airflow.queue", 256, "task_instance.queue"),
    PRIORITY_WEIGHT,
)

FLOW_LIMITS: Final = (
    # The id has rules of its own (``ids.problem_with_id``), as have those of steps and branches.
    NAME,
    DESCRIPTION,
    TAG,
    _number("version", INT_MAX),
    # Task states and runs of MySQL are TIMESTAMPs: 1970-01-01 to 2038-01-19 UTC, and zones differ by a day.
    Limit(
        "airflow.startDate", Kind.DATE, "2037-12-31", Effect.ERROR, ("dag.next_dagrun",), minimum="1970-01-02"
    ),
    # As long as AWS allows.
    Limit("airflow.schedule", Kind.TEXT, 256, Effect.ERROR, ("dag.timetable_summary",), allowed=_LINES),
    _key("airflow.schedule.assets.*", MAX_ASSET_LENGTH, "asset.uri", "asset.name"),
    _key("airflow.watch.sqsQueueUrl", 1024, "asset.uri", "asset.name"),
    _key("airflow.watch.connId", 250, "connection.conn_id"),
    _shown("airflow.dagDisplayName", NAME.maximum, *NAME.columns),
    _shown("airflow.tags.*", TAG.maximum, *TAG.columns),
    _key("airflow.owner", 500, "dag.owners", "log.owner"),
    *_POOL_AND_QUEUE,
    _number("airflow.maxActiveRuns", INT_MAX, "dag.max_active_runs"),
    # ``timedelta`` in the Dag, and the scheduler's arithmetic with it.
    _number("airflow.executionTimeoutSeconds", _CENTURY),
    _number("airflow.runTimeoutSeconds", _CENTURY),
    # Airflow adds it to a date when it creates a run.
    _number("airflow.deadline.seconds", _CENTURY),
    Limit("airflow.deadline.args", Kind.JSON, 65_536, Effect.ERROR, ("deadline_alert.callback_def",)),
    # The schema is a part of each serialized task.
    Limit("airflow.inputSchema", Kind.JSON, 65_536, Effect.ERROR, ("serialized_dag.data", "dag_run.conf")),
    _number("airflow.maxInMemoryItems", INT_MAX, "task_map.length"),
    _number("airflow.maxInMemoryBytes", INT_MAX),
    _number("airflow.maxWaitingTasks", INT_MAX),
    _number("airflow.chunkBytes", 2**40),
    _number("airflow.maxChunks", INT_MAX, "task_map.length"),
    _number("airflow.chunkConcurrency", INT_MAX),
    # A cleared task instance gets as many retries again.
    _number("airflow.lostTaskRetries", 1000, "task_instance.max_tries"),
    # Part of asset URIs and of the keys of objects.
    _key("airflow.offloadLocation", 1000, "asset.uri"),
    _key("airflow.awsConnId", 250, "connection.conn_id"),
)
"""The fields of a flow."""

STEP_LIMITS: Final = (
    DISPLAY_NAME,
    # 24 days; timers take floats, into which not all whole numbers fit.
    _number("delay.*", INT_MAX),
)
"""The fields of every step."""

FORK_LIMITS: Final = (
    *_POOL_AND_QUEUE,
    # ``max_active_tis_per_dagrun`` of the mapped tasks; it has no column, but is passed between processes.
    _number("aggregationConfig.maxConcurrency", INT_MAX),
)
"""The fields of a PARALLEL_FORK_MANAGER, in addition."""

START_POINT_LIMITS: Final = (
    Limit("scheduleExpression", Kind.TEXT, 256, Effect.ERROR, ("dag.timetable_summary",), allowed=_LINES),
)
"""The fields of a SCHEDULE_START_POINT, in addition."""

_ByField = Mapping[str, tuple[tuple[Pattern, Limit], ...]]
"""First key of a path -> the rest of the path, and its limit."""


def _by_field(*limits: Limit) -> _ByField:
    grouped: dict[str, tuple[tuple[Pattern, Limit], ...]] = {}
    for limit in limits:
        first, *rest = limit.field.split(".")
        grouped[first] = (*grouped.get(first, ()), (tuple(rest), limit))
    return grouped


_FLOW: Final = _by_field(*FLOW_LIMITS)
_STEP: Final = _by_field(*STEP_LIMITS)
_BY_STEP_TYPE: Final[Mapping[str, _ByField]] = {
    StepType.PARALLEL_FORK_MANAGER: _by_field(*STEP_LIMITS, *FORK_LIMITS),
    StepType.SCHEDULE_START_POINT: _by_field(*STEP_LIMITS, *START_POINT_LIMITS),
}


def check_airflow_limits(flow: Mapping[str, Any], all_scopes: Sequence[Scope] = ()) -> Iterator[Diagnostic]:
    """Yield the values of a flow that are beyond the limits: errors, or warnings if they are bounded.

    Args:
        flow: the flow's JSON; values of a wrong type are skipped.
        all_scopes: its steps.
    """
    yield from _check(flow, (), _FLOW)
    for scope in all_scopes:
        for located in scope.steps.values():
            yield from _check(located.step, located.path, _BY_STEP_TYPE.get(located.kind, _STEP))


def _check(value: Mapping[str, Any], path: Path, table: _ByField) -> Iterator[Diagnostic]:
    for field in value.keys() & table.keys():
        for pattern, limit in table[field]:
            for match_path, match in select(value[field], pattern, (*path, field)):
                yield from _CHECKS[limit.kind](limit, match, match_path)


def _text(limit: Limit, value: Any, path: Path) -> Iterator[Diagnostic]:
    if not isinstance(value, str):
        return
    char = unprintable(value, limit.allowed)
    is_error = limit.effect is Effect.ERROR
    if is_error and char is not None:
        yield Diagnostic(path, f"must not contain control characters (here U+{ord(char):04X}); remove them")
    elif char is not None:
        yield Diagnostic(
            path,
            f"contains a control character (U+{ord(char):04X}), which Airflow shows as `{printable(char)}`; "
            "remove it",
            Severity.WARNING,
        )
    if len(value) > limit.maximum:
        message = f"can have at most {limit.maximum} characters; this one has {len(value)}"
        if is_error:
            yield Diagnostic(path, message)
        else:
            yield Diagnostic(path, f"{message}, and Airflow shows the first of them", Severity.WARNING)


def _in_range(limit: Limit, value: Any, path: Path) -> Iterator[Diagnostic]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if value > limit.maximum:
        message = f"must be {limit.maximum} or less; {_short(value)} is not"
    elif limit.minimum is not None and value < limit.minimum:
        message = f"must be {limit.minimum} or more; {_short(value)} is not"
    else:
        return
    if limit.effect is Effect.ERROR:
        yield Diagnostic(path, message)
    else:
        yield Diagnostic(path, f"{message}, and Airflow gets {limit.fit(value)}", Severity.WARNING)


def _short(value: float) -> str:
    return str(value)[:40]


def _date(limit: Limit, value: Any, path: Path) -> Iterator[Diagnostic]:
    if not isinstance(value, str):
        return
    try:
        day = datetime.fromisoformat(value).date()
    except ValueError:
        return  # reported by the rules of the field
    if not date.fromisoformat(limit.minimum) <= day <= date.fromisoformat(limit.maximum):
        yield Diagnostic(path, f"must be from {limit.minimum} to {limit.maximum}; {quoted(value)} is not")


def _json(limit: Limit, value: Any, path: Path) -> Iterator[Diagnostic]:
    import msgspec

    if not isinstance(value, dict):
        return
    found = unstorable(value)
    if found is not None:
        where, reason = found
        yield Diagnostic((*path, *where), reason)
    elif (size := len(msgspec.json.encode(value))) > limit.maximum:
        yield Diagnostic(path, f"can have at most {limit.maximum} bytes of JSON; this one has {size}")


_CHECKS: Final = {Kind.TEXT: _text, Kind.NUMBER: _in_range, Kind.DATE: _date, Kind.JSON: _json}


def unstorable(value: Any) -> tuple[Path, str] | None:
    """Return the path of a part that no database stores or no process passes on, and why; None without one.

    Args:
        value: a JSON value.
    """
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, dict):
            for key, member in part.items():
                if isinstance(key, str) and (reason := _bad_text(key)):
                    return (*path, key), f"the key {reason}"
                waiting.append(((*path, key), member))
        elif isinstance(part, list | tuple):
            waiting += [((*path, index), member) for index, member in enumerate(part)]
        elif reason := _bad_scalar(part):
            return path, reason
    return None


def _bad_scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return _bad_text(value)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int) and not _MIN_INT64 <= value <= _MAX_INT64:
        return f"{_short(value)} has more than 64 bits; write a smaller number, or a string"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a number of JSON; write another"
    return None


def _bad_text(text: str) -> str | None:
    if "\x00" in text:
        return "contains U+0000, which PostgreSQL does not store; remove it"
    if text.isascii():
        return None
    char = next((char for char in text if "\ud800" <= char <= "\udfff"), None)
    return None if char is None else f"contains half of a surrogate pair (U+{ord(char):04X}); remove it"
