"""Rules for a flow's notifications: which notifiers they may name, with which arguments and templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_allma.common.nearest import nearest
from airflow_allma.common.notifiers import notifier_problems
from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.flow.checks import ExpressionReader, FlowChecks
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.tree_walk import ANY, select

__all__ = ["NOTIFICATION_FACTS", "check_notifications"]

NOTIFICATION_FACTS: Final = (
    "dag_id",
    "deadline",
    "error",
    "event",
    "flow_id",
    "flow_version",
    "logical_date",
    "map_index",
    "reason",
    "run_after",
    "run_id",
    "start_date",
    "task_id",
    "try_number",
    "url",
)
"""The names that the arguments of notifiers can read; those without a value at an event are null."""

_PLACES: Final = (("airflow", "notify", ANY), ("airflow", "deadline"))


def check_notifications(flow: Mapping[str, Any], checks: FlowChecks) -> Iterator[Diagnostic]:
    """Yield the problems of a flow's notifications and deadline, apart from types and syntax.

    Args:
        flow: the flow, a JSON object.
        checks: which notifiers are allowed, and what finds the names that expressions read.
    """
    if not isinstance(flow.get("airflow"), Mapping):
        return
    for pattern in _PLACES:
        for path, value in select(flow, pattern):
            if isinstance(value, Mapping):
                yield from _check(value, path, checks)


def _check(value: Mapping[str, Any], path: Path, checks: FlowChecks) -> Iterator[Diagnostic]:
    name, arguments = value.get("notifier"), value.get("args", {})
    if not isinstance(arguments, Mapping):
        return
    if checks.notifiers is not None and isinstance(name, str) and name:
        for field, reason in notifier_problems(name, frozenset(arguments), checks.notifiers):
            yield Diagnostic((*path, *field), reason)
    if checks.reader is not None:
        yield from _unknown_facts(arguments, (*path, "args"), checks.reader)


def _unknown_facts(value: Any, path: Path, reader: ExpressionReader) -> Iterator[Diagnostic]:
    if isinstance(value, Mapping | list):
        for member_path, member in select(value, (ANY,), path):
            yield from _unknown_facts(member, member_path, reader)
        return
    if not isinstance(value, str):
        return
    for fact in dict.fromkeys(_facts_read(value, reader)):
        if fact not in NOTIFICATION_FACTS:
            similar = nearest(fact, NOTIFICATION_FACTS)
            known = f"facts: {', '.join(NOTIFICATION_FACTS)}"
            yield Diagnostic(
                path,
                f"{quoted(fact)} is not a fact of the run and is always empty; "
                f"{f'did you mean {quoted(similar)}?' if similar else known}",
                Severity.WARNING,
            )


def _facts_read(source: str, reader: ExpressionReader) -> Iterator[str]:
    if "{{" not in source and not source.startswith("$."):
        return
    try:
        compiled = reader.template(source) if "{{" in source else reader.path(source)
        references = reader.reads(compiled)
    except ExpressionSyntaxError:
        return  # reported with the expressions
    for reference in references:
        if not reference.in_block:
            yield reference.names[0]
