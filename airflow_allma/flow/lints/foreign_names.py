"""Names in templates that mean something in Airflow's templates, and nothing here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import quoted
from airflow_allma.flow.expression_fields import Kind
from airflow_allma.flow.lints.lint import FlowView, Read, Warnings, lint, warning
from airflow_allma.flow.secret_names import CONNECTION_FIELDS, secret_name

__all__ = ["connections_and_variables", "names_of_airflow", "names_of_helpers"]

_INSTEAD: Final[Mapping[str, str]] = {
    "dag": "the id of the flow is `{{flowDefinitionId}}`",
    "dag_run": "the run's payload is at the root: `{{name}}`",
    "data_interval_end": "for the time of the run write `{{startTime}}`",
    "data_interval_start": "for the time of the run write `{{startTime}}`",
    "ds": "for the time of the run write `{{startTime}}`",
    "ds_nodash": "for the time of the run write `{{startTime}}`",
    "execution_date": "for the time of the run write `{{startTime}}`",
    "logical_date": "for the time of the run write `{{startTime}}`",
    "macros": "calculate dates with the module `system/date-time-calculator`",
    "params": "the run's payload is at the root: `{{name}}`",
    "run_id": "the id of the run is `{{flowExecutionId}}`",
    "task_instance": "outputs of other steps are in `{{steps_output.<step>}}`",
    "ti": "outputs of other steps are in `{{steps_output.<step>}}`",
    "ts": "for the time of the run write `{{startTime}}`",
    "ts_nodash": "for the time of the run write `{{startTime}}`",
}
"""Name in Airflow's templates -> what to write here."""
_TIME: Final = (
    "for the time of the run write `{{startTime}}`, or use the module `system/date-time-calculator`"
)
_UUID: Final = "use the module `system/generate-uuid`"
_HELPERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("currentDate", "currentTime", "now", "timestamp", "today", "utcnow"), _TIME),
    **dict.fromkeys(("guid", "newGuid", "randomUUID", "uuid", "uuidv4"), _UUID),
}
"""Helpers without arguments in other template languages -> what to use here."""
_WITH_MEMBERS: Final = {
    "dag": frozenset({"dag_id"}),
    "ti": frozenset({"xcom_pull", "run_id", "dag_id", "task_id", "try_number"}),
}
_COMMON: Final = frozenset({"guid", "params", "run_id", "timestamp", "ts", "uuid"})
"""Names that payloads have, too: they are only reported if the flow says what is in its payload."""


@lint(names=("conn", "var"))
def connections_and_variables(view: FlowView) -> Warnings:
    """Yield names that are nearly those of a connection's field or of a Variable."""
    for read in view.reads:
        first, *rest = read.names
        if first not in {"conn", "var"} or len(rest) < 2 or read.expression.kind is not Kind.TEMPLATE:
            continue
        if secret_name(read.names) is not None or _is_set(view, read):
            continue
        written = quoted("{{" + ".".join(read.names) + "}}")
        if first == "var":
            name = ".".join(rest[1:] if rest[0] in {"json", "value"} else rest)
            instead = f"[{name}]" if "." in name else name
            meant = quoted("{{var." + instead + "}}")
            yield warning(read.path, f"{written} is empty unless the payload has it; the Variable is {meant}")
        else:
            meant = quoted("{{conn." + _meant(rest) + "}}")
            yield warning(
                read.path,
                f"{written} is empty unless the payload has it: the fields of a connection are `login`, "
                f"`password`, `host`, `port`, `schema` and `extra.<key>`; write {meant}",
            )


def _meant(names: Sequence[str]) -> str:
    """Return the id and the field of a connection that the names after ``conn`` are nearly."""
    if len(names) > 2 and names[-1] in CONNECTION_FIELDS:
        return f"[{'.'.join(names[:-1])}].{names[-1]}"  # the id has a dot
    field = "extra" if names[1].startswith("extra") else nearest(names[1], CONNECTION_FIELDS) or "password"
    if field == "extra":
        return f"{names[0]}.extra.{'.'.join(names[2:]) or '<key>'}"
    return f"{names[0]}.{field}"


@lint(names=_INSTEAD)
def names_of_airflow(view: FlowView) -> Warnings:
    """Yield names that only Airflow's own (Jinja) templates have."""
    for read in view.reads:
        name = read.names[0]
        if read.expression.kind is not Kind.TEMPLATE or name not in _INSTEAD or _is_set(view, read):
            continue
        if read.path[:1] == ("airflow",):
            continue  # a notifier's arguments have names of their own, whose check says so
        if name in _COMMON and not view.names.payload:
            continue
        if name in _WITH_MEMBERS and not _WITH_MEMBERS[name] & set(read.names[1:2]):
            continue
        yield warning(
            read.path, f"{quoted(name)} is a name of Airflow's templates and is empty here; {_INSTEAD[name]}"
        )


@lint(names=_HELPERS)
def names_of_helpers(view: FlowView) -> Warnings:
    """Yield ``{{now}}`` and ``{{uuid}}``: helpers of other template languages."""
    for read in view.reads:
        name = read.names[0]
        if read.expression.kind is not Kind.TEMPLATE or name not in _HELPERS or read.names[1:]:
            continue
        if _is_set(view, read) or (name in _COMMON and not view.names.payload):
            continue
        yield warning(
            read.path,
            f"{quoted('{{' + name + '}}')} is not a helper but a value, and nothing sets it; "
            f"{_HELPERS[name]}",
        )


def _is_set(view: FlowView, read: Read) -> bool:
    if read.in_block or read.names[0] in view.names.roots:
        return True
    return read.names[0] in view.names.inputs_of(read.step)
